package sched

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/unit"
)

// TestPatternsFitWhatGlobsMatch: the quick ways are those of unit.Match, and a name that
// fits begins with the literal that patterns are found by.
func TestPatternsFitWhatGlobsMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		glob := rapid.StringOfN(rapid.RuneFrom([]rune(`ab@.*?[]^-\/é`)), 0, 8, -1).Draw(t, "glob")
		name := rapid.StringOfN(rapid.RuneFrom([]rune(`ab@.*[\/é`)), 0, 8, -1).Draw(t, "name")
		checkPattern(t, glob, name)
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("web@*.service", "web@1.service")
	f.Add("a[b-d]*", "ac/e")
	f.Add(`\*`, "*")
	f.Add("\xff*", "\xffa")
	f.Fuzz(func(t *testing.T, glob, name string) { checkPattern(t, glob, name) })
}

func checkPattern(t assert.TestingT, glob, name string) {
	p := newPattern(patternKey{glob, false})
	assert.Equal(t, unit.Match(glob, name), p.fits(name), "%q on %q", glob, name)
	if p.fits(name) {
		assert.True(t, strings.HasPrefix(name, p.literal), "%q begins with %q", name, p.literal)
	}
}
