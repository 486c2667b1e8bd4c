package units

import (
	"context"
	"slices"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/fleetctl"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/unit"
)

// Complete gives the words that may be the last of words, whose first is one of Commands.
func Complete(ctx context.Context, t *tool.Tool, words []string) []complete.Candidate {
	for _, cmd := range Commands() {
		if len(words) > 1 && cmd.Name == words[0] {
			return complete.Tree(cmd, words[1:], func(kind string) []complete.Candidate {
				if kind == "MACHINE" {
					return fleetctl.Complete(ctx, asked(t), []string{"ssh", "--machine", ""})
				}
				list := fleetctl.Complete(ctx, asked(t), []string{"cat", ""})
				return slices.DeleteFunc(list, func(c complete.Candidate) bool {
					return kind == "TEMPLATE" && !unit.Split(c.Word).IsTemplate()
				})
			})
		}
	}
	return nil
}

// asked is the tool with the endpoints of these commands where fleetctl looks for its own.
func asked(t *tool.Tool) *tool.Tool {
	other := *t
	other.Getenv = func(name string) string {
		if name == "FLEETCTL_ENDPOINT" {
			return tool.Endpoints(t)
		}
		return t.Getenv(name)
	}
	return &other
}
