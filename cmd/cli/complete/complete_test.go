package complete

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

func tree() *cli.Command {
	return &cli.Command{
		Flags: []cli.Flag{&cli.StringFlag{Name: "endpoint"}, &cli.BoolFlag{Name: "debug", Aliases: []string{"d"}}},
		Commands: []*cli.Command{
			{Name: "start", ArgsUsage: "UNIT…", Flags: []cli.Flag{&cli.BoolFlag{Name: "no-block", Usage: "do not wait"}}},
			{Name: "drain", ArgsUsage: "MACHINE"},
			{Name: "secret", Hidden: true},
			{Name: "roll", Commands: []*cli.Command{{Name: "scale", ArgsUsage: "TEMPLATE N"}}},
		},
	}
}

func TestTree(t *testing.T) {
	names := func(kind string) []Candidate { return []Candidate{{Word: strings.ToLower(kind)}} }
	for line, want := range map[string]string{
		"":                "start drain roll",
		"st":              "start",
		"start ":          "unit",
		"start --":        "--no-block",
		"start a ":        "unit",
		"drain m":         "machine",
		"roll ":           "scale",
		"roll scale t":    "template",
		"--endpoint x dr": "drain",
		"--endpoint=x dr": "drain",
		"--endpoint ":     "",
		"-d dr":           "drain",
		"--d":             "--debug",
	} {
		words := strings.Split(line, " ")
		var b bytes.Buffer
		Print(&b, words[len(words)-1], Tree(tree(), words, names))
		var got []string
		for l := range strings.Lines(b.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			got = append(got, word)
		}
		assert.Equal(t, want, strings.Join(got, " "), line)
	}
	assert.Nil(t, Tree(tree(), nil, names))
}

// Bash itself reads the script and completes lines, also within words that it parts.
func TestBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		require.NotEqual(t, "true", os.Getenv("CI"), "there is no bash here")
		t.Skip("there is no bash here")
	}
	dir := t.TempDir()
	program := "#!/bin/sh\n[ \"$1\" = " + Word + " ] || exit 9\nshift\nfor w; do last=$w; done\n" +
		"for c in web@1.service web@2.service --fields=unit hello.service; do case $c in \"$last\"*) printf '%s\\tabout it\\n' $c;; esac; done\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fleetctl"), []byte(program), 0o755))
	script, err := Script("bash", "keelson", "fleetctl")
	require.NoError(t, err)
	for _, c := range []struct{ line, want string }{
		{"fleetctl start ", "web@1.service web@2.service --fields=unit hello.service"},
		{"fleetctl start he", "hello.service"},
		{"fleetctl start web@", "1.service 2.service"},
		{"fleetctl start web@2", "2.service"},
		{"fleetctl --fields=u", "unit"},
		{"fleetctl start zzz", ""},
	} {
		text := script + "COMP_WORDBREAKS=$' \\t\\n\"\\'@><=;|&(:'; COMP_LINE='" + c.line + "'; COMP_POINT=${#COMP_LINE}\n_keelson\necho \"${COMPREPLY[@]}\"\n"
		cmd := exec.Command(bash, "--norc", "-c", text)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, c.want, strings.TrimSpace(string(out)), c.line)
	}
}

func TestScripts(t *testing.T) {
	for _, shell := range Shells {
		script, err := Script(shell, "keelson", "fleetctl")
		require.NoError(t, err)
		assert.Contains(t, script, Word)
		assert.Contains(t, script, "fleetctl")
		assert.NotRegexp(t, "%[A-Z]+%", script)
	}
	_, err := Script("tcsh", "keelson")
	assert.EqualError(t, err, `"tcsh": want bash, zsh, fish`)
}
