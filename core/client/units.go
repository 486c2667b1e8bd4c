package client

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/unit"
)

// unitsBase is where the units API lies.
const unitsBase = "/fleet/v1"

// UnitOption is one line of a unit file.
type UnitOption struct {
	Name    string `json:"name"`
	Section string `json:"section"`
	Value   string `json:"value"`
}

// Unit is one unit as the units API tells of it. A current state is missing for global
// units and for servers that do not know it.
type Unit struct {
	CurrentState string       `json:"currentState,omitempty"`
	DesiredState string       `json:"desiredState,omitempty"`
	MachineID    string       `json:"machineID,omitempty"`
	Name         string       `json:"name,omitempty"`
	Options      []UnitOption `json:"options,omitempty"`
	// Why is why it is where it is, or nowhere; only where details were asked for.
	Why *Explanation `json:"why,omitempty"`
}

// File is what the unit holds.
func (u *Unit) File() *unit.File {
	f := &unit.File{}
	for _, o := range u.Options {
		f.Options = append(f.Options, unit.Option{Section: o.Section, Name: o.Name, Value: o.Value})
	}
	return f
}

// UnitOptions is how a file is sent.
func UnitOptions(f *unit.File) (list []UnitOption) {
	for _, o := range f.Options {
		list = append(list, UnitOption{Section: o.Section, Name: o.Name, Value: o.Value})
	}
	return list
}

// Global tells whether the unit is for every machine that may run it.
func (u *Unit) Global() bool {
	p, err := u.File().Placement(u.Name)
	return err == nil && p.Global
}

// UnitState is what systemd on one machine says about one unit.
type UnitState struct {
	Hash        string `json:"hash,omitempty"`
	MachineID   string `json:"machineID,omitempty"`
	Name        string `json:"name,omitempty"`
	ActiveState string `json:"systemdActiveState,omitempty"`
	LoadState   string `json:"systemdLoadState,omitempty"`
	SubState    string `json:"systemdSubState,omitempty"`
	// Result is how its last job ended, or why the agent could not do what was wanted;
	// Modified is another after each change. Both come only where details were asked for.
	Result   string `json:"result,omitempty"`
	Modified uint64 `json:"modifiedIndex,omitempty"`
}

// Machine is a machine that runs units. What follows Metadata comes only where details
// were asked for.
type Machine struct {
	ID        string            `json:"id"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	PrimaryIP string            `json:"primaryIP,omitempty"`
	Capacity  map[string]int64  `json:"capacity,omitempty"`
	Cordon    string            `json:"cordon,omitempty"` // cordoned, draining
	Host      string            `json:"host,omitempty"`
	Version   string            `json:"version,omitempty"`
}

// Explanation is why a unit is where it is, or nowhere.
type Explanation struct {
	Able      int       `json:"able"`
	MachineID string    `json:"machineID,omitempty"`
	Name      string    `json:"name"`
	Refusals  []Refusal `json:"refusals,omitempty"`
	Why       string    `json:"why"`
}

// Refusal is how many machines one reason rules out.
type Refusal struct {
	Machines int    `json:"machines"`
	Reason   string `json:"reason"`
}

// Move is one change of a placement; From and To are machine IDs or empty.
type Move struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	Unit string `json:"unit"`
	Why  string `json:"why"`
}

// Moves is what was decided, or would be, and which units cannot follow.
type Moves struct {
	Moves []Move        `json:"moves,omitempty"`
	Stay  []Explanation `json:"stay,omitempty"`
}

// UnitEvent says what has changed: names of units, of units whose states did, and
// machines. All says that anything may have.
type UnitEvent struct {
	All      bool     `json:"all,omitempty"`
	Index    uint64   `json:"index"`
	Machines []string `json:"machines,omitempty"`
	States   []string `json:"states,omitempty"`
	Units    []string `json:"units,omitempty"`
}

// UnitError is a server's refusal of a units request: nothing was done.
type UnitError struct {
	Status  int
	Message string
}

// Error begins as the original client's library has it, since scripts look for it.
func (e *UnitError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("googleapi: got HTTP response code %d with body: ", e.Status)
	}
	return fmt.Sprintf("googleapi: Error %d: %s", e.Status, e.Message)
}

// ErrNoPage says that the server has no such page: it is the original, or an older one.
var ErrNoPage = errors.New("client: the server knows nothing of this request")

// Units is the side of a cluster that runs units. All errors are a *UnitError where the
// server refused, a *ClusterError where none answered, ErrNoPage, or the context's.
type Units struct{ c *Client }

// Units gives the units side of the cluster.
func (c *Client) Units() *Units { return &Units{c} }

// List gives all units by name. With details each says why it is where it is.
func (u *Units) List(ctx context.Context, details bool) (all []Unit, err error) {
	err = u.pages(ctx, "/units", detailed(details), func(text []byte) (next string, err error) {
		var page struct {
			Units []Unit `json:"units"`
			Next  string `json:"nextPageToken"`
		}
		err = json.Unmarshal(text, &page)
		all = append(all, page.Units...)
		return page.Next, err
	})
	return all, err
}

// Get gives one unit, or nil where there is none.
func (u *Units) Get(ctx context.Context, name string) (*Unit, error) {
	var one Unit
	err := u.do(ctx, &call{method: "GET", path: unitPath(name)}, &one)
	var refused *UnitError
	if errors.As(err, &refused) && refused.Status == 404 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &one, nil
}

// Put creates a unit, replaces its contents, or sets its desired state.
func (u *Units) Put(ctx context.Context, one *Unit) error {
	body := Unit{DesiredState: one.DesiredState, Name: one.Name, Options: one.Options}
	return u.do(ctx, &call{method: "PUT", path: unitPath(one.Name), contentType: contentJSON, body: encoded(body)}, nil)
}

// Delete destroys a unit.
func (u *Units) Delete(ctx context.Context, name string) error {
	return u.do(ctx, &call{method: "DELETE", path: unitPath(name)}, nil)
}

// StateFilter restricts what States gives; empty fields do not.
type StateFilter struct {
	Name, MachineID string
	Details         bool
}

// States gives what systemd says, by unit and then machine.
func (u *Units) States(ctx context.Context, f StateFilter) (all []UnitState, err error) {
	q := detailed(f.Details)
	if f.Name != "" {
		q.Set("unitName", f.Name)
	}
	if f.MachineID != "" {
		q.Set("machineID", f.MachineID)
	}
	err = u.pages(ctx, "/state", q, func(text []byte) (next string, err error) {
		var page struct {
			States []UnitState `json:"states"`
			Next   string      `json:"nextPageToken"`
		}
		err = json.Unmarshal(text, &page)
		all = append(all, page.States...)
		return page.Next, err
	})
	return all, err
}

// Machines gives the machines by ID.
func (u *Units) Machines(ctx context.Context, details bool) (all []Machine, err error) {
	err = u.pages(ctx, "/machines", detailed(details), func(text []byte) (next string, err error) {
		var page struct {
			Machines []Machine `json:"machines"`
			Next     string    `json:"nextPageToken"`
		}
		err = json.Unmarshal(text, &page)
		all = append(all, page.Machines...)
		return page.Next, err
	})
	return all, err
}

// Why explains where a unit is.
func (u *Units) Why(ctx context.Context, name string) (*Explanation, error) {
	var e Explanation
	if err := u.do(ctx, &call{method: "GET", path: unitPath(name) + "/why"}, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// Plan tells what would move if these units were put, and which could run nowhere.
func (u *Units) Plan(ctx context.Context, units []Unit) (*Moves, error) {
	return u.moves(ctx, "POST", "/plan", struct {
		Units []Unit `json:"units"`
	}{units})
}

// Rebalance moves units to machines that have fewer, at most budget of them (0 is no
// bound), or only tells of it.
func (u *Units) Rebalance(ctx context.Context, budget int, dryRun bool) (*Moves, error) {
	return u.moves(ctx, "POST", "/rebalance", struct {
		Budget int  `json:"budget,omitempty"`
		DryRun bool `json:"dryRun,omitempty"`
	}{budget, dryRun})
}

// Cordon has a machine take nothing new and, with drain, give away what it has.
func (u *Units) Cordon(ctx context.Context, machine string, drain bool) (*Moves, error) {
	state := "cordoned"
	if drain {
		state = "draining"
	}
	return u.moves(ctx, "PUT", cordonPath(machine), struct {
		State string `json:"state"`
	}{state})
}

// Uncordon ends what Cordon began.
func (u *Units) Uncordon(ctx context.Context, machine string) error {
	return u.do(ctx, &call{method: "DELETE", path: unitsBase + cordonPath(machine)}, nil)
}

func cordonPath(machine string) string { return "/machines/" + url.PathEscape(machine) + "/cordon" }

// Restart has systemd restart a unit, wherever it is or on one machine, and returns when
// the job is over, with its result; "done" is a good one. It takes as long as within,
// unless that is 0.
func (u *Units) Restart(ctx context.Context, name, machine string, within time.Duration) (result string, err error) {
	var answer struct {
		Result string `json:"result"`
	}
	err = u.do(ctx, &call{method: "POST", path: unitPath(name) + "/restart", query: onMachine(machine).Encode(), within: within}, &answer)
	return answer.Result, err
}

// statusHeader carries the exit status of systemctl status.
const statusHeader = "X-Keelson-Exit-Status"

// Status gives what `systemctl status -l` says of a unit on its machine, or on the one
// named, and its exit status.
func (u *Units) Status(ctx context.Context, name, machine string) (text []byte, code int, err error) {
	a, err := u.send(ctx, &call{method: "GET", path: unitPath(name) + "/status", query: onMachine(machine).Encode()})
	if err != nil {
		return nil, 0, err
	}
	code, err = strconv.Atoi(cmp.Or(a.header[statusHeader], "0"))
	return a.text, code, err
}

// JournalOptions say which lines Journal gives.
type JournalOptions struct {
	MachineID string // for units that are on several
	Lines     int
	Follow    bool
	Output    string
}

// Journal gives what a unit has said. The caller closes it.
func (u *Units) Journal(ctx context.Context, name string, o JournalOptions) (io.ReadCloser, error) {
	q := onMachine(o.MachineID)
	q.Set("lines", strconv.Itoa(o.Lines))
	q.Set("output", o.Output)
	if o.Follow {
		q.Set("follow", "true")
	}
	a, err := u.send(ctx, &call{method: "GET", path: unitPath(name) + "/journal", query: q.Encode(), stream: true})
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

// UnitEvents is a stream of what changes.
type UnitEvents struct {
	body  io.ReadCloser
	lines *bufio.Scanner
}

// Events tells of everything that changes after it has returned, for as long as within,
// where that is not 0.
func (u *Units) Events(ctx context.Context, within time.Duration) (*UnitEvents, error) {
	a, err := u.send(ctx, &call{method: "GET", path: unitsBase + "/events", stream: true, within: within})
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(a.body)
	lines.Buffer(nil, eventBytesMax)
	return &UnitEvents{body: a.body, lines: lines}, nil
}

// eventBytesMax bounds one line of the stream.
const eventBytesMax = 16 << 20

// Next waits for the next change. Any error ends the stream, also that the time is over.
func (e *UnitEvents) Next() (*UnitEvent, error) {
	for e.lines.Scan() {
		if len(e.lines.Bytes()) == 0 {
			continue
		}
		var one UnitEvent
		if err := json.Unmarshal(e.lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("client: a line of the event stream is not JSON: %w", err)
		}
		return &one, nil
	}
	return nil, cmp.Or(e.lines.Err(), io.EOF)
}

// Close ends the stream.
func (e *UnitEvents) Close() error { return e.body.Close() }

func (u *Units) moves(ctx context.Context, method, path string, body any) (*Moves, error) {
	var m Moves
	if err := u.do(ctx, &call{method: method, path: unitsBase + path, contentType: contentJSON, body: encoded(body)}, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

// pagesMax bounds how many pages one list may have, against a server that never ends.
const pagesMax = 100_000

func (u *Units) pages(ctx context.Context, path string, q url.Values, take func(text []byte) (next string, err error)) error {
	for range pagesMax {
		a, err := u.send(ctx, &call{method: "GET", path: unitsBase + path, query: q.Encode()})
		if err != nil {
			return err
		}
		next, err := take(a.text)
		if err != nil {
			return fmt.Errorf("client: answer is not JSON of the units API: %w", err)
		}
		if next == "" {
			return nil
		}
		q.Set("nextPageToken", next)
	}
	return fmt.Errorf("client: the list %s has no end", path)
}

func (u *Units) do(ctx context.Context, q *call, into any) error {
	a, err := u.send(ctx, q)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(a.text, into); err != nil {
		return fmt.Errorf("client: answer is not JSON of the units API: %w", err)
	}
	return nil
}

// send gives an answer that is no refusal.
func (u *Units) send(ctx context.Context, q *call) (*answer, error) {
	a, err := u.c.do(ctx, q)
	if err != nil {
		return nil, unitFault(err)
	}
	if a.status < 300 && (!q.stream || a.body != nil) {
		return a, nil
	}
	return nil, unitRefusal(a)
}

// unitFault gives the server's own words where the only one asked could not answer.
func unitFault(err error) error {
	var cluster *ClusterError
	if !errors.As(err, &cluster) || len(cluster.Errors) != 1 || cluster.Unknown {
		return err
	}
	var refused *UnitError
	if errors.As(cluster.Errors[0], &refused) {
		return refused
	}
	return err
}

func unitRefusal(a *answer) error {
	if e := unitErrorOf(a); e != nil {
		if e.Message == "" && (e.Status == 404 || e.Status == 405) {
			return ErrNoPage
		}
		return e
	}
	if a.status == 404 || a.status == 405 || a.status == statusNotImplemented {
		return ErrNoPage
	}
	return &UnitError{Status: a.status, Message: strings.TrimSpace(string(a.text))}
}

// unitErrorOf decodes an error of the units API; nil if it is none.
func unitErrorOf(a *answer) *UnitError {
	var body struct {
		Error *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(a.text, &body); err != nil || body.Error == nil {
		return nil
	}
	return &UnitError{Status: a.status, Message: body.Error.Message}
}

func unitPath(name string) string { return unitsBase + "/units/" + url.PathEscape(name) }

func detailed(yes bool) url.Values {
	q := url.Values{}
	if yes {
		q.Set("details", "true")
	}
	return q
}

func onMachine(id string) url.Values {
	q := url.Values{}
	if id != "" {
		q.Set("machineID", id)
	}
	return q
}

func encoded(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is made of strings and numbers always encodes
	}
	return string(text)
}
