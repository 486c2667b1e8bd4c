package locksmithctl

import (
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/tool"
)

// Complete gives the words that may be the last of words, which follow the program's
// name.
func Complete(t *tool.Tool, words []string) (list []complete.Candidate) {
	typed := words[len(words)-1]
	if slices.ContainsFunc(words[:len(words)-1], func(w string) bool { return find(w) != nil }) {
		return nil
	}
	if strings.HasPrefix(typed, "-") {
		var o options
		quiet := *t
		quiet.Err = io.Discard
		o.flagSet(&quiet).VisitAll(func(f *flag.Flag) {
			list = append(list, complete.Candidate{Word: "-" + f.Name, Doc: f.Usage})
		})
		return list
	}
	for _, v := range verbs() {
		list = append(list, complete.Candidate{Word: v.name, Doc: v.summary})
	}
	return list
}
