package fleetctl

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

func TestComplete(t *testing.T) {
	c, f := newConsole()
	c.run("submit", "web@", "hello", "odd")
	c.run("start", "web@1")
	for line, want := range map[string]string{
		"list-u":                        "list-unit-files list-units",
		"start ":                        "hello.service odd.service web@1.service",
		"stop ":                         "web@1.service",
		"cat w":                         "web@.service web@1.service",
		"help sta":                      "start status",
		"list-machines --fields ":       "machine ip metadata",
		"list-machines --fields=i":      "--fields=ip",
		"--driver ":                     "API etcd",
		"start --no":                    "--no-block",
		"list-units --no":               "--no-legend",
		"ssh 1a":                        "1a1a1a1a00000000000000000000aaaa",
		"ssh web@1 ":                    "",
		"ssh --machine 2":               "2b2b2b2b00000000000000000000bbbb",
		"ssh --unit=":                   "--unit=web@1.service",
		"--endpoint=unix://x/y start w": "",
		"bogus ":                        "",
		"submit ":                       "",
	} {
		words := strings.Split(line, " ")
		t.Run(line, func(t *testing.T) {
			var b bytes.Buffer
			tl := &tool.Tool{Err: io.Discard, Getenv: func(string) string { return "" }, Connect: func(tool.Connection) (client.Doer, error) { return f, nil }}
			complete.Print(&b, words[len(words)-1], Complete(context.Background(), tl, words))
			var got []string
			for l := range strings.Lines(b.String()) {
				word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
				got = append(got, word)
			}
			assert.Equal(t, want, strings.Join(got, " "))
		})
	}
	f.down = true
	assert.Empty(t, Complete(context.Background(), &tool.Tool{Err: io.Discard, Getenv: func(string) string { return "" }, Connect: func(tool.Connection) (client.Doer, error) { return f, nil }}, []string{"start", ""}))
}

// Somebody at a terminal sees what a long wait is about, and nothing of it stays.
func TestProgress(t *testing.T) {
	c, f := newConsole()
	f.behaves["web@1.service"] = client.UnitState{ActiveState: "activating", SubState: "start-pre"}
	c.tool = func(t *tool.Tool) { t.Terminal = true }
	r := c.run("start", "web@1", "--block-attempts=3")
	assert.Contains(t, r.err, "\rwaiting 2 s for web@1.service: launched on 1a1a1a1a..., activating start-pre")
	assert.Contains(t, r.err, "\rError waiting for units: Failed to find", "the line is wiped before the next")
}
