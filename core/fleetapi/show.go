package fleetapi

import (
	"encoding/json"

	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// The documents, whose members come in alphabetical order and are left out where empty.
// What the original does not have is shown only to those who ask for details.

type errorText struct {
	Error struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type optionText struct {
	Name    string `json:"name,omitempty"`
	Section string `json:"section,omitempty"`
	Value   string `json:"value,omitempty"`
}

type unitText struct {
	CurrentState string       `json:"currentState,omitempty"`
	DesiredState string       `json:"desiredState,omitempty"`
	MachineID    string       `json:"machineID,omitempty"`
	Name         string       `json:"name,omitempty"`
	Options      []optionText `json:"options,omitempty"`
	Why          *whyText     `json:"why,omitempty"`
}

type unitPage struct {
	Next  string     `json:"nextPageToken,omitempty"`
	Units []unitText `json:"units,omitempty"`
}

type stateText struct {
	Hash      string `json:"hash,omitempty"`
	MachineID string `json:"machineID,omitempty"`
	Modified  uint64 `json:"modifiedIndex,omitempty"`
	Name      string `json:"name,omitempty"`
	Result    string `json:"result,omitempty"`
	Active    string `json:"systemdActiveState,omitempty"`
	Load      string `json:"systemdLoadState,omitempty"`
	Sub       string `json:"systemdSubState,omitempty"`
}

type statePage struct {
	Next   string      `json:"nextPageToken,omitempty"`
	States []stateText `json:"states,omitempty"`
}

type machineText struct {
	Capacity  map[string]int64  `json:"capacity,omitempty"`
	Cordon    string            `json:"cordon,omitempty"`
	Host      string            `json:"host,omitempty"`
	ID        string            `json:"id,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	PrimaryIP string            `json:"primaryIP,omitempty"`
	Version   string            `json:"version,omitempty"`
}

type machinePage struct {
	Machines []machineText `json:"machines,omitempty"`
	Next     string        `json:"nextPageToken,omitempty"`
}

type whyText struct {
	Able      int           `json:"able"`
	MachineID string        `json:"machineID,omitempty"`
	Name      string        `json:"name"`
	Refusals  []refusalText `json:"refusals,omitempty"`
	Why       string        `json:"why"`
}

type refusalText struct {
	Machines int    `json:"machines"`
	Reason   string `json:"reason"`
}

type moveText struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	Unit string `json:"unit"`
	Why  string `json:"why"`
}

type movesText struct {
	Moves []moveText `json:"moves,omitempty"`
	Stay  []whyText  `json:"stay,omitempty"`
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, numbers, slices and maps of them always encode
		panic(err)
	}
	return text
}

// showUnit shows a unit. A global one has no current state of its own.
func (s *Server) showUnit(u *registry.Unit, details bool) unitText {
	t := unitText{CurrentState: string(s.model.Current(u)), DesiredState: string(u.Desired), MachineID: u.Target, Name: u.Name, Options: showOptions(u.File)}
	if details {
		why := s.explain(u)
		t.Why = &why
	}
	return t
}

func showOptions(f *unit.File) (list []optionText) {
	if f == nil {
		return nil
	}
	for _, o := range f.Options {
		list = append(list, optionText{o.Name, o.Section, o.Value})
	}
	return list
}

func showState(s *registry.UnitState, details bool) stateText {
	t := stateText{Hash: s.Hash, MachineID: s.MachineID, Name: s.Name, Active: s.Active, Load: s.Load, Sub: s.Sub}
	if details {
		t.Result, t.Modified = s.Result, uint64(s.Modified)
	}
	return t
}

func showMachine(m *registry.Machine, details bool) machineText {
	t := machineText{ID: m.ID, Metadata: m.Effective(), PrimaryIP: m.PublicIP}
	if details {
		t.Cordon, t.Host, t.Version = m.Cordon, m.Host, m.Version
		for _, q := range m.Capacity {
			if t.Capacity == nil {
				t.Capacity = make(map[string]int64)
			}
			t.Capacity[q.Name] = q.Amount
		}
	}
	return t
}

func showWhy(e sched.Explanation) whyText {
	t := whyText{Able: e.Able, MachineID: e.Machine, Name: e.Unit, Why: e.Why}
	for _, r := range e.Refusals {
		t.Refusals = append(t.Refusals, refusalText{r.Machines, r.Reason})
	}
	return t
}

func showMoves(list []sched.Decision) (moves []moveText) {
	for _, d := range list {
		moves = append(moves, moveText{d.From, d.To, d.Unit, d.Why})
	}
	return moves
}
