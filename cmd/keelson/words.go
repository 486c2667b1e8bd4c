package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/complete"
	members "github.com/keelson/keelson/cmd/cli/member"
	"github.com/keelson/keelson/cmd/cli/snapshot"
	"github.com/keelson/keelson/cmd/cli/tool"
	unitwords "github.com/keelson/keelson/cmd/cli/units"
	"github.com/keelson/keelson/cmd/cli/waldump"
)

// word is a family of keelson's own commands that run on a tool.Tool, as the original
// tools do.
type word struct {
	name, usage string
	run         func(context.Context, *tool.Tool, []string) int
}

func words() []word {
	list := []word{
		{"member", "list, add, replace and remove members", members.Run},
		{"snapshot", "save, restore and check backups", snapshot.Run},
		{"wal", "look into the log of a member", waldump.Run},
	}
	for _, c := range unitwords.Commands() {
		list = append(list, word{c.Name, c.Usage, unitwords.Run})
	}
	return list
}

// wordNamed gives what runs a command line whose first word is name, nil if there is
// none.
func wordNamed(name string) func(ctx context.Context, args []string) int {
	if name == complete.Word {
		return func(ctx context.Context, args []string) int { return offer(ctx, realTool(), "keelson", args[1:]) }
	}
	for _, w := range words() {
		if w.name != name {
			continue
		}
		return func(ctx context.Context, args []string) int {
			ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop()
			return w.run(ctx, realTool(), args)
		}
	}
	return nil
}

// wordCommands lists the words in keelson's help.
func wordCommands() (list []*cli.Command) {
	for _, w := range words() {
		list = append(list, &cli.Command{Name: w.name, Usage: w.usage})
	}
	return list
}
