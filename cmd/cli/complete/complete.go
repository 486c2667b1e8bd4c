// Package complete offers the words that may come next on a command line, and the scripts by which shells ask for them.
package complete

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
)

// Word is the hidden first argument after which the words of a command line follow, the
// last being the one that is not finished.
const Word = "__complete"

// Candidate is a word that may come next.
type Candidate struct {
	Word string
	Doc  string // a few words for people; may be empty
}

// Names gives what an argument of a kind may be: UNIT, TEMPLATE or MACHINE, as the usage
// of a command calls it.
type Names func(kind string) []Candidate

// Print writes those candidates that go on from what was typed, one on a line.
func Print(w io.Writer, typed string, list []Candidate) {
	for _, c := range list {
		switch {
		case !strings.HasPrefix(c.Word, typed):
		case c.Doc == "":
			fmt.Fprintln(w, c.Word)
		default:
			fmt.Fprintf(w, "%s\t%s\n", c.Word, c.Doc)
		}
	}
}

// Tree gives the candidates for the last of words, which follow the name of cmd.
func Tree(cmd *cli.Command, words []string, names Names) []Candidate {
	if len(words) == 0 {
		return nil
	}
	last := len(words) - 1
	for i := 0; i < last; i++ {
		switch {
		case takesNext(cmd, words[i]):
			i++
			if i == last {
				return nil // the value of a flag
			}
		case strings.HasPrefix(words[i], "-"):
		default:
			sub := cmd.Command(words[i])
			if sub == nil {
				return arguments(cmd, words[last], names)
			}
			cmd = sub
		}
	}
	return arguments(cmd, words[last], names)
}

// takesNext tells whether the next word is the value of this flag.
func takesNext(cmd *cli.Command, word string) bool {
	if !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return false
	}
	for _, f := range cmd.Flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok && slices.Contains(f.Names(), strings.TrimLeft(word, "-")) {
			return doc.TakesValue()
		}
	}
	return false
}

func arguments(cmd *cli.Command, typed string, names Names) (list []Candidate) {
	if strings.HasPrefix(typed, "-") {
		for _, f := range tool.Flags(cmd) {
			dashes := "--"
			if len(f.Name) == 1 {
				dashes = "-"
			}
			list = append(list, Candidate{dashes + f.Name, f.Usage})
		}
		return list
	}
	for _, sub := range cmd.Commands {
		if !sub.Hidden {
			list = append(list, Candidate{sub.Name, sub.Usage})
		}
	}
	for _, kind := range []string{"UNIT", "TEMPLATE", "MACHINE"} {
		if names != nil && strings.Contains(cmd.ArgsUsage, kind) {
			list = append(list, names(kind)...)
		}
	}
	return list
}
