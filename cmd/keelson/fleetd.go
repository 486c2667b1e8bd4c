package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// fleetVersion is that of the original whose tools and daemon this program stands for.
const fleetVersion = "1.0.0"

// isFleetd reports whether a name asks for the daemon of the original.
func isFleetd(name string) bool { return name == "fleetd" }

// runFleetd is keelson serve in the words of the original daemon: --config, and a
// version that scripts know.
func runFleetd(ctx context.Context, args []string, out, errOut io.Writer) error {
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, inline := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case name == "version" && !inline:
			_, err := fmt.Fprintf(out, "fleetd version %s\n", fleetVersion)
			return err
		case name == "config" && strings.HasPrefix(args[i], "-") && inline:
			words = append(words, "--fleet-config="+value)
		case name == "config" && strings.HasPrefix(args[i], "-") && i+1 < len(args):
			i++
			words = append(words, "--fleet-config="+args[i])
		default:
			words = append(words, args[i])
		}
	}
	return runServe(ctx, "fleetd", words, false, out, errOut)
}
