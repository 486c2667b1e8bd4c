package replica_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
)

// chaos throws everything at a group for a while, then lets it recover. What
// must hold: no two members apply different entries at one index, an entry that
// was seen applied anywhere stays, reads see it, and calm brings agreement.
type chaos struct {
	*group
	truth   map[uint64]string // by index
	acked   []string
	next    int
	leads   map[uint64]env.NodeID // by term
	changes bool
}

// Apply of a watched machine compares with what others applied.
type watched struct {
	*list
	c *chaos
}

func (w watched) Apply(index uint64, entry []byte) {
	if old, ok := w.c.truth[index]; ok && old != string(entry) {
		w.c.t.Errorf("entry %d: %q here, %q elsewhere", index, entry, old)
	}
	w.c.truth[index] = string(entry)
	w.list.Apply(index, entry)
}

func TestChaos(t *testing.T) {
	seeds := chaosSeeds()
	if testing.Short() {
		seeds = 10
	}
	marks := map[string]int{}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			c := &chaos{truth: map[uint64]string{}, leads: map[uint64]env.NodeID{}}
			n := 1 + int(seed%5)
			tail := seed % 4
			c.group = newGroup(t, seed, 0, nil)
			var voters []env.NodeID
			for i := range n {
				voters = append(voters, env.NodeID(i+1))
			}
			for _, id := range voters {
				m := c.add(replica.Config{
					ID: id, Cluster: 7, Voters: voters,
					SnapshotEntries: 5 + seed%20, TailEntries: tail, ChunkBytes: 40, ChunkWindow: 1 + int(seed%3),
					SegmentBytes: 400, InflightMessages: 2 + int(seed%8), MessageBytes: 100, WritesMax: 1 + int(seed%3),
				})
				m.wrap = func(l *list) replica.Machine { return watched{l, c} }
				c.on(m)
			}
			c.rare = func(string) bool { return c.rng.IntN(50) == 0 }
			c.changes = seed%2 == 1
			c.trouble(150)
			c.calm()
			for name, n := range c.marks {
				marks[name] += n
			}
		})
	}
	t.Log(marks)
	for _, name := range []string{
		"replica: leader change during snapshot transfer",
		"replica: read retried", "replica: conflicting tail overwritten",
		"replica: snapshot chunks repeated", "replica: disk full",
	} {
		if !testing.Short() {
			assert.Positive(t, marks[name], name)
		}
	}
}

// chaosSeeds is how many seeds are run: KEELSON_SEEDS of them, where it is set.
func chaosSeeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("KEELSON_SEEDS"), 10, 64); err == nil {
		return n
	}
	return 300
}

func (c *chaos) trouble(steps int) {
	for range steps {
		c.step()
		c.run(time.Duration(c.rng.Int64N(int64(200 * time.Millisecond))))
	}
}

func (c *chaos) step() {
	m := c.members[c.rng.IntN(len(c.members))]
	switch c.rng.IntN(15) {
	case 0, 1, 2, 3:
		for range 1 + c.rng.IntN(6) {
			c.write()
		}
	case 4, 5:
		c.read(m)
	case 6:
		if m.up {
			c.off(m)
		} else if m.fatal == nil {
			c.on(m)
		}
	case 7:
		if c.rng.IntN(4) == 0 { // all at once
			for _, m := range c.members {
				c.off(m)
			}
		}
		for _, m := range c.members {
			if !m.up && m.fatal == nil {
				c.on(m)
			}
		}
	case 8:
		side := map[env.NodeID]bool{}
		for _, m := range c.members {
			side[m.cfg.ID] = c.rng.IntN(2) == 0
		}
		oneWay := c.rng.IntN(2) == 0
		c.cut = func(from, to env.NodeID) bool { return side[from] != side[to] && (!oneWay || side[from]) }
	case 9:
		c.cut = func(env.NodeID, env.NodeID) bool { return false }
	case 10:
		c.loss = c.rng.Float64() * 0.3 * float64(c.rng.IntN(2))
	case 11:
		c.sync = time.Millisecond << c.rng.IntN(7)
	case 12:
		m.disk.full = !m.disk.full
	case 13:
		if l := c.anyLeader(); l != nil {
			l.turn(func() { l.HandOver() })
		}
	case 14:
		if c.changes {
			c.change()
		}
	}
	for _, m := range c.members {
		if errors.Is(m.fatal, replica.ErrRemoved) {
			continue
		}
		require.NoError(c.t, m.fatal)
		if m.up {
			c.oneLeader(m.Status())
		}
	}
}

// change adds, promotes or removes a member.
func (c *chaos) change() {
	l := c.anyLeader()
	if l == nil {
		return
	}
	s := l.Status()
	change := replica.Change{Kind: replica.Remove, ID: s.Voters[c.rng.IntN(len(s.Voters))]}
	switch {
	case len(s.Learners) > 0 && c.rng.IntN(2) == 0:
		change = replica.Change{Kind: replica.Replace, ID: s.Learners[0], Old: change.ID}
	case len(s.Learners) > 0:
		change = replica.Change{Kind: replica.Promote, ID: s.Learners[0]}
	case len(s.Voters) < 3 || c.rng.IntN(2) == 0 && len(s.Voters) < 5:
		m := c.join(env.NodeID(len(c.members) + 1))
		change = replica.Change{Kind: replica.AddLearner, ID: m.cfg.ID}
	}
	l.turn(func() { _ = l.ProposeConfChange(change) })
}

func (c *chaos) join(id env.NodeID) *member {
	cfg := c.members[0].cfg
	cfg.ID, cfg.Voters, cfg.Join = id, nil, true
	m := c.add(cfg)
	m.wrap = func(l *list) replica.Machine { return watched{l, c} }
	c.on(m)
	return m
}

func (c *chaos) oneLeader(s replica.Status) {
	if s.Role != replica.Leader {
		return
	}
	if old, ok := c.leads[s.Term]; ok && old != s.ID {
		c.t.Errorf("%v and %v lead in term %d", old, s.ID, s.Term)
	}
	c.leads[s.Term] = s.ID
}

func (c *chaos) anyLeader() *member {
	var found *member // of the highest term: others have not heard yet
	for _, m := range c.members {
		if m.up && m.Status().Role == replica.Leader && (found == nil || m.Status().Term > found.Status().Term) {
			found = m
		}
	}
	return found
}

// write proposes an entry; once its leader has applied it, it must stay.
func (c *chaos) write() {
	l := c.anyLeader()
	if l == nil {
		return
	}
	e := fmt.Sprint("e", c.next)
	c.next++
	life, list := l.life, l.list
	l.turn(func() { _ = l.Propose([]byte(e)) })
	var poll func()
	poll = func() {
		switch {
		case l.life != life:
		case contains(list.entries, e):
			c.acked = append(c.acked, e)
		default:
			c.after(5*time.Millisecond, poll)
		}
	}
	poll()
}

func (c *chaos) read(m *member) {
	acked := c.acked[:len(c.acked):len(c.acked)]
	list := m.list
	m.turn(func() {
		m.ReadIndex(func() {
			have := map[string]bool{}
			for _, e := range list.entries {
				have[e] = true
			}
			for _, e := range acked {
				if !have[e] {
					c.t.Errorf("a read on %v does not see %s", m.cfg.ID, e)
				}
			}
		})
	})
}

func (c *chaos) calm() {
	c.loss, c.sync = 0, time.Millisecond
	c.cut = func(env.NodeID, env.NodeID) bool { return false }
	for _, m := range c.members {
		m.disk.full = false
		if !m.up && m.fatal == nil {
			c.on(m)
		}
	}
	c.propose("calm")
	c.run(10 * time.Second) // those that left learn it
	s := c.leader().Status()
	for _, m := range c.members {
		if !slices.Contains(s.Voters, m.cfg.ID) && !slices.Contains(s.Learners, m.cfg.ID) {
			assert.True(c.t, m.cfg.Join || m.fatal != nil, "%v was removed and lives on", m.cfg.ID)
			c.off(m)
		}
	}
	c.same(20 * time.Second)
	have := map[string]bool{}
	for _, e := range c.leader().list.entries {
		assert.False(c.t, have[e] && e != "calm", "%s applied twice", e) // calm may be proposed again
		have[e] = true
	}
	for _, e := range c.acked {
		assert.True(c.t, have[e], "%s was applied and is gone", e)
	}
}
