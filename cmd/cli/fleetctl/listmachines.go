package fleetctl

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/client"
)

func listMachines() *verb {
	return &verb{
		name: "list-machines", summary: "List the machines of the cluster",
		help: "List the machines that are alive, by ID.\n\nFields, in the order of the default: machine, ip, metadata.", flags: listFlags,
		run: func(ctx context.Context, c *call) error {
			columns, err := chosen(c, machineColumns(c.yes("full")), "machine,ip,metadata")
			if err != nil {
				return err
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			all, err := c.cluster.Machines(ctx, c.json())
			if err != nil {
				return noMachines(err)
			}
			slices.SortFunc(all, func(a, b client.Machine) int { return cmp.Compare(a.ID, b.ID) })
			if c.json() {
				return c.printJSON(append([]client.Machine{}, all...))
			}
			return print(c, columns, all)
		},
	}
}

func noMachines(err error) error {
	return refuse("Error retrieving list of active machines from fleet API (%w)\nPossible issues:\n"+
		" 1) nothing serves the units API at that endpoint: name another with --endpoint, or look at the daemon there\n"+
		" 2) the daemon there has not reached the cluster: see its log", plain(err))
}

func machineColumns(full bool) []column[client.Machine] {
	return []column[client.Machine]{
		{"machine", "ID", func(m client.Machine) string {
			if full {
				return m.ID
			}
			return client.ShortID(m.ID)
		}},
		{"ip", "address", func(m client.Machine) string { return dash(m.PrimaryIP) }},
		{"metadata", "metadata, by key", func(m client.Machine) string { return dash(pairs(m.Metadata)) }},
	}
}

func pairs(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, ",")
}
