package unit_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/unit"
)

const hello = `[Unit]
Description=Hello World

[Service]
ExecStart=/bin/bash -c "while true; do echo \"Hello, world\"; sleep 1; done"
`

func parse(t require.TestingT, text string) *unit.File {
	f, err := unit.Parse(text, 0)
	require.NoError(t, err)
	return f
}

func TestHello(t *testing.T) {
	f := parse(t, hello)
	assert.Equal(t, hello, f.String())
	assert.Equal(t, "e55c0aeb44ba0b68004ceb8a200e685194448b45", f.Hash().String())
	assert.Equal(t, "e55c0ae", f.Hash().Short())
	assert.Equal(t, "Hello World", f.Description())
	h, err := unit.ParseHash(f.Hash().String())
	require.NoError(t, err)
	assert.Equal(t, f.Hash(), h)
}

// Each text has this normal form.
func TestNormalForm(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"no section\nA=b\n":            "",
		"\ufeff[S]\nA=b":               "[S]\nA=b\n",
		"A=b\n[S]\nC=d":                "[S]\nC=d\n",
		"text [S]\nA=b":                "[S]\nA=b\n",
		"# [T]\n[S]\nA=b":              "[S]\nA=b\n",
		"[S]\r\nA=b\r\n":               "[S]\nA=b\n",
		"[S]  \n  A  =  b c  \n":       "[S]\nA=b c\n",
		"[S]\n# c\n; d\nA=b # c":       "[S]\nA=b # c\n",
		"[S]\n# c\\\nX=y\nA=b":         "[S]\nA=b\n",
		"[S]\nA=\nA=b":                 "[S]\nA=\nA=b\n",
		"[S]\nA=b=c":                   "[S]\nA=b=c\n",
		"[S]\nA=b \\\n  c\nD=e":        "[S]\nA=b \\\n  c\nD=e\n",
		"[S]\nA=b \\\r\n  c\r\n":       "[S]\nA=b \\\n  c\n",
		"[S]\nA=b \\\n# c\n":           "[S]\nA=b \\\n# c\n",
		"[S]\nA=b\\\n\nC=d":            "[S]\nA=b\\\n\nC=d\n",
		"[S]\nA=b\\":                   "[S]\nA=b\\\n\n",
		"[S]\nA=b\\ \nC=d":             "[S]\nA=b\\ \nC=d\n",
		"[S]\nA=b\n[T]\nC=d\n[S]\nE=f": "[S]\nA=b\nE=f\n\n[T]\nC=d\n",
		"[Empty]\n[S]\nA=b":            "[S]\nA=b\n",
	} {
		f, err := unit.Parse(text, 0)
		if assert.NoError(t, err, "%q", text) {
			assert.Equal(t, want, f.String(), "%q", text)
			assert.Equal(t, want, parse(t, want).String(), "%q", text)
		}
	}
}

func TestRefusedTexts(t *testing.T) {
	for text, want := range map[string]string{
		"[S]\nA=b\nfoo\n":                     "unexpected newline encountered while parsing option name",
		"[S]\nfoo":                            "unexpected newline encountered while parsing option name",
		"[S\nA=b":                             "unable to find end of section",
		"[S] x\nA=b":                          `found garbage after section name S: "x"`,
		"[S]\nA=" + strings.Repeat("x", 2046): "line too long (max 2048 bytes)",
		"[S]\nA=\\\n" + strings.Repeat("x", 2048): "line too long (max 2048 bytes)",
		"[S]\n#" + strings.Repeat("x", 1<<20):     "line too long (max 2048 bytes)",
		"[S]\nA=\xff\n":                           "line 2: not valid UTF-8",
		"[S]\n#\x00\n":                            "line 2: NUL in a unit file",
	} {
		_, err := unit.Parse(text, 0)
		assert.EqualError(t, err, want, "%.40q", text)
	}
	parse(t, "[S]\nA="+strings.Repeat("x", 2045))
	_, err := unit.Parse("[S]\nA="+strings.Repeat("x", 1<<20), 2<<20)
	assert.NoError(t, err, "the limit is a setting")
}

// text draws what looks like a unit file, mistakes included.
func text(t *rapid.T) string {
	piece := rapid.SampledFrom([]string{
		"[S]", "[T]", "[X-Fleet]", "A", "=", "b", " ", "\t", "\n", "\n", "\n", "\r\n", "\\", "\\\n", "#", ";", "[", "]", "\"", "ü", "\u2028", "\v", "\r",
	})
	return "[S]\n" + strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(t, "pieces"), "")
}

// settled checks that the normal form of a file is one.
func settled(t require.TestingT, f *unit.File, lineMax int) {
	again, err := unit.Parse(f.String(), lineMax)
	require.NoError(t, err, "%q", f.String())
	require.Equal(t, f.String(), again.String())
	require.Equal(t, f.Hash(), again.Hash())
	require.Len(t, again.Options, len(f.Options))
	sent, err := unit.FromOptions(f.Options, lineMax)
	require.NoError(t, err)
	require.Equal(t, again.Options, sent.Options)
}

func TestNormalFormIsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lineMax := rapid.SampledFrom([]int{0, 5, 12}).Draw(t, "lineMax")
		if f, err := unit.Parse(text(t), lineMax); err == nil {
			settled(t, f, lineMax)
		}
	})
}

// What is sent option by option is kept as it was sent, or refused.
func TestFromOptions(t *testing.T) {
	word := rapid.StringOf(rapid.SampledFrom([]rune("Ab=[]#; \n\\\r\"")))
	rapid.Check(t, func(t *rapid.T) {
		var options []unit.Option
		for range rapid.IntRange(1, 4).Draw(t, "options") {
			options = append(options, unit.Option{
				Section: rapid.SampledFrom([]string{"S", "T", "S]", ""}).Draw(t, "section"), Name: word.Draw(t, "name"), Value: word.Draw(t, "value"),
			})
		}
		f, err := unit.FromOptions(options, 0)
		if err != nil {
			return
		}
		settled(t, f, 0)
		require.Len(t, f.Options, len(options))
		for _, o := range options {
			values := f.Get(o.Section, strings.TrimSpace(o.Name))
			require.Condition(t, func() bool {
				for _, v := range values {
					if strings.TrimSpace(v) == strings.TrimSpace(o.Value) {
						return true
					}
				}
				return false
			}, "%q of %q", o, f.Options)
		}
	})
	_, err := unit.FromOptions([]unit.Option{{Section: "Service", Name: "ExecStart", Value: "a\nb"}}, 0)
	assert.EqualError(t, err, "unexpected newline encountered while parsing option name")
	_, err = unit.FromOptions([]unit.Option{{Section: "Service", Name: "ExecStart", Value: "a\nb=c"}}, 0)
	assert.EqualError(t, err, `option "ExecStart" of section "Service" cannot be written as a line of a unit file`)
}

func FuzzParse(f *testing.F) {
	f.Add(hello)
	f.Add("[S]\nA=b\\\n\n\n[T]\nC\\=\\\n  d\\ \n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := unit.Parse(text, 0)
		if err != nil {
			return
		}
		settled(t, file, 0)
		_, _ = file.Placement("a@b.service")
		_ = file.Unknown()
	})
}

// What somebody sends must not keep a server busy: the work grows with the size alone, or
// this would not end.
func TestManySectionsAndContinuations(t *testing.T) {
	var many []unit.Option
	for i := range 400_000 {
		many = append(many, unit.Option{Section: "S" + strconv.Itoa(i), Name: "A", Value: "x"})
	}
	long := unit.Option{Section: "Service", Name: "ExecStart", Value: strings.Repeat("x\\\n", 2_000_000) + "y"}
	for _, options := range [][]unit.Option{many, {long}} {
		f, err := unit.FromOptions(options, 0)
		require.NoError(t, err)
		assert.True(t, slices.Equal(options, f.Options))
		assert.NotZero(t, f.Hash())
	}
}
