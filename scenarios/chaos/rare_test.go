package chaos

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/sim"
)

func TestRarePathsAreThoseOfTheSource(t *testing.T) {
	marks := map[string]bool{}
	pattern := regexp.MustCompile(`\.Mark\("([^"]*)"\)`)
	for _, dir := range []string{"../../core", "../../sim", "."} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "envtest") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
				marks[m[1]] = true
			}
			return err
		}))
	}
	for _, p := range RarePaths() {
		assert.Truef(t, marks[p.Name], "nobody marks %q", p.Name)
		delete(marks, p.Name)
	}
	assert.Empty(t, marks, "not in the table of rare paths")
	assert.True(t, slices.IsSortedFunc(RarePaths(), func(a, b RarePath) int { return strings.Compare(a.Name, b.Name) }))
}

func TestMissed(t *testing.T) {
	all := sim.RareReport{Worlds: often, Marks: map[string]uint64{}}
	for _, p := range RarePaths() {
		all.Marks[p.Name] = 1
	}
	must, may := Missed(all)
	assert.Empty(t, must)
	assert.Empty(t, may)
	delete(all.Marks, "wal: torn tail cut")
	delete(all.Marks, "replica: log lost")
	delete(all.Marks, "replica: snapshot applied over a conflicting tail")
	must, may = Missed(all)
	assert.Equal(t, []string{"wal: torn tail cut"}, must)
	assert.Equal(t, []string{"replica: log lost", "replica: snapshot applied over a conflicting tail"}, may)
}
