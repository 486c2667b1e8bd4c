package fleetctl

import (
	"cmp"
	"context"
	"slices"

	"github.com/keelson/keelson/core/client"
)

func listUnits() *verb {
	return &verb{
		name: "list-units", summary: "List what systemd says of the units",
		help:  "List the units that are loaded or launched, once for each machine that has them,\nas systemd there sees them.\n\nFields: unit, machine, active, sub by default; load, hash.",
		flags: listFlags,
		run: func(ctx context.Context, c *call) error {
			columns, err := chosen(c, stateColumns(ctx, c), "unit,machine,active,sub")
			if err != nil {
				return err
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			all, err := c.cluster.States(ctx, client.StateFilter{Details: c.json()})
			if err != nil {
				return refuse("Error retrieving list of units from repository: %w", plain(err))
			}
			slices.SortFunc(all, func(a, b client.UnitState) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.MachineID, b.MachineID))
			})
			if c.json() {
				return c.printJSON(append([]client.UnitState{}, all...))
			}
			return print(c, columns, all)
		},
	}
}

func stateColumns(ctx context.Context, c *call) []column[client.UnitState] {
	return []column[client.UnitState]{
		{"unit", "name", func(s client.UnitState) string { return s.Name }},
		{"machine", "machine and its address", func(s client.UnitState) string { return c.place(ctx, s.MachineID, c.yes("full")) }},
		{"active", "active state", func(s client.UnitState) string { return dash(s.ActiveState) }},
		{"sub", "sub state", func(s client.UnitState) string { return dash(s.SubState) }},
		{"load", "load state", func(s client.UnitState) string { return dash(s.LoadState) }},
		{"hash", "hash of the file", func(s client.UnitState) string { return dash(c.hash(s.Hash)) }},
	}
}

// hash is how a hash is shown.
func (c *call) hash(h string) string {
	const shown = 7
	if c.yes("full") || len(h) <= shown {
		return h
	}
	return h[:shown]
}
