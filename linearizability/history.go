package linearizability

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/keelson/keelson/core/store"
)

// Kind is what an operation asks for.
type Kind string

// The kinds. Those of writes decide on the same grounds as the API does.
const (
	Get     Kind = "get"
	Set     Kind = "set"
	Create  Kind = "create"
	Update  Kind = "update"
	CAS     Kind = "compareAndSwap"
	CAD     Kind = "compareAndDelete"
	Post    Kind = "post" // a child of Key named by its index
	Delete  Kind = "delete"
	invalid Kind = ""
)

// Never is the Return of an operation whose outcome nobody learned.
const Never = int64(math.MaxInt64)

// Input is what a client asked for.
type Input struct {
	Kind      Kind   `json:"kind"`
	Key       string `json:"key"`
	Value     string `json:"value,omitempty"`
	Dir       bool   `json:"dir,omitempty"`
	Recursive bool   `json:"recursive,omitempty"`
	Refresh   bool   `json:"refresh,omitempty"`
	// Local marks a read that may be stale: it promises only some state that
	// the cluster was once in.
	Local      bool   `json:"local,omitempty"`
	HasTTL     bool   `json:"hasTTL,omitempty"`
	TTLSeconds int64  `json:"ttl,omitempty"`
	PrevValue  string `json:"prevValue,omitempty"`
	PrevIndex  uint64 `json:"prevIndex,omitempty"`
}

// Write says whether the operation may change the store.
func (in *Input) Write() bool { return in.Kind != Get }

func (in Input) String() string {
	s := string(in.Kind) + " " + in.Key
	if in.Write() && in.Kind != Delete && in.Kind != CAD {
		s += fmt.Sprintf("=%q", brief(in.Value))
	}
	for _, f := range []struct {
		on   bool
		text string
	}{
		{in.Dir, " dir"},
		{in.Recursive, " recursive"},
		{in.Refresh, " refresh"},
		{in.Local, " local"},
		{in.HasTTL, fmt.Sprintf(" ttl=%d", in.TTLSeconds)},
		{in.PrevValue != "", fmt.Sprintf(" if=%q", in.PrevValue)},
		{in.PrevIndex != 0, fmt.Sprintf(" ifIndex=%d", in.PrevIndex)},
	} {
		if f.on {
			s += f.text
		}
	}
	return s
}

// Node is a key as an answer showed it.
type Node struct {
	Key      string  `json:"key"`
	Value    string  `json:"value,omitempty"`
	Dir      bool    `json:"dir,omitempty"`
	Created  uint64  `json:"created"`
	Modified uint64  `json:"modified"`
	HasTTL   bool    `json:"hasTTL,omitempty"`
	Nodes    []*Node `json:"nodes,omitempty"`
}

// Output is what a client was told. Code is 0 for success or a code of the API.
// Index is the store index that the answer reported: a write's own, a read's or
// an error's.
type Output struct {
	Code   int    `json:"code,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Action string `json:"action,omitempty"`
	Node   *Node  `json:"node,omitempty"`
	Prev   *Node  `json:"prev,omitempty"`
	Index  uint64 `json:"index"`
}

// Op is one call of one client.
type Op struct {
	Client   int    `json:"client"`
	Endpoint string `json:"endpoint,omitempty"`
	// Call and Return are event sequence numbers; Return is Never where the
	// outcome is unknown.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// InvokedAt and ReturnedAt are nanoseconds of one clock for all clients.
	InvokedAt  int64  `json:"invokedAt"`
	ReturnedAt int64  `json:"returnedAt,omitempty"`
	Unknown    bool   `json:"unknown,omitempty"`
	Input      Input  `json:"input"`
	Output     Output `json:"output"`
}

func (o *Op) String() string {
	s := fmt.Sprintf("client %d [%d,", o.Client, o.Call)
	if o.Unknown {
		return s + "?] " + o.Input.String() + " -> unknown"
	}
	s += fmt.Sprintf("%d] %s -> ", o.Return, o.Input)
	switch {
	case o.Output.Code != 0:
		s += fmt.Sprintf("error %d (%s)", o.Output.Code, o.Output.Cause)
	case o.Output.Node != nil && !o.Input.Write():
		s += fmt.Sprintf("%q@%d", brief(o.Output.Node.Value), o.Output.Node.Modified)
	default:
		s += "ok"
	}
	return s + fmt.Sprintf(" at index %d", o.Output.Index)
}

// Event is one change of the store, as a watch delivered it or as the log of a
// simulated cluster holds it.
type Event struct {
	Index   uint64 `json:"index"`
	Action  string `json:"action"`
	Node    *Node  `json:"node"`
	Prev    *Node  `json:"prev,omitempty"`
	Refresh bool   `json:"refresh,omitempty"`
	// Seq and At say when it was first seen: applied by some node, or delivered.
	Seq int64 `json:"seq"`
	At  int64 `json:"at"`
}

func (e *Event) String() string {
	s := fmt.Sprintf("%s %s", e.Action, e.Node.Key)
	if e.Node.Value != "" {
		s += fmt.Sprintf("=%q", brief(e.Node.Value))
	}
	return s + fmt.Sprintf(" at index %d", e.Index)
}

// Watch is one watch request and what came of it.
type Watch struct {
	Client    int    `json:"client"`
	Endpoint  string `json:"endpoint,omitempty"`
	Key       string `json:"key"`
	Recursive bool   `json:"recursive,omitempty"`
	Stream    bool   `json:"stream,omitempty"`
	// From is the waitIndex asked for; 0 stands for "from now".
	From uint64 `json:"from,omitempty"`
	Call int64  `json:"call"`
	// Accepted is the store index in the answer's head; Open says that there
	// was such an answer.
	Open     bool   `json:"open"`
	Accepted uint64 `json:"accepted"`
	// Code is the error that refused the watch, such as 401, or 0.
	Code   int      `json:"code,omitempty"`
	Index  uint64   `json:"index,omitempty"`
	Events []*Event `json:"events,omitempty"`
	// Live says that the watch was still open when the history ended and had
	// been given time to catch up.
	Live bool `json:"live,omitempty"`
}

func (w *Watch) String() string {
	s := fmt.Sprintf("client %d watch %s", w.Client, w.Key)
	if w.Recursive {
		s += " recursive"
	}
	return s + fmt.Sprintf(" from %d", w.From)
}

// History is everything that was asked and seen.
type History struct {
	Ops     []*Op
	Watches []*Watch
	// Log is every change in index order without a gap, where it is known: in
	// the simulator. Checkers then need no guess about unknown outcomes. Empty
	// for a cluster that is seen from outside.
	Log []*Event
	// Final is the index that the cluster had reached at the end, 0 if unknown.
	Final uint64
	// Lost lists contradictions that the recorder itself saw: two nodes that
	// applied different changes at one index.
	Lost []string
}

// line is one line of a history on disk.
type line struct {
	Op    *Op    `json:"op,omitempty"`
	Watch *Watch `json:"watch,omitempty"`
	Log   *Event `json:"log,omitempty"`
	Lost  string `json:"lost,omitempty"`
	Final uint64 `json:"final,omitempty"`
}

// WriteTo writes the history as JSON lines: one operation, watch or change each.
func (h *History) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	b := bufio.NewWriter(c)
	e := json.NewEncoder(b)
	for _, l := range h.lines() {
		if err := e.Encode(l); err != nil {
			return c.n, fmt.Errorf("write history: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return c.n, fmt.Errorf("write history: %w", err)
	}
	return c.n, nil
}

func (h *History) lines() []line {
	var all []line
	for _, o := range h.Ops {
		all = append(all, line{Op: o})
	}
	for _, w := range h.Watches {
		all = append(all, line{Watch: w})
	}
	for _, e := range h.Log {
		all = append(all, line{Log: e})
	}
	for _, l := range h.Lost {
		all = append(all, line{Lost: l})
	}
	return append(all, line{Final: h.Final})
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// lineMax bounds one line of a history, in bytes: a recursive listing is large.
const lineMax = 64 << 20

// Read reads what WriteTo wrote. An error names the line.
func Read(r io.Reader) (*History, error) {
	h := &History{}
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), lineMax)
	for num := 1; s.Scan(); num++ {
		if len(s.Bytes()) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("history line %d: %w", num, err)
		}
		if err := h.add(&l); err != nil {
			return nil, fmt.Errorf("history line %d: %w", num, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return h, nil
}

func (h *History) add(l *line) error {
	switch {
	case l.Op != nil:
		if l.Op.Input.Kind == invalid || l.Op.Input.Key == "" {
			return fmt.Errorf("operation without kind or key")
		}
		h.Ops = append(h.Ops, l.Op)
	case l.Watch != nil:
		for _, e := range l.Watch.Events {
			if e == nil || e.Node == nil {
				return fmt.Errorf("event without node")
			}
		}
		h.Watches = append(h.Watches, l.Watch)
	case l.Log != nil:
		if l.Log.Node == nil {
			return fmt.Errorf("change without node")
		}
		h.Log = append(h.Log, l.Log)
	case l.Lost != "":
		h.Lost = append(h.Lost, l.Lost)
	default:
		h.Final = l.Final
	}
	return nil
}

// FromStore turns an event of the store into one of a history.
func FromStore(e *store.Event) *Event {
	return &Event{
		Index:   uint64(e.Index),
		Action:  string(e.Action),
		Node:    nodeOf(e.Node),
		Prev:    nodeOf(e.Prev),
		Refresh: e.Refresh,
	}
}

func nodeOf(n *store.Node) *Node {
	if n == nil {
		return nil
	}
	return &Node{
		Key: n.Key, Value: n.Value, Dir: n.Dir,
		Created: uint64(n.Created), Modified: uint64(n.Modified),
		HasTTL: n.Expires != 0,
	}
}
