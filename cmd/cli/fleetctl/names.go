package fleetctl

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

// target is one unit that a command is about.
type target struct {
	name string
	file string // where its contents may be on this machine
	none bool   // the name is a pattern that fits nothing
}

// targets gives the units of the arguments: names, paths of files, or patterns that stand
// for the units that the cluster knows and keep wants. A pattern that fits none is left
// as it is.
func (c *call) targets(ctx context.Context, keep func(u *client.Unit) bool) (list []target, err error) {
	var known []client.Unit
	for _, arg := range c.args {
		name := unit.Mangle(arg)
		file := path.Join(path.Dir(arg), name)
		if !strings.ContainsAny(arg, "*?[") || c.exists(file) {
			list = append(list, target{name: name, file: file})
			continue
		}
		if known == nil {
			if known, err = c.cluster.List(ctx, false); err != nil {
				return nil, refuse("Error retrieving list of units from repository: %w", plain(err))
			}
		}
		found := fitting(known, name, keep)
		if found == nil {
			list = append(list, target{name: name, file: file, none: true})
		}
		for _, n := range found {
			list = append(list, target{name: n, file: path.Join(path.Dir(arg), n)})
		}
	}
	return once(list), nil
}

func fitting(known []client.Unit, pattern string, keep func(u *client.Unit) bool) (names []string) {
	for i := range known {
		if u := &known[i]; unit.Match(pattern, u.Name) && keep(u) {
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	return names
}

// get gives the unit of a target, nil where the cluster knows none.
func (c *call) get(ctx context.Context, t target) (*client.Unit, error) {
	if t.none {
		return nil, nil
	}
	return c.cluster.Get(ctx, t.name)
}

// once leaves out what was named before.
func once(list []target) (some []target) {
	seen := map[string]bool{}
	for _, t := range list {
		if !seen[t.name] {
			seen[t.name] = true
			some = append(some, t)
		}
	}
	return some
}

// every keeps every unit.
func every(*client.Unit) bool { return true }

// runnable keeps the units that can be on a machine.
func runnable(u *client.Unit) bool { return !unit.Split(u.Name).IsTemplate() }

// placed keeps the units that are on a machine.
func placed(u *client.Unit) bool {
	return runnable(u) && (u.Global() || unit.State(u.CurrentState) != unit.Inactive)
}

func (c *call) exists(name string) bool {
	if c.ReadFile == nil {
		return false
	}
	_, err := c.ReadFile(name)
	return err == nil
}

// one gives the only unit of a command that is about one.
func (c *call) one(ctx context.Context, none string) (*client.Unit, string, error) {
	if len(c.args) != 1 {
		return nil, "", refuse("%s", none)
	}
	if err := c.connect(ctx); err != nil {
		return nil, "", err
	}
	list, err := c.targets(ctx, every)
	if err != nil {
		return nil, "", err
	}
	if len(list) != 1 {
		return nil, "", refuse("%s", none)
	}
	u, err := c.get(ctx, list[0])
	if err != nil {
		return nil, "", refuse("Error retrieving Unit %s: %w", list[0].name, plain(err))
	}
	return u, list[0].name, nil
}
