package fleetctl

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/client"
)

func listUnitFiles() *verb {
	return &verb{
		name: "list-unit-files", summary: "List the units that the cluster knows",
		help:  "List the units that the cluster knows, what is wanted of them and where they are.\nWith -o json each says why it is there, or nowhere.\n\nFields: unit, hash, dstate, state, target by default; desc, global.",
		flags: listFlags,
		run: func(ctx context.Context, c *call) error {
			columns, err := chosen(c, fileColumns(ctx, c), "unit,hash,dstate,state,target")
			if err != nil {
				return err
			}
			if slices.Contains(strings.Split(c.text("fields"), ","), "tmachine") {
				c.warn("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead")
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			all, err := c.cluster.List(ctx, c.json())
			if err != nil {
				return refuse("Error retrieving list of units from repository: %w", plain(err))
			}
			slices.SortFunc(all, func(a, b client.Unit) int { return cmp.Compare(a.Name, b.Name) })
			if c.json() {
				return c.printJSON(described(all))
			}
			return print(c, columns, all)
		},
	}
}

func fileColumns(ctx context.Context, c *call) []column[client.Unit] {
	target := func(u client.Unit) string {
		if u.Global() {
			return "global"
		}
		return c.place(ctx, u.MachineID, c.yes("full"))
	}
	return []column[client.Unit]{
		{"unit", "name", func(u client.Unit) string { return u.Name }},
		{"hash", "hash of the contents", func(u client.Unit) string { return c.hash(u.File().Hash().String()) }},
		{"dstate", "desired state", func(u client.Unit) string { return dash(u.DesiredState) }},
		{"state", "current state", func(u client.Unit) string {
			if u.Global() {
				return "-"
			}
			return dash(u.CurrentState)
		}},
		{"target", "machine and its address, or global", target},
		{"desc", "description", func(u client.Unit) string { return dash(u.File().Description()) }},
		{"global", "whether it runs on all machines", func(u client.Unit) string { return strconv.FormatBool(u.Global()) }},
		{"tmachine", "old name of target", target},
	}
}

// unitJSON is one unit, as -o json shows it.
type unitJSON struct {
	Name         string              `json:"name"`
	Hash         string              `json:"hash"`
	DesiredState string              `json:"desiredState"`
	CurrentState string              `json:"currentState,omitempty"`
	MachineID    string              `json:"machineID,omitempty"`
	Global       bool                `json:"global"`
	Description  string              `json:"description,omitempty"`
	Why          *client.Explanation `json:"why,omitempty"`
}

func described(all []client.Unit) []unitJSON {
	list := []unitJSON{}
	for i := range all {
		u, f := &all[i], all[i].File()
		one := unitJSON{
			Name: u.Name, Hash: f.Hash().String(), DesiredState: u.DesiredState, CurrentState: u.CurrentState,
			MachineID: u.MachineID, Global: u.Global(), Description: f.Description(), Why: u.Why,
		}
		if one.Global {
			one.CurrentState = ""
		}
		list = append(list, one)
	}
	return list
}
