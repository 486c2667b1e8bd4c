package unit_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/unit"
)

func TestCheckName(t *testing.T) {
	for name, want := range map[string]string{
		"":                                    "unit name cannot be empty",
		strings.Repeat("a", 249) + ".service": "unit name exceeds maximum length (256)",
		"hello":                               `unit name must contain "."`,
		"hello.":                              `unit name cannot end in "."`,
		"hello.foo":                           `invalid unit type: "foo"`,
		"hello. service":                      `invalid unit type: " service"`,
		"a@b.mount":                           `invalid unit type for template: "mount"`,
		"a b.service":                         `invalid character ' ' in unit name`,
		"a/b.service":                         `invalid character '/' in unit name`,
		"ü.service":                           `invalid character 'ü' in unit name`,
		"@a.service":                          `unit name cannot start in "@"`,
		" @.mount":                            `invalid unit type for template: "mount"`, // the first rule counts
	} {
		assert.EqualError(t, unit.CheckName(name), want, "%q", name)
	}
	for _, name := range []string{
		"hello.service", "a.b.c.socket", `a:-_.\@b.timer`, "foo@.service", "a@b@c.path", "x.busname", "x.snapshot", ".service",
		strings.Repeat("a", 248) + ".service",
	} {
		assert.NoError(t, unit.CheckName(name), name)
	}
	for _, suffix := range unit.Types() {
		assert.NoError(t, unit.CheckName("x."+suffix))
	}
}

func TestMangle(t *testing.T) {
	for arg, want := range map[string]string{
		"hello":                    "hello.service",
		"hello.service":            "hello.service",
		"/home/core/hello.service": "hello.service",
		"examples/hello":           "hello.service",
		"x.target":                 "x.target",
		"x.swap":                   "x.swap",
		"foo.bar":                  "foo.bar.service",
		"web@1":                    "web@1.service",
		"hello_world@*":            "hello_world@*.service",
		"":                         "..service",
	} {
		assert.Equal(t, want, unit.Mangle(arg), "%q", arg)
	}
}

func TestSplit(t *testing.T) {
	assert.Equal(t, unit.Name{Full: "a@b@c.service", Stem: "a@b@c", Prefix: "a", Instance: "b@c", Suffix: "service", At: true}, unit.Split("a@b@c.service"))
	assert.Equal(t, unit.Name{Full: "a.b.socket", Stem: "a.b", Prefix: "a.b", Suffix: "socket"}, unit.Split("a.b.socket"))
	assert.True(t, unit.Split("foo@.service").IsTemplate())
	assert.False(t, unit.Split("foo@.service").IsInstance())
	assert.True(t, unit.Split("foo@bar.service").IsInstance())
	assert.Equal(t, "foo@.service", unit.Split("foo@bar.service").Template())
	assert.Empty(t, unit.Split("foo@.service").Template())
	assert.Empty(t, unit.Split("foo.service").Template())
	assert.True(t, unit.Split("foo@x.y.service").IsInstance())
}

// What Mangle gives of a good name is that name, and a good name goes together again.
func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z@.:\\_-]{0,10}`).Draw(t, "stem") + "." + rapid.SampledFrom(unit.Types()).Draw(t, "suffix")
		if unit.CheckName(name) != nil {
			return
		}
		require.Equal(t, name, unit.Mangle(name))
		n := unit.Split(name)
		stem := n.Prefix
		if n.At {
			stem += "@" + n.Instance
		}
		require.Equal(t, name, stem+"."+n.Suffix)
		require.Equal(t, n.Stem, stem)
	})
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"web@*.service", "web@1.service", true},
		{"web@*", "web@1.service", true},
		{"web", "web.service", false},
		{"w?b.service", "web.service", true},
		{"[a-z]*", "web.service", true},
		{"[^a-z]*", "web.service", false},
		{`web\@*`, "web@1.service", true},
		{"[", "[", false},
		{"", "web.service", false},
	} {
		assert.Equal(t, c.want, unit.Match(c.pattern, c.name), "%s %s", c.pattern, c.name)
	}
}
