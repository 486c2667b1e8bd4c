package fleetctl

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// completeMax bounds how long a shell waits for names.
const completeMax = "1"

// Complete gives the words that may be the last of words, which follow the program's
// name. Units and machines are those of the cluster, if it answers at once.
func Complete(ctx context.Context, t *tool.Tool, words []string) []complete.Candidate {
	if len(words) == 0 {
		return nil
	}
	typed := words[len(words)-1]
	before, f := pending(words[:len(words)-1])
	l, err := parse(before, t.Getenv)
	if err != nil {
		return nil
	}
	c := &call{Tool: t, line: l, shown: &progress{}}
	defer c.close()
	switch {
	case f != nil:
		return c.flagValues(ctx, f, "")
	case strings.HasPrefix(typed, "-"):
		name, _, given := strings.Cut(typed, "=")
		if f := flagNamed(strings.TrimLeft(name, "-")); f != nil && given {
			return c.flagValues(ctx, f, name+"=")
		}
		return c.flagNames()
	case l.verb == nil:
		return verbNames()
	}
	return c.argumentNames(ctx)
}

// pending takes off a flag at the end whose value comes next.
func pending(words []string) ([]string, *flag) {
	if len(words) == 0 {
		return words, nil
	}
	last := words[len(words)-1]
	f := flagNamed(strings.TrimLeft(last, "-"))
	if !isFlag(last) || f == nil || f.kind == switched {
		return words, nil
	}
	return words[:len(words)-1], f
}

func verbNames() (list []complete.Candidate) {
	for _, v := range verbs() {
		list = append(list, complete.Candidate{Word: v.name, Doc: v.summary})
	}
	return list
}

func (c *call) flagNames() (list []complete.Candidate) {
	for i := range flags {
		f := &flags[i]
		if !f.old && (f.global || c.verb == nil || slices.Contains(c.verb.flags, f.name)) {
			list = append(list, complete.Candidate{Word: "--" + f.name, Doc: f.usage()})
		}
	}
	return list
}

// values gives what a flag may be, each behind prefix.
func (c *call) flagValues(ctx context.Context, f *flag, prefix string) (list []complete.Candidate) {
	switch f.name {
	case "driver":
		list = []complete.Candidate{{Word: "API"}, {Word: "etcd"}}
	case "output":
		list = []complete.Candidate{{Word: "json"}}
	case "fields":
		list = c.fieldNames(ctx)
	case "machine":
		list = c.machineNames(ctx)
	case "unit":
		list = c.unitNames(ctx, placed)
	}
	for i := range list {
		list[i].Word = prefix + list[i].Word
	}
	return list
}

func (c *call) fieldNames(ctx context.Context) []complete.Candidate {
	if c.verb == nil {
		return nil
	}
	switch c.verb.name {
	case "list-machines":
		return named(machineColumns(false))
	case "list-units":
		return named(stateColumns(ctx, c))
	case "list-unit-files":
		return named(fileColumns(ctx, c))
	}
	return nil
}

func named[T any](columns []column[T]) (list []complete.Candidate) {
	for _, col := range columns {
		list = append(list, complete.Candidate{Word: col.name, Doc: col.doc})
	}
	return list
}

func (c *call) argumentNames(ctx context.Context) []complete.Candidate {
	switch c.verb.name {
	case "help":
		return verbNames()
	case "load", "start":
		return c.unitNames(ctx, runnable)
	case "stop", "unload", "restart", "status", "journal":
		return c.unitNames(ctx, placed)
	case "cat", "destroy":
		return c.unitNames(ctx, every)
	case "ssh":
		if len(c.args) == 0 {
			return append(c.machineNames(ctx), c.unitNames(ctx, placed)...)
		}
	}
	return nil
}

// quick connects for names only.
func (c *call) quick(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	if c.cluster != nil {
		return ctx, func() {}, true
	}
	if c.text("tunnel") != "" {
		return nil, nil, false // somebody might have to be asked
	}
	c.line.values["request-timeout"] = completeMax
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	return ctx, cancel, c.connect(ctx) == nil
}

func (c *call) unitNames(ctx context.Context, keep keeper) (list []complete.Candidate) {
	ctx, cancel, ok := c.quick(ctx)
	if !ok {
		return nil
	}
	defer cancel()
	all, err := c.cluster.List(ctx, false)
	if err != nil {
		return nil
	}
	for i := range all {
		if u := &all[i]; keep(u) {
			list = append(list, complete.Candidate{Word: u.Name, Doc: u.File().Description()})
		}
	}
	return list
}

func (c *call) machineNames(ctx context.Context) (list []complete.Candidate) {
	ctx, cancel, ok := c.quick(ctx)
	if !ok {
		return nil
	}
	defer cancel()
	all, err := c.cluster.Machines(ctx, true)
	if err != nil {
		return nil
	}
	return Machines(all)
}

// Machines offers machines by their IDs.
func Machines(all []client.Machine) (list []complete.Candidate) {
	for _, m := range all {
		list = append(list, complete.Candidate{Word: m.ID, Doc: strings.TrimSpace(m.Host + " " + m.PrimaryIP + " " + pairs(m.Metadata))})
	}
	return list
}
