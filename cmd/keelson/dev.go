package main

import "github.com/urfave/cli/v3"

func devCommand() *cli.Command { return &cli.Command{Name: "dev"} }
