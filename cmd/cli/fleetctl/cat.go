package fleetctl

import (
	"context"
	"io"

	"github.com/keelson/keelson/core/client"
)

func catVerb() *verb {
	return &verb{
		name: "cat", args: "UNIT", summary: "Print the contents of a unit",
		help:  "Print the contents of a unit as the cluster has them.",
		flags: []string{"output"},
		run: func(ctx context.Context, c *call) error {
			u, name, err := c.one(ctx, "One unit file must be provided")
			if err != nil {
				return err
			}
			if u == nil {
				return refuse("Unit %s not found", name)
			}
			f := u.File()
			if c.json() {
				return c.printJSON(struct {
					Name    string              `json:"name"`
					Hash    string              `json:"hash"`
					Options []client.UnitOption `json:"options"`
				}{u.Name, f.Hash().String(), u.Options})
			}
			_, err = io.WriteString(c.Out, f.String())
			return err
		},
	}
}
