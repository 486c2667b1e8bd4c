package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/fleetctl"
	"github.com/keelson/keelson/cmd/cli/locksmithctl"
	members "github.com/keelson/keelson/cmd/cli/member"
	"github.com/keelson/keelson/cmd/cli/snapshot"
	"github.com/keelson/keelson/cmd/cli/tool"
	unitwords "github.com/keelson/keelson/cmd/cli/units"
	"github.com/keelson/keelson/cmd/cli/waldump"
)

// programs are the names that this binary goes by, to people at a shell.
var programs = []string{"keelson", "etcdctl", "fleetctl", "locksmithctl"}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what a shell needs to complete command lines",
		ArgsUsage: "bash|zsh|fish",
		Description: "For bash: source <(keelson completion bash), or the output as a file of\n" +
			"/etc/bash_completion.d. The original tools of this binary are completed too, and names of\n" +
			"units and machines where the cluster answers at once.",
		Action: func(_ context.Context, c *cli.Command) error {
			script, err := complete.Script(c.Args().First(), programs...)
			if err != nil || c.NArg() != 1 {
				return &usageError{fmt.Errorf("completion: want one of %v", complete.Shells)}
			}
			_, err = io.WriteString(c.Root().Writer, script)
			return err
		},
	}
}

// offer prints what may come next on a command line of a program of this name.
func offer(ctx context.Context, t *tool.Tool, name string, words []string) int {
	if len(words) > 0 {
		complete.Print(t.Out, words[len(words)-1], candidates(ctx, t, name, words))
	}
	return 0
}

func candidates(ctx context.Context, t *tool.Tool, name string, words []string) []complete.Candidate {
	switch name {
	case "etcdctl":
		return complete.Tree(etcdctl.Command(t), words, nil)
	case "fleetctl":
		return fleetctl.Complete(ctx, t, words)
	case "locksmithctl":
		return locksmithctl.Complete(t, words)
	}
	if len(words) == 1 {
		list := complete.Tree(root(t.In, t.Out, t.Err), words, nil)
		for _, p := range programs[1:] {
			list = append(list, complete.Candidate{Word: p, Doc: "the original tool of that name"})
		}
		return list
	}
	switch first := words[0]; first {
	case "etcdctl", "fleetctl", "locksmithctl":
		return candidates(ctx, t, first, words[1:])
	case "member":
		return complete.Tree(members.Command(), words[1:], nil)
	case "snapshot":
		return complete.Tree(snapshot.Command(), words[1:], nil)
	case "wal":
		return complete.Tree(waldump.Command(), words[1:], nil)
	case "completion":
		var list []complete.Candidate
		for _, s := range complete.Shells {
			list = append(list, complete.Candidate{Word: s})
		}
		return list
	}
	if list := unitwords.Complete(ctx, t, words); list != nil {
		return list
	}
	return complete.Tree(root(t.In, t.Out, t.Err), words, nil)
}
