package fleetapi

import (
	"fmt"
	"slices"

	"github.com/keelson/keelson/core/engine"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

func (c *call) why() {
	c.fresh(func() {
		if u := c.known(); u != nil {
			c.show(c.s.explain(u))
		}
	})
}

// explain says why a unit is where it is, or nowhere.
func (s *Server) explain(u *registry.Unit) whyText {
	switch {
	case unit.Split(u.Name).IsTemplate():
		return whyText{Name: u.Name, Why: "it is a template, of which only instances run"}
	case u.Place == nil:
		return whyText{MachineID: u.Target, Name: u.Name, Why: noPlacement(u.PlaceErr)}
	}
	return showWhy(s.picture.get(s.model).Explain(u.Name))
}

// noPlacement says why nothing can be said about a unit.
func noPlacement(err error) string {
	if err == nil {
		return "its contents are missing"
	}
	return err.Error()
}

// plan tells what would move, and which of the units could run nowhere. A unit that is
// not known and says no desired state is meant to be started.
func (c *call) plan() {
	var body struct {
		Units []unitText `json:"units"`
	}
	if err := decodeBody(c.req, &body); err != nil {
		c.refuseBy(undecoded(err))
		return
	}
	var wanted []sched.Unit
	for _, t := range body.Units {
		u, err := c.s.readPlanned(t)
		if err != nil {
			c.refuseBy(err)
			return
		}
		wanted = append(wanted, u)
	}
	c.fresh(func() {
		picture := c.s.picture.get(c.s.model)
		restore := picture.Try()
		picture.Plan() // what is under way anyhow
		before := c.s.globals(picture)
		for i := range wanted {
			c.s.settle(&wanted[i], picture)
			picture.SetUnit(wanted[i])
		}
		t := movesText{Moves: showMoves(picture.Plan())}
		t.Moves = append(t.Moves, c.s.spread(before, c.s.globals(picture))...)
		for _, u := range wanted {
			e := picture.Explain(u.Name)
			if e.Machine == "" && u.State != unit.Inactive && !u.Place.Global {
				t.Stay = append(t.Stay, showWhy(e))
			}
		}
		restore()
		c.show(t)
	})
}

func (s *Server) readPlanned(t unitText) (u sched.Unit, err error) {
	if err := unit.CheckName(t.Name); err != nil {
		return u, fmt.Errorf("%s: %w", t.Name, err)
	}
	p := put{name: t.Name, desired: unit.State(t.DesiredState)}
	if err := p.check(); err != nil {
		return u, err
	}
	u = sched.Unit{Name: t.Name, State: p.desired}
	if len(t.Options) == 0 {
		return u, nil
	}
	f, err := readOptions(t.Name, t.Options, s.o.LineMax)
	if err != nil {
		return u, fmt.Errorf("%s: %w", t.Name, err)
	}
	u.Place, err = f.Placement(t.Name)
	return u, err
}

// settle fills in what a planned unit leaves as it is.
func (s *Server) settle(u *sched.Unit, picture *sched.State) {
	if have := s.model.Unit(u.Name); have != nil {
		was, _ := engine.UnitOf(s.model, have)
		was.Machine = picture.Explain(u.Name).Machine
		if u.Place != nil {
			was.Place = u.Place
		}
		if u.State != "" {
			was.State = u.State
		}
		*u = was
	}
	if u.Place == nil {
		u.Place = &unit.Placement{Weight: 1}
	}
	if u.State == "" {
		u.State = unit.Launched
		if unit.Split(u.Name).IsTemplate() {
			u.State = unit.Inactive
		}
	}
}

// globals gives the names of the global units on each live machine.
func (s *Server) globals(picture *sched.State) map[string][]string {
	on := make(map[string][]string)
	for _, m := range s.alive() {
		on[m.ID] = picture.GlobalsOn(m.ID)
	}
	return on
}

// spread tells where global units would come and go.
func (s *Server) spread(before, after map[string][]string) (moves []moveText) {
	for _, m := range s.alive() {
		for _, name := range before[m.ID] {
			if !slices.Contains(after[m.ID], name) {
				moves = append(moves, moveText{From: m.ID, Unit: name, Why: "global"})
			}
		}
		for _, name := range after[m.ID] {
			if !slices.Contains(before[m.ID], name) {
				moves = append(moves, moveText{To: m.ID, Unit: name, Why: "global"})
			}
		}
	}
	return moves
}

// rebalance moves units to machines that have fewer, or only tells which.
func (c *call) rebalance() {
	var body struct {
		Budget int  `json:"budget"`
		DryRun bool `json:"dryRun"`
	}
	if len(c.req.Body) > 0 {
		if err := decodeBody(c.req, &body); err != nil {
			c.refuseBy(undecoded(err))
			return
		}
	}
	if body.Budget < 0 {
		c.refuse(400, "budget must not be below 0")
		return
	}
	c.fresh(func() {
		picture := c.s.picture.get(c.s.model)
		restore := picture.Try()
		picture.Plan() // what is under way anyhow
		budget := body.Budget
		if budget == 0 { // no bound
			budget = len(c.s.model.Names())
		}
		decisions := picture.Rebalance(budget)
		restore()
		t := movesText{Moves: showMoves(decisions)}
		if body.DryRun {
			c.show(t)
			return
		}
		var commands []store.Command
		for _, d := range decisions {
			commands = append(commands, store.Command{Op: store.OpSet, Key: c.s.o.Keys.Move(d.Unit), Value: d.To})
		}
		c.write("moves", commands, func() { c.show(t) })
	})
}
