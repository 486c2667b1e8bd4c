package fault

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/sim"
)

// wanted is a change of members that an operator asked for. It is asked of
// whoever leads, again and again, until it has happened: one at a time, in order.
type wanted struct {
	kind replica.ChangeKind // Promote stands for joining as a whole
	m    *sim.Machine
}

// askEvery is how often the operator looks, and askMost how often before the next
// change is tried instead.
const (
	askEvery = 150 * time.Millisecond
	askMost  = 60
)

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

// join adds a machine that is new, and has it made a voter.
func join(r *Runner, a *Action) func() {
	for _, name := range a.Groups[0] {
		if r.c.Named(name) != nil {
			continue
		}
		m := r.c.AddMachine(name, daemon.Config{})
		r.c.Admit(m)
		m.SetRestart(r.restart)
		m.PowerOn()
		r.want(&wanted{replica.Promote, m})
	}
	return nil
}

// remove has a member taken out. Its process ends when it learns of it, and is
// started again with its old log as often as that happens.
func remove(r *Runner, m *sim.Machine, _ *Action) func() {
	r.want(&wanted{replica.Remove, m})
	return nil
}

func (r *Runner) want(w *wanted) {
	r.wanted = append(r.wanted, w)
	if !r.asking {
		r.asking = true
		r.ask(0)
	}
}

// ask moves the oldest wanted change on.
func (r *Runner) ask(times int) {
	for len(r.wanted) > 0 && (times >= askMost || r.settled(r.wanted[0])) {
		r.wanted, times = r.wanted[1:], 0
	}
	if len(r.wanted) == 0 || r.ended {
		r.wanted, r.asking = nil, false
		return
	}
	w := r.wanted[0]
	if leader := r.c.Leader(); leader != nil {
		leader.Do("change members", func(n sim.Node) { r.propose(n, w) })
	}
	r.c.After(askEvery, "operator", func() { r.ask(times + 1) })
}

// settled says that a change has happened, or never can.
func (r *Runner) settled(w *wanted) bool {
	leader := r.c.Leader()
	if leader == nil {
		return false
	}
	st := sim.NodeOf(leader).Status()
	voter, learner := slices.Contains(st.Voters, r.c.MemberOf(w.m)), slices.Contains(st.Learners, r.c.MemberOf(w.m))
	if w.kind == replica.Promote {
		return voter
	}
	return !voter && !learner
}

func (r *Runner) propose(n sim.Node, w *wanted) {
	d, ok := n.(*daemon.Daemon)
	if !ok || d.Member() == nil || r.ended {
		return
	}
	x := d.Member()
	st, id := x.Status(), r.c.MemberOf(w.m)
	c := replica.Change{Kind: w.kind, ID: id}
	switch {
	case w.kind == replica.Remove && !r.bearable(st.Voters, id):
		return
	case w.kind == replica.Remove && id == st.ID && len(st.Voters) == 2:
		// The other one needs this one's word that the change is committed, and
		// might never get it: it has to lead before this one goes.
		x.Replica().HandOver()
		return
	case w.kind == replica.Promote && !slices.Contains(st.Learners, id):
		if !r.announced(x, w.m) {
			return
		}
		c.Kind = replica.AddLearner
	}
	if err := x.Replica().ProposeConfChange(c); err == nil && c.Kind == replica.Remove {
		r.Removed[w.m.ID()] = true
	}
}

// announced has the cluster told where a machine is that has not said so itself,
// and says that it knows.
func (r *Runner) announced(n *node.Node, m *sim.Machine) bool {
	key := "/_etcd/members/" + r.c.MemberOf(m).String()
	if _, err := n.View().Get(key, false); err == nil {
		return true
	}
	n.Propose(store.Command{
		Op: store.OpSet, Key: key,
		Value: fmt.Sprintf(`{"name":%q,"peerURLs":["http://%s:2380"],"clientURLs":[]}`, m.Name(), m.Name()),
	}, func(store.Result) {})
	return false
}

// bearable says that without id the voters with sound disks are a majority, since
// the plan's damage is rationed for the members it began with, and that clients
// still know one of them.
func (r *Runner) bearable(voters []env.NodeID, id env.NodeID) bool {
	left, sound, known := 0, 0, 0
	for _, v := range voters {
		if v == id {
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
