package fleetapi

import (
	"net/url"
	"slices"
	"strings"
)

// Route is one line of the reference of the API.
type Route struct {
	Method, Path string
	Doc          string
	Ours         bool // an addition: the original has no such page
}

// verb is a method of a page.
type verb struct {
	Route
	serve func(*call)
}

// page is a path, and what may be done with it.
type page struct {
	pattern []string // NAME and ID stand for anything
	verbs   []verb
	other   refusal // of any other method
}

type refusal struct {
	status  int
	message string
}

func only(methods string) refusal {
	return refusal{405, "only " + methods + " supported against this resource"}
}

// verbs is the one table of what the API does: routing and the reference page range over
// it. Verbs of one path stand together.
func verbs() []verb {
	return []verb{
		{Route{"GET", "/units", "a page of the units, by name", false}, (*call).listUnits},
		{Route{"GET", "/units/NAME", "one unit", false}, (*call).getUnit},
		{Route{"PUT", "/units/NAME", "create a unit, replace its contents, or set its desired state", false}, (*call).putUnit},
		{Route{"DELETE", "/units/NAME", "destroy a unit", false}, (*call).deleteUnit},
		{Route{"GET", "/units/NAME/why", "why a unit is where it is, or nowhere", true}, (*call).why},
		{Route{"GET", "/units/NAME/status", "what `systemctl status` says of it on its machine", true}, (*call).status},
		{Route{"GET", "/units/NAME/journal", "what it has said", true}, (*call).journal},
		{Route{"POST", "/units/NAME/restart", "have systemd restart it, where it is", true}, (*call).restart},
		{Route{"GET", "/state", "a page of what systemd says about units, by name and machine", false}, (*call).listStates},
		{Route{"GET", "/state/NAME", "the same of one unit: that of the first machine", false}, (*call).getState},
		{Route{"GET", "/machines", "a page of the machines, by ID", false}, (*call).listMachines},
		{Route{"PATCH", "/machines", "change the metadata of machines", false}, (*call).patchMachines},
		{Route{"PUT", "/machines/ID/cordon", "have a machine take nothing new, or give away what it has", true}, (*call).cordon},
		{Route{"DELETE", "/machines/ID/cordon", "end that", true}, (*call).uncordon},
		{Route{"POST", "/plan", "what would move if some units were put", true}, (*call).plan},
		{Route{"POST", "/rebalance", "move units to machines that have fewer", true}, (*call).rebalance},
		{Route{"GET", "/events", "a line for each change, as it happens", true}, (*call).stream},
		{Route{"GET", "/discovery", "this table, for programs", false}, (*call).discovery},
	}
}

// Routes gives the pages of the API, in the order of the reference.
func Routes() []Route {
	var list []Route
	for _, v := range verbs() {
		list = append(list, v.Route)
	}
	return list
}

// pages gathers the verbs of each path, with the original's words for other methods.
func pages() []page {
	var list []page
	for _, v := range verbs() {
		pattern := strings.Split(v.Path[1:], "/")
		if n := len(list); n > 0 && slices.Equal(list[n-1].pattern, pattern) {
			list[n-1].verbs = append(list[n-1].verbs, v)
			continue
		}
		list = append(list, page{pattern: pattern, verbs: []verb{v}})
	}
	for i := range list {
		list[i].other = list[i].otherwise()
	}
	return list
}

func (p page) otherwise() refusal {
	if p.pattern[0] == "discovery" {
		return refusal{400, "only HTTP GET supported against this resource"}
	}
	var methods []string
	for _, v := range p.verbs {
		methods = append(methods, v.Method)
	}
	last := len(methods) - 1
	if last == 0 {
		return only(methods[0])
	}
	return only(strings.Join(methods[:last], ", ") + " and " + methods[last])
}

// table is made once and never changed.
var table = pages()

// names gives what a path has in the places of NAME and ID.
func (p page) names(path []string) (names []string, ok bool) {
	if len(path) != len(p.pattern) {
		return nil, false
	}
	for i, want := range p.pattern {
		switch {
		case want == "NAME" || want == "ID":
			if path[i] == "" {
				return nil, false
			}
			names = append(names, path[i])
		case path[i] != want:
			return nil, false
		}
	}
	return names, true
}

// route serves the page at rest, which is below a base.
func (c *call) route(rest string) {
	path, err := url.PathUnescape(rest)
	if err != nil {
		c.refuse(404, "")
		return
	}
	parts := strings.Split(path, "/")[1:]
	for _, p := range table {
		names, ok := p.names(parts)
		if !ok {
			continue
		}
		for _, v := range p.verbs {
			if v.Method == c.req.Method {
				c.names = names
				c.query, _ = url.ParseQuery(c.req.Query)
				v.serve(c)
				return
			}
		}
		c.refuse(p.other.status, p.other.message)
		return
	}
	c.refuse(404, "")
}
