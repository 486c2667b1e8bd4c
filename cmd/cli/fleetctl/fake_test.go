package fleetctl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

// fleet is a cluster of three machines behind the original's API. Whatever is wanted
// has come about when somebody has waited.
type fleet struct {
	now      time.Duration
	down     bool
	away     [2]time.Duration // from when until when nobody answers
	units    map[string]*client.Unit
	states   map[string][]client.UnitState
	machines []client.Machine
	pending  map[string]bool
	// behaves is what systemd says of a unit that was started; active/running unless it
	// is set.
	behaves map[string]client.UnitState
	ours    bool // with our pages
	asked   []string
}

func newFleet() *fleet {
	return &fleet{
		units: map[string]*client.Unit{}, states: map[string][]client.UnitState{}, pending: map[string]bool{},
		behaves: map[string]client.UnitState{},
		machines: []client.Machine{
			{ID: "1a1a1a1a00000000000000000000aaaa", PrimaryIP: "10.78.0.11", Metadata: map[string]string{"az": "a", "disk": "ssd", "region": "us-east"}},
			{ID: "2b2b2b2b00000000000000000000bbbb", PrimaryIP: "10.78.0.12", Metadata: map[string]string{"az": "b", "disk": "hdd", "region": "us-east"}},
			{ID: "3c3c3c3c00000000000000000000cccc", PrimaryIP: "10.78.0.13", Metadata: map[string]string{"az": "c", "disk": "ssd", "region": "us-west"}},
		},
	}
}

func (f *fleet) Sleep(ctx context.Context, d time.Duration) error {
	f.now += d
	f.settle()
	return ctx.Err()
}
func (f *fleet) Now() time.Duration { return f.now }
func (f *fleet) Float64() float64   { return 0.5 }

func (f *fleet) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	f.asked = append(f.asked, r.Method+" "+r.Path)
	if f.down || f.now > f.away[0] && f.now < f.away[1] {
		return nil, errors.New("dial unix /var/run/fleet.sock: connect: no such file or directory")
	}
	q, _ := url.ParseQuery(r.Query)
	status, body, header := f.answer(r, strings.TrimPrefix(r.Path, "/fleet/v1"), q)
	return &client.Response{Status: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (f *fleet) answer(r *client.Request, path string, q url.Values) (int, string, map[string]string) {
	name, page, _ := strings.Cut(strings.TrimPrefix(path, "/units/"), "/")
	switch {
	case path == "/machines":
		return page200("machines", f.machines)
	case path == "/state":
		var all []client.UnitState
		for _, n := range sorted(f.states) {
			if q.Get("unitName") == "" || q.Get("unitName") == n {
				all = append(all, f.states[n]...)
			}
		}
		return page200("states", all)
	case path == "/units":
		var all []client.Unit
		for _, n := range sorted(f.units) {
			all = append(all, *f.units[n])
		}
		return page200("units", all)
	case f.ours && page == "status":
		return 200, "● " + name + " on " + q.Get("machineID")[:2] + "\n", map[string]string{"X-Keelson-Exit-Status": "3"}
	case f.ours && page == "journal":
		return 200, name + " lines=" + q.Get("lines") + " follow=" + q.Get("follow") + " output=" + q.Get("output") + "\n", nil
	case path == "/events" || page != "":
		return refusal(404, "")
	case r.Method == "PUT":
		return f.put(name, r.Body)
	case f.units[name] == nil:
		return refusal(404, "unit does not exist")
	case r.Method == "DELETE":
		delete(f.units, name)
		delete(f.states, name)
		return 204, "", nil
	}
	return 200, encode(f.units[name]), nil
}

func (f *fleet) put(name, body string) (int, string, map[string]string) {
	var u client.Unit
	if err := json.Unmarshal([]byte(body), &u); err != nil {
		return refusal(400, "unable to decode body: "+err.Error())
	}
	known := f.units[name]
	switch {
	case known == nil && u.Options == nil:
		return refusal(409, "unit does not exist and options field empty")
	case unit.State(u.DesiredState) != unit.Inactive && unit.Split(name).IsTemplate():
		return refusal(400, fmt.Sprintf("cannot activate template %q", name))
	case known == nil:
		u.CurrentState = "inactive"
		f.units[name] = &u
		return 201, "", nil
	case u.Options != nil && u.File().Hash() != known.File().Hash():
		known.Options, known.DesiredState = u.Options, u.DesiredState
		f.pending[name] = true
		return 201, "", nil
	}
	known.DesiredState = u.DesiredState
	f.pending[name] = true
	return 204, "", nil
}

// settle has the cluster do what is wanted of the units that were changed.
func (f *fleet) settle() {
	for _, name := range sorted(f.pending) {
		delete(f.pending, name)
		u := f.units[name]
		if u == nil {
			continue
		}
		if u.Global() {
			f.states[name] = nil
			for _, m := range f.machines {
				f.states[name] = append(f.states[name], f.state(u, m.ID))
			}
			continue
		}
		f.place(u)
	}
}

func (f *fleet) place(u *client.Unit) {
	if u.DesiredState == "inactive" {
		u.MachineID, u.CurrentState, f.states[u.Name] = "", "inactive", nil
		return
	}
	if u.MachineID == "" {
		for _, m := range f.machines {
			taken := slices.ContainsFunc(sorted(f.units), func(n string) bool {
				p, err := u.File().Placement(u.Name)
				return err == nil && n != u.Name && f.units[n].MachineID == m.ID && slices.ContainsFunc(p.Conflicts, func(c string) bool { return unit.Match(c, n) })
			})
			if !taken {
				u.MachineID = m.ID
				break
			}
		}
	}
	if u.MachineID != "" {
		u.CurrentState = u.DesiredState
		s := f.state(u, u.MachineID)
		if s.LoadState != "loaded" {
			u.CurrentState = "loaded"
		}
		f.states[u.Name] = []client.UnitState{s}
	}
}

func (f *fleet) state(u *client.Unit, machine string) client.UnitState {
	s := client.UnitState{ActiveState: "inactive", SubState: "dead"}
	if u.DesiredState == "launched" {
		s = client.UnitState{ActiveState: "active", SubState: "running"}
		if b, ok := f.behaves[u.Name]; ok {
			s = b
		}
	}
	s.Name, s.MachineID, s.Hash, s.LoadState = u.Name, machine, u.File().Hash().String(), cmp.Or(s.LoadState, "loaded")
	return s
}

func page200(name string, v any) (int, string, map[string]string) {
	text := encode(map[string]any{name: v})
	if strings.HasSuffix(text, ":null}") {
		text = "{}"
	}
	return 200, text, nil
}

func refusal(code int, message string) (int, string, map[string]string) {
	return code, encode(map[string]any{"error": map[string]any{"code": code, "message": message}}), nil
}

func encode(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// console is somebody who types commands.
type console struct {
	doer  client.Doer
	files tool.Memory
	env   map[string]string
	tool  func(*tool.Tool) // changes what a command sees
}

type result struct {
	out, err string
	status   int
}

func (c *console) run(args ...string) result {
	var out, errs bytes.Buffer
	t := &tool.Tool{
		Version: "1.0.0", In: strings.NewReader(""), Out: &out, Err: &errs,
		Getenv:   func(name string) string { return c.env[name] },
		Connect:  func(tool.Connection) (client.Doer, error) { return c.doer, nil },
		ReadFile: func(name string) ([]byte, error) { return tool.Load(c.files, name) },
	}
	if c.tool != nil {
		c.tool(t)
	}
	if f, ok := c.doer.(*fleet); ok {
		f.settle() // it takes people time to type
	}
	status := Run(context.Background(), t, append([]string{"fleetctl"}, args...))
	return result{out.String(), errs.String(), status}
}

// session plays a transcript: lines with $ are typed, what follows is printed: first
// standard output, then, behind 2>, standard error, then the status in brackets.
func (c *console) session(t *testing.T, transcript string) {
	t.Helper()
	for _, step := range strings.Split("\n"+strings.TrimSpace(transcript), "\n$ ")[1:] {
		line, want, _ := strings.Cut(step, "\n")
		r := c.run(words(line)[1:]...)
		got := r.out
		for l := range strings.Lines(r.err) {
			got += "2> " + l
		}
		if r.status != 0 {
			got += fmt.Sprintf("[%d]\n", r.status)
		}
		if want != "" {
			want += "\n"
		}
		require.Equal(t, want, got, line)
	}
}

// words parts a line at blanks outside single quotes.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}
