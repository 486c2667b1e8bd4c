package main

import "github.com/urfave/cli/v3"

// moreCommands are the commands that need neither a server nor a cluster.
func moreCommands() []*cli.Command {
	return append(wordCommands(), simCommand(), caCommand(), joinCommand(), discoveryCommand(), completionCommand())
}
