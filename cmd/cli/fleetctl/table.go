package fleetctl

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
)

// column is one field of a list.
type column[T any] struct {
	name string
	doc  string
	show func(row T) string
}

// chosen gives the columns of --fields, or those of the default.
func chosen[T any](c *call, all []column[T], byDefault string) (list []column[T], err error) {
	names := byDefault
	if c.given("fields") {
		names = c.text("fields")
	}
	if names == "" {
		return nil, refuse("Must define output format")
	}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, col := range all {
			if col.name == name {
				list, found = append(list, col), true
			}
		}
		if !found {
			return nil, refuse("Invalid key in output format: %q", name)
		}
	}
	return list, nil
}

// print writes rows in columns at stops of 8.
func print[T any](c *call, columns []column[T], rows []T) error {
	w := tabwriter.NewWriter(c.Out, 0, 8, 1, '\t', 0)
	if !c.yes("no-legend") {
		fmt.Fprintln(w, joined(columns, func(col column[T]) string { return strings.ToUpper(col.name) }))
	}
	for _, row := range rows {
		fmt.Fprintln(w, joined(columns, func(col column[T]) string { return col.show(row) }))
	}
	return w.Flush()
}

func joined[T any](columns []column[T], text func(column[T]) string) string {
	cells := make([]string, len(columns))
	for i, col := range columns {
		cells[i] = text(col)
	}
	return strings.Join(cells, "\t")
}

func (c *call) printJSON(v any) error {
	e := json.NewEncoder(c.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listFlags are those of the lists.
var listFlags = []string{"fields", "full", "no-legend", "output"}
