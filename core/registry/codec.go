package registry

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// The documents are written as the original writes them, byte for byte, with members of
// our own at the end. They are read as it reads them: members in any order and case,
// unknown ones passed over. What is no document is an error, never a panic.

// encode writes a document.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // the types below always encode
		panic(err)
	}
	return string(text)
}

// decode reads a document into v. Null, which encoding/json takes for anything, is none.
func decode(what, text string, v any) error {
	switch err := json.Unmarshal([]byte(text), v); {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case strings.TrimSpace(text) == "null":
		return fmt.Errorf("%s: null is none", what)
	}
	return nil
}

// objectText is job/NAME/object. An array of bytes encodes as numbers, as the original's
// does.
type objectText struct {
	Name     string
	UnitHash unit.Hash
}

// EncodeObject writes job/NAME/object.
func EncodeObject(name string, h unit.Hash) string { return encode(objectText{name, h}) }

// DecodeObject reads job/NAME/object.
func DecodeObject(text string) (name string, h unit.Hash, err error) {
	var o struct {
		Name     string
		UnitHash []byte // of numbers, or of text in base64
	}
	if err := decode("unit", text, &o); err != nil {
		return "", h, err
	}
	if len(o.UnitHash) != len(h) {
		return "", h, fmt.Errorf("unit: a hash of %d numbers, want %d", len(o.UnitHash), len(h))
	}
	return o.Name, unit.Hash(o.UnitHash), nil
}

type contentsText struct{ Raw string }

// EncodeContents writes unit/SHA1.
func EncodeContents(raw string) string { return encode(contentsText{raw}) }

// DecodeContents reads unit/SHA1.
func DecodeContents(text string) (raw string, err error) {
	var c contentsText
	err = decode("contents", text, &c)
	return c.Raw, err
}

// contentsHash reads the last element of unit/SHA1.
func contentsHash(name string) (h unit.Hash, err error) {
	p, err := hex.DecodeString(name)
	if err != nil || len(p) != len(h) || hex.EncodeToString(p) != name {
		return h, fmt.Errorf("contents: %.100q is no SHA-1 in lower-case hex", name)
	}
	return unit.Hash(p), nil
}

type stateText struct {
	LoadState    string       `json:"loadState"`
	ActiveState  string       `json:"activeState"`
	SubState     string       `json:"subState"`
	MachineState *machineOnly `json:"machineState"`
	UnitHash     string       `json:"unitHash"`
	Result       string       `json:"result,omitempty"`
}

type machineOnly struct{ ID string }

// EncodeState writes states/NAME/MACHINE.
func EncodeState(s *UnitState) string {
	return encode(stateText{s.Load, s.Active, s.Sub, &machineOnly{s.MachineID}, s.Hash, s.Result})
}

// DecodeState reads states/NAME/MACHINE. The name, and the machine where the document
// names none, are those of the key.
func DecodeState(name, machine, text string) (*UnitState, error) {
	var t stateText
	if err := decode("state", text, &t); err != nil {
		return nil, err
	}
	if t.MachineState != nil && t.MachineState.ID != "" && t.MachineState.ID != machine {
		return nil, fmt.Errorf("state: that of machine %.100q at the key of %q", t.MachineState.ID, machine)
	}
	return &UnitState{
		Name: name, MachineID: machine, Load: t.LoadState, Active: t.ActiveState, Sub: t.SubState,
		Hash: t.UnitHash, Result: t.Result,
	}, nil
}

type machineText struct {
	ID           string
	PublicIP     string
	Metadata     map[string]string
	Capabilities map[string]bool
	Version      string
	Host         string           `json:",omitempty"`
	API          string           `json:",omitempty"`
	Instance     string           `json:",omitempty"`
	Boot         string           `json:",omitempty"`
	Capacity     map[string]int64 `json:",omitempty"`
}

// disableEngine is the original's word for a machine that never leads.
const disableEngine = "DISABLE_ENGINE"

// EncodeMachine writes machines/ID/object.
func EncodeMachine(m *Machine) string {
	t := machineText{
		ID: m.ID, PublicIP: m.PublicIP, Metadata: m.Metadata,
		Capabilities: map[string]bool{disableEngine: !m.Engine, "GRPC": false}, Version: m.Version,
		Host: m.Host, API: m.API, Instance: m.Instance, Boot: m.Boot,
	}
	if t.Metadata == nil {
		t.Metadata = map[string]string{}
	}
	for _, q := range m.Capacity {
		if t.Capacity == nil {
			t.Capacity = map[string]int64{}
		}
		t.Capacity[q.Name] = q.Amount
	}
	return encode(t)
}

// DecodeMachine reads machines/ID/object. What else a machine has, the key and other keys
// tell.
func DecodeMachine(id, text string) (*Machine, error) {
	var t machineText
	if err := decode("machine", text, &t); err != nil {
		return nil, err
	}
	if t.ID != id { // also where there is none: units would be given to it, and it would never have them
		return nil, fmt.Errorf("machine: %.100q at the key of %q", t.ID, id)
	}
	m := &Machine{
		ID: id, PublicIP: t.PublicIP, Metadata: t.Metadata, Version: t.Version, Host: t.Host, API: t.API,
		Instance: t.Instance, Boot: t.Boot, Engine: !t.Capabilities[disableEngine],
	}
	for _, name := range slices.Sorted(maps.Keys(t.Capacity)) {
		m.Capacity = append(m.Capacity, unit.Quantity{Name: name, Amount: t.Capacity[name]})
	}
	return m, nil
}

type assignmentText struct {
	Raw   string
	State unit.State
	Since store.Index
}

// EncodeAssignment writes machines/ID/units/NAME and global/NAME.
func EncodeAssignment(a *Assignment) string { return encode(assignmentText{a.Raw, a.State, a.Since}) }

// DecodeAssignment reads machines/ID/units/NAME and global/NAME; the name is that of the
// key.
func DecodeAssignment(name, text string) (*Assignment, error) {
	var t assignmentText
	if err := decode("assignment", text, &t); err != nil {
		return nil, err
	}
	if t.State != unit.Loaded && t.State != unit.Launched {
		return nil, fmt.Errorf("assignment: to be %.100q, want %s or %s", string(t.State), unit.Loaded, unit.Launched)
	}
	return &Assignment{Name: name, Raw: t.Raw, State: t.State, Since: t.Since}, nil
}

// Lease is who decides: lease/engine-leader.
type Lease struct {
	MachineID string
	Version   int
}

// EncodeLease writes lease/engine-leader.
func EncodeLease(l Lease) string { return encode(l) }

// DecodeLease reads lease/engine-leader.
func DecodeLease(text string) (l Lease, err error) {
	err = decode("engine lease", text, &l)
	return l, err
}

// The values of machines/ID/cordon.
const (
	Cordoned = "cordoned" // takes nothing new
	Draining = "draining" // and gives away what it has
)

var (
	errNoMachine = errors.New("want the ID of a machine")
	errNoState   = errors.New("want inactive, loaded or launched; it counts as inactive")
)

// CheckMachine says whether text can be the ID of a machine: 32 hex digits as systemd
// writes them, or whatever else fits into a key and on a line.
func CheckMachine(id string) error {
	if id == "" || len(id) > 128 || strings.ContainsAny(id, "/ \t\r\n") || !utf8.ValidString(id) {
		return fmt.Errorf("machine ID %.140q: %w", id, errNoMachine)
	}
	return nil
}

// MetadataKey reports whether key can be one of a machine's metadata set at run time.
func MetadataKey(key string) bool {
	if key == "" || key == "." || key == ".." {
		return false
	}
	for _, c := range []byte(key) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}
