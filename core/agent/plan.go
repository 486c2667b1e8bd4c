package agent

import (
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/unit"
)

// Have is one unit whose file lies on this machine.
type Have struct {
	env.UnitStatus
	// Launched says that systemd was told to start it in this boot, under the decision
	// that is in force, and not to stop it since.
	Launched bool
}

// mayRun says that a job is needed before the file can go.
func mayRun(s *env.UnitStatus) bool {
	return s.Job || s.Active != "inactive" && s.Active != "failed"
}

// runs says that to start the unit would change nothing.
func runs(s *env.UnitStatus) bool {
	return s.Active == "active" || s.Active == "reloading" || s.Active == "activating"
}

// Steps is what has to be done, in the order of the fields.
type Steps struct {
	Halt   []string       // to be stopped because their file goes or changes
	Change env.UnitChange // files that go, and files that come; then systemd reads them, once
	Stop   []string
	Start  []string
}

// Empty says that there is nothing to do.
func (s *Steps) Empty() bool {
	return len(s.Halt)+len(s.Change.Remove)+len(s.Change.Write)+len(s.Stop)+len(s.Start) == 0
}

// Plan gives the steps from have to want, both sorted by name: all that goes before all
// that comes, one reading of files, stops before starts. Once they are carried out, or
// any of them that leaves the rest of a unit's steps for later, the plan of what is then
// holds what is left; in the end it is empty.
func Plan(want []Wanted, have []Have) (s Steps) {
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(have) == 0 || len(want) > 0 && want[0].Name < have[0].Name:
			s.load(&want[0])
			want = want[1:]
		case len(want) == 0 || have[0].Name < want[0].Name:
			s.unload(&have[0])
			have = have[1:]
		default:
			s.move(&want[0], &have[0])
			want, have = want[1:], have[1:]
		}
	}
	return s
}

func (s *Steps) load(w *Wanted) {
	s.Change.Write = append(s.Change.Write, env.UnitText{Name: w.Name, Text: w.Raw})
	if w.State == unit.Launched {
		s.Start = append(s.Start, w.Name)
	}
}

func (s *Steps) unload(h *Have) {
	if mayRun(&h.UnitStatus) {
		s.Halt = append(s.Halt, h.Name)
	}
	s.Change.Remove = append(s.Change.Remove, h.Name)
}

// move takes a unit that is here to what it should be. A file that systemd does not see
// is written anew. What runs although nobody launched it, such as the service of a
// socket, is let run.
func (s *Steps) move(w *Wanted, h *Have) {
	switch {
	case h.Hash != w.Hash || h.Load == "not-found":
		s.unload(h)
		s.load(w)
	case w.State == unit.Loaded && h.Launched:
		s.Stop = append(s.Stop, w.Name)
	case w.State == unit.Launched && !h.Launched:
		s.Start = append(s.Start, w.Name)
	}
}
