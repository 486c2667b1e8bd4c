package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/sim"
)

// operator is a person with the members API: changes are asked for one at a time, in
// order, by requests that may be lost like any other.
type operator struct {
	r *Runner
	p *sim.Proc
}

// wish is a change of members. Do is one attempt, and true when there is nothing
// left to do.
type wish struct {
	m  *sim.Machine
	do func(o *operator, m *sim.Machine) bool
}

// An operator tries each wish for wishMost before the next one, which is not to say
// that what was asked for does not happen later, and looks again every wishPause.
const (
	wishMost  = 20 * time.Second
	wishPause = 300 * time.Millisecond
	// wishPatience bounds one request.
	wishPatience = 3 * time.Second
)

// wish has the operator see to a change.
func (r *Runner) wish(w *wish) {
	r.wishes = append(r.wishes, w)
	if r.operator == nil || r.operator.p.Done() {
		o := &operator{r: r}
		r.operator = o
		o.p = r.c.Spawn("operator", func(p *sim.Proc) {
			o.p = p
			o.work()
		})
	}
}

func (o *operator) work() {
	for r := o.r; len(r.wishes) > 0 && !r.ended; {
		w := r.wishes[0]
		r.wishes = r.wishes[1:]
		for end := o.p.Now() + wishMost; o.p.Now() < end && !r.ended && !w.do(o, w.m); {
			o.p.Pause(wishPause)
		}
	}
}

// members is the API, at all machines that the cluster ever had.
func (o *operator) members() *client.Members {
	var urls []string
	for _, m := range o.r.c.Machines() {
		if o.r.c.Inside(m) {
			urls = append(urls, m.URL())
		}
	}
	return client.New(o.p, client.Options{Endpoints: urls, Timeout: wishPatience, Rounds: 1}).Members()
}

func (o *operator) ctx() context.Context { return o.p.Context() }

// listed finds the member that is said to be on a machine. Where there are two, one
// is to replace the other: it is the one that has not started.
func (o *operator) listed(m *sim.Machine) (all []client.Member, mine *client.Member, err error) {
	all, err = o.members().List(o.ctx())
	for i := range all {
		if slices.Contains(all[i].PeerURLs, peerURL(m)) && (mine == nil || all[i].Name == "") {
			mine = &all[i]
		}
	}
	return all, mine, err
}

func peerURL(m *sim.Machine) string { return "http://" + m.Name() + ":2380" }

// join adds a machine that is new.
func join(r *Runner, a *Action) func() {
	for _, name := range a.Groups[0] {
		if r.c.Named(name) != nil {
			continue
		}
		// Whoever switches it on too early finds no place for it, and no cluster of its own.
		list := r.c.Founded() + "," + name + "=http://" + name + ":2380"
		m := r.c.AddMachine(name, daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: list, State: bootstrap.Existing}})
		m.SetRestart(r.restart)
		r.wish(&wish{m, (*operator).join})
	}
	return nil
}

// join asks for a place, starts the machine with the list of the members, and has it
// start with a newer list as long as it refuses.
func (o *operator) join(m *sim.Machine) bool {
	all, mine, err := o.listed(m)
	switch {
	case err != nil:
		return false
	case mine == nil:
		_, err := o.members().Add(o.ctx(), peerURL(m))
		return refused(err) && o.r.c.MemberOf(m) != 0 // it was here, and was removed
	case o.r.c.MemberOf(m) == 0 && !m.Up():
		o.r.c.Configure(m, daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: listOf(all, mine, m), State: bootstrap.Existing}})
		m.PowerOn()
		return false
	}
	return mine.Name != "" && !mine.Learner
}

// listOf is initial-cluster for a machine that joins. Members that have not started
// have no name yet.
func listOf(all []client.Member, mine *client.Member, m *sim.Machine) string {
	var list []string
	for i := range all {
		name := all[i].Name
		switch {
		case all[i].ID == mine.ID:
			name = m.Name()
		case name == "":
			name = "id-" + all[i].ID
		}
		for _, u := range all[i].PeerURLs {
			list = append(list, name+"="+u)
		}
	}
	return strings.Join(list, ",")
}

// refused says that the server has decided against a change.
func refused(err error) bool {
	var no *client.MemberError
	return errors.As(err, &no) && no.Status < 500
}

// remove has a member taken out. Its process ends when it learns of it, and is
// started again with its old log as often as that happens.
func remove(r *Runner, m *sim.Machine, _ *Action) func() {
	r.wish(&wish{m, (*operator).remove})
	return nil
}

func (o *operator) remove(m *sim.Machine) bool {
	r := o.r
	id := r.c.MemberOf(m)
	leader := r.c.Leader()
	switch {
	case id == 0:
		return true // it never came to be one
	case leader == nil || !r.bearable(sim.NodeOf(leader).Status().Voters, id):
		return false
	}
	r.Removed[m.ID()] = true
	r.leaving[id] = true
	err := o.members().Remove(o.ctx(), id.String())
	var no *client.MemberError
	if errors.As(err, &no) {
		if no.Status == 404 || no.Status == 410 {
			return true
		}
		if no.Status < 500 {
			r.leaving[id] = false
		}
	}
	return err == nil
}

// wipe puts an empty disk into a machine. After a while the operator has the member
// replaced; until then the machine tries to come back as what it was.
func wipe(r *Runner, m *sim.Machine, a *Action) func() {
	if r.c.MemberOf(m) == 0 || !r.c.IsMember(m) || !r.c.Formed() || !r.affords(m) {
		return nil
	}
	r.Damaged[m.ID()] = true
	m.PowerOff()
	m.Disk().Wipe()
	if r.dark[m.ID()] == 0 {
		m.PowerOn()
		r.keepDown(m)
	}
	old := r.c.MemberOf(m)
	r.c.After(a.duration("after"), "operator", func() {
		r.wish(&wish{m, func(o *operator, m *sim.Machine) bool { return o.replace(m, old) }})
	})
	return nil
}

// replace asks for a new member in the place of the old one.
func (o *operator) replace(m *sim.Machine, old env.NodeID) bool {
	all, mine, err := o.listed(m)
	switch {
	case err != nil:
		return false
	case mine == nil:
		return true // it was removed
	case mine.ID != old.String() && !slices.ContainsFunc(all, func(x client.Member) bool { return x.ID == old.String() }):
		o.r.c.Mark("fault: wiped machine replaced")
		return true
	case mine.ID != old.String():
		return false // under way
	}
	if _, err := o.members().Replace(o.ctx(), old.String()); err != nil {
		o.r.c.Note("replace %s: %s", m.Name(), fmt.Sprint(err))
	}
	return false
}

// bearable says that without id the voters with sound disks are a majority, since
// the plan's damage is rationed for the members it began with, and that clients
// still know one of them. Members whose removal was asked for may go at any time.
func (r *Runner) bearable(voters []env.NodeID, id env.NodeID) bool {
	left, sound, known := 0, 0, 0
	for _, v := range voters {
		if v == id || r.leaving[v] {
			continue
		}
		left++
		m := r.c.ByMember(v)
		if m != nil && !r.frail[m.ID()] {
			sound++
			if slices.Contains(r.founders, m.ID()) {
				known++
			}
		}
	}
	return 2*sound > left && known > 0
}

// affords says that the log of m may be damaged although a value was changed in some
// memory. A leader that is wrong sends its state to others, and when most are wrong it
// is a sound member that gives up its place to be rebuilt: the damage has moved to a
// machine for which it was not rationed. So the ration is used up until those whose
// disks stay sound are a majority in their places and hold the same as all others. For
// the same reason nothing is changed in memory where a log may be rotten unnoticed.
func (r *Runner) affords(m *sim.Machine) bool {
	if len(r.Flipped) == 0 {
		return true
	}
	leader := r.c.Leader()
	if leader == nil {
		return false
	}
	most := sim.NodeOf(leader)
	voters, sound := most.Status().Voters, 0
	for _, o := range r.c.Machines() {
		n := sim.NodeOf(o)
		if n == nil || o == m {
			continue
		}
		for _, flipped := range r.c.Machines() {
			if key := flipKey(flipped); r.Flipped[flipped.ID()] && valueAt(n, key) != valueAt(most, key) {
				return false
			}
		}
		if slices.Contains(voters, n.ID()) && !r.frail[o.ID()] {
			sound++
		}
	}
	return 2*sound > len(voters)
}

// valueAt is what a node holds at key.
func valueAt(n *node.Node, key string) string {
	found, missing := n.View().Get(key, false)
	if missing != nil {
		return ""
	}
	return found.Value
}

// expect notes whom an action damages. "Leader" and the like may be anybody.
func (r *Runner) expect(a *Action) {
	for _, name := range a.Groups[0] {
		m := r.c.Named(name)
		for _, one := range r.c.Machines() {
			if one == m || m == nil {
				r.frail[one.ID()] = true
			}
		}
	}
}
