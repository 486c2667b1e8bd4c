package fleetapi

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/keelson/keelson/core/engine"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/store"
)

// patch is one change of a machine's metadata.
type patch struct {
	Op    string     `json:"op"`
	Path  string     `json:"path"`
	Value patchValue `json:"value"`
}

// patchValue is {"value":"v"}, as the original takes it, or "v", as its pages say.
type patchValue string

// UnmarshalJSON takes either form.
func (v *patchValue) UnmarshalJSON(text []byte) error {
	var plain string
	if json.Unmarshal(text, &plain) == nil {
		*v = patchValue(plain)
		return nil
	}
	var nested struct {
		Value string `json:"value"`
	}
	err := json.Unmarshal(text, &nested)
	*v = patchValue(nested.Value)
	return err
}

// target gives the machine and the key that a patch is about.
func (p *patch) target() (machine, key string, ok bool) {
	parts := strings.Split(p.Path, "/")
	if len(parts) != 4 || parts[0] != "" || parts[2] != "metadata" {
		return "", "", false
	}
	return parts[1], parts[3], goodMachine(parts[1]) && registry.MetadataKey(parts[3])
}

// goodMachine says that an ID can be an element of a key.
func goodMachine(id string) bool {
	return registry.CheckMachine(id) == nil && id != "." && id != ".." && !strings.ContainsRune(id, 0)
}

func (p *patch) check() error {
	if p.Op != "add" && p.Op != "replace" && p.Op != "remove" {
		return errors.New("invalid op: expect add, remove, or replace")
	}
	if _, _, ok := p.target(); !ok {
		return errors.New("machine metadata path invalid")
	}
	if p.Op != "remove" && p.Value == "" {
		return errors.New("invalid value: add and replace require a value")
	}
	return nil
}

func (c *call) patchMachines() {
	var patches []patch
	if err := decodeBody(c.req, &patches); err != nil {
		c.refuseBy(err)
		return
	}
	var commands []store.Command
	for _, p := range patches {
		if err := p.check(); err != nil {
			c.refuseBy(err)
			return
		}
		machine, key, _ := p.target()
		value := string(p.Value)
		if p.Op == "remove" {
			value = "" // hides a configured key, too
		}
		commands = append(commands, store.Command{Op: store.OpSet, Key: c.s.o.Keys.Metadata(machine, key), Value: value})
	}
	c.write("metadata", commands, c.done)
}

// write has commands applied that nobody else's can be lost to, and then calls then.
func (c *call) write(what string, commands []store.Command, then func()) {
	c.fresh(func() {
		if len(commands) == 0 {
			then()
			return
		}
		c.propose(commands, func(results []store.Result) {
			for _, r := range results {
				switch {
				case r.Stale:
					c.write(what, commands, then)
					return
				case r.Err != nil && r.Err.Code != store.CodeKeyNotFound:
					c.unknown(what, r.Err)
					return
				}
			}
			then()
		})
	})
}

// machine gives the machine that the path names, or refuses.
func (c *call) machine() *registry.Machine {
	m := c.s.model.Machine(c.names[0])
	if m == nil {
		c.refuse(404, "machine does not exist")
	}
	return m
}

func (c *call) cordon() {
	var body struct {
		State string `json:"state"`
	}
	if err := decodeBody(c.req, &body); err != nil {
		c.refuseBy(undecoded(err))
		return
	}
	if body.State != registry.Cordoned && body.State != registry.Draining {
		c.refuse(400, "state must be "+registry.Cordoned+" or "+registry.Draining)
		return
	}
	c.fresh(func() {
		m := c.machine()
		if m == nil {
			return
		}
		command := store.Command{Op: store.OpSet, Key: c.s.o.Keys.Cordon(m.ID), Value: body.State}
		c.write("cordon of machine "+m.ID, []store.Command{command}, func() { c.show(c.s.leaving(m, body.State)) })
	})
}

// leaving tells what a machine that was just cordoned gives away, and what has to stay.
func (s *Server) leaving(m *registry.Machine, state string) movesText {
	if state != registry.Draining {
		return movesText{}
	}
	picture := s.picture.get(s.model)
	defer picture.Try()()
	machine := engine.MachineOf(m)
	machine.Cordoned, machine.Draining = false, true
	picture.SetMachine(machine)
	t := movesText{}
	for _, d := range picture.Plan() {
		if d.From == m.ID {
			t.Moves = append(t.Moves, moveText{d.From, d.To, d.Unit, d.Why})
		}
	}
	for _, stuck := range picture.Stuck() {
		if stuck.From == m.ID {
			t.Stay = append(t.Stay, showWhy(explainStuck(picture, stuck)))
		}
	}
	return t
}

// explainStuck says of a unit that cannot leave why that is.
func explainStuck(picture *sched.State, stuck sched.Stuck) sched.Explanation {
	e := picture.Explain(stuck.Unit)
	e.Why = stuck.Why
	return e
}

func (c *call) uncordon() {
	c.fresh(func() {
		m := c.machine()
		if m == nil {
			return
		}
		command := store.Command{Op: store.OpDelete, Key: c.s.o.Keys.Cordon(m.ID)}
		c.write("cordon of machine "+m.ID, []store.Command{command}, c.done)
	})
}
