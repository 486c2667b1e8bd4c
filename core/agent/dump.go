package agent

import (
	"github.com/keelson/keelson/core/unit"
)

// Dump is what an agent knows, for people who look for what is wrong.
type Dump struct {
	Machine string     `json:"machine"`
	Ready   string     `json:"ready"` // "yes", or why it is not registered
	Manager string     `json:"manager"`
	Units   []UnitDump `json:"units"`
}

// UnitDump is one unit in a Dump.
type UnitDump struct {
	Name   string     `json:"name"`
	Want   unit.State `json:"want"` // inactive where it is not wanted here
	Hash   string     `json:"wantHash,omitempty"`
	Load   string     `json:"load,omitempty"` // empty where no file is here
	Active string     `json:"active,omitempty"`
	Sub    string     `json:"sub,omitempty"`
	Result string     `json:"result,omitempty"`
	Have   string     `json:"haveHash,omitempty"`
	Job    string     `json:"job,omitempty"`   // that this agent waits for
	Fault  string     `json:"fault,omitempty"` // why what should be done was not
	Waits  string     `json:"waits,omitempty"` // what its start waits for
}

// Dump says what the agent knows at this moment.
func (a *Agent) Dump() Dump {
	d := Dump{Machine: a.cfg.Machine, Ready: "yes", Manager: "reached", Units: []UnitDump{}}
	if err := a.Ready(); err != nil {
		d.Ready = err.Error()
	}
	if a.away {
		d.Manager = "away"
	}
	a.each(func(u *local) { d.Units = append(d.Units, u.dump()) })
	return d
}

func (u *local) dump() UnitDump {
	d := UnitDump{Name: u.name, Want: unit.Inactive, Fault: u.fault, Waits: u.waits}
	if u.want != nil {
		d.Want, d.Hash = u.want.State, u.want.Hash
	}
	if u.have != nil {
		d.Load, d.Active, d.Sub, d.Result, d.Have = u.have.Load, u.have.Active, u.have.Sub, u.have.Result, u.have.Hash
	}
	if u.job != nil {
		d.Job = string(u.job.verb)
	}
	return d
}
