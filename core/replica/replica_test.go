package replica_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
)

// list is a machine that remembers what was applied, in order.
type list struct {
	entries []string
	applied uint64
	restore int
}

func (l *list) Apply(index uint64, entry []byte) {
	if index <= l.applied {
		panic(fmt.Sprintf("entry %d applied after %d", index, l.applied))
	}
	l.applied = index
	l.entries = append(l.entries[:len(l.entries):len(l.entries)], string(entry))
}

func (l *list) Snapshot() replica.Snapshot { return image{l.entries, l.applied} }

func (l *list) Restore(r io.Reader) error {
	p, err := io.ReadAll(r)
	if err != nil || len(p) < 8 {
		return fmt.Errorf("a state of %d bytes: %v", len(p), err)
	}
	l.applied = binary.LittleEndian.Uint64(p)
	l.entries = nil
	l.restore++
	for p = p[8:]; len(p) > 0; {
		n, k := binary.Uvarint(p)
		l.entries = append(l.entries, string(p[k:k+int(n)]))
		p = p[k+int(n):]
	}
	return nil
}

type image struct {
	entries []string
	applied uint64
}

func (i image) NewReader() io.Reader {
	p := binary.LittleEndian.AppendUint64(nil, i.applied)
	for _, e := range i.entries {
		p = binary.AppendUvarint(p, uint64(len(e)))
		p = append(p, e...)
	}
	return bytes.NewReader(p)
}

// member is a replica on a host.
type member struct {
	*host
	*replica.Replica
	cfg  replica.Config
	list *list
	wrap func(*list) replica.Machine
}

// group is some replicas in one world.
type group struct {
	*world
	t       *testing.T
	members []*member
}

func newGroup(t *testing.T, seed uint64, n int, change func(*replica.Config)) *group {
	g := &group{world: newWorld(seed), t: t}
	var voters []env.NodeID
	for i := range n {
		voters = append(voters, env.NodeID(i+1))
	}
	for _, id := range voters {
		cfg := replica.Config{ID: id, Cluster: 7, Voters: voters}
		if change != nil {
			change(&cfg)
		}
		g.on(g.add(cfg))
	}
	return g
}

func (g *group) add(cfg replica.Config) *member {
	m := &member{host: g.world.host(cfg.ID), cfg: cfg}
	m.cfg.Fatal = func(err error) { m.fatal = err }
	g.members = append(g.members, m)
	return m
}

// on switches a member's power on.
func (g *group) on(m *member) {
	g.t.Helper()
	require.NoError(g.t, g.tryOn(m))
}

func (g *group) tryOn(m *member) error {
	m.list = &list{}
	m.fatal = nil
	var machine replica.Machine = m.list
	if m.wrap != nil {
		machine = m.wrap(m.list)
	}
	r, err := replica.Open(m.cfg, m.host.env(), machine)
	if err != nil {
		return err
	}
	m.Replica, m.body, m.up = r, r, true
	m.turn(func() {})
	return nil
}

func (g *group) off(m *member) { m.powerOff() }

// leader waits for one that has applied an entry of its own term.
func (g *group) leader() *member {
	g.t.Helper()
	var found *member
	ok := g.until(20*time.Second, func() bool {
		for _, m := range g.members {
			if m.up && m.fatal == nil {
				if _, ok := m.Leading(); ok && g.reaches(m) {
					found = m
					return true
				}
			}
		}
		return false
	})
	require.True(g.t, ok, "no leader")
	return found
}

// reaches tells whether a majority can hear m.
func (g *group) reaches(m *member) bool {
	n := 0
	for _, v := range m.Voters() {
		for _, o := range g.members {
			if o.cfg.ID == v && o.up && (o == m || !g.cut(m.cfg.ID, o.cfg.ID) && !g.cut(o.cfg.ID, m.cfg.ID)) {
				n++
			}
		}
	}
	return 2*n > len(m.Voters())
}

func (g *group) follower() *member {
	l := g.leader()
	for _, m := range g.members {
		if m != l && m.up {
			return m
		}
	}
	return nil
}

// propose puts entries into the log through whoever leads, and waits until all
// members that are up have applied them.
func (g *group) propose(entries ...string) {
	g.t.Helper()
	for _, e := range entries {
		done := g.until(30*time.Second, func() bool {
			l := g.leader()
			l.turn(func() { _ = l.Propose([]byte(e)) })
			return g.until(3*time.Second, func() bool { return l.up && contains(l.list.entries, e) })
		})
		require.True(g.t, done, "%q was not applied", e)
	}
}

func contains(list []string, e string) bool {
	for _, x := range list {
		if x == e {
			return true
		}
	}
	return false
}

func (g *group) same(d time.Duration) {
	g.t.Helper()
	l := g.leader()
	ok := g.until(d, func() bool {
		for _, m := range g.members {
			if m.up && m.fatal == nil && m.Applied() != l.Applied() {
				return false
			}
		}
		return true
	})
	for _, m := range g.members {
		if m.up && m.fatal == nil {
			assert.Equal(g.t, l.list.entries, m.list.entries, "member %v", m.cfg.ID)
		}
	}
	require.True(g.t, ok, "members did not catch up")
}

func TestOneMemberLeadsAtOnce(t *testing.T) {
	g := newGroup(t, 1, 1, nil)
	l := g.leader()
	assert.Less(t, g.now, 100*time.Millisecond, "nobody else could win")
	l.turn(func() { require.NoError(t, l.Propose([]byte("a"))) })
	require.True(t, g.until(time.Second, func() bool { return len(l.list.entries) == 1 }))
	g.off(l)
	g.on(l)
	g.leader()
	assert.Equal(t, []string{"a"}, l.list.entries)
}

func TestThreeMembersAgree(t *testing.T) {
	for seed := range uint64(10) {
		g := newGroup(t, seed, 3, nil)
		l := g.leader()
		assert.LessOrEqual(t, g.now, 2*time.Second, "a leader within two election timeouts")
		g.propose("a", "b", "c")
		g.same(time.Second)
		assert.Equal(t, l, g.leader())
	}
}

func TestLeaderLosesPower(t *testing.T) {
	for seed := range uint64(20) {
		g := newGroup(t, seed, 3, nil)
		g.loss = 0.05
		for i := range 4 {
			g.propose(fmt.Sprint("a", i))
			l := g.leader()
			l.turn(func() { _ = l.Propose(fmt.Appendf(nil, "lost %d", i)) })
			g.run(time.Duration(g.rng.Int64N(int64(4 * time.Millisecond))))
			g.off(l)
			g.propose(fmt.Sprint("b", i))
			g.on(l)
		}
		g.loss = 0
		g.same(5 * time.Second)
	}
}

func TestAllLosePowerAtOnce(t *testing.T) {
	for seed := range uint64(20) {
		g := newGroup(t, seed, 3, func(c *replica.Config) { c.SnapshotEntries = 7; c.SegmentBytes = 300; c.TailEntries = 3 })
		for i := range 6 {
			for j := range 5 {
				g.propose(fmt.Sprint(i, ".", j))
			}
			g.run(time.Duration(g.rng.Int64N(int64(3 * time.Millisecond))))
			for _, m := range g.members {
				g.off(m)
			}
			for _, m := range g.members {
				g.on(m)
			}
		}
		g.same(5 * time.Second)
		for i := range 6 {
			for j := range 5 {
				assert.Contains(t, g.leader().list.entries, fmt.Sprint(i, ".", j))
			}
		}
	}
}

func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	for seed := range uint64(10) {
		g := newGroup(t, seed, 3, func(c *replica.Config) {
			c.SnapshotEntries, c.TailEntries, c.ChunkBytes = 10, 2, 50
		})
		g.loss = float64(seed%3) * 0.1
		f := g.follower()
		g.off(f)
		for i := range 40 {
			g.propose(fmt.Sprintf("entry %03d", i))
		}
		g.on(f)
		g.same(20 * time.Second)
		assert.Positive(t, f.list.restore, "restored from the leader")
		g.propose("after")
		g.same(5 * time.Second)
		g.off(f)
		g.on(f)
		g.same(5 * time.Second)
	}
}

func TestLeaderChangesDuringTransfer(t *testing.T) {
	g := newGroup(t, 3, 3, func(c *replica.Config) { c.SnapshotEntries, c.TailEntries, c.ChunkBytes = 10, 2, 8 })
	f := g.follower()
	g.off(f)
	for i := range 60 {
		g.propose(fmt.Sprintf("entry %03d", i))
	}
	g.on(f)
	for range 5 {
		l := g.leader()
		g.until(time.Second, func() bool { return len(l.Progress()) > 0 && anySnapshot(l) })
		g.run(5 * time.Millisecond)
		l.turn(func() { l.HandOver() })
		g.run(300 * time.Millisecond)
	}
	g.same(20 * time.Second)
	assert.Positive(t, g.marks["replica: leader change during snapshot transfer"])
}

func anySnapshot(m *member) bool {
	for _, p := range m.Progress() {
		if p.Snapshot {
			return true
		}
	}
	return false
}

func TestPartitionedLeaderStepsDown(t *testing.T) {
	g := newGroup(t, 4, 5, nil)
	old := g.leader()
	g.propose("before")
	g.cut = func(from, to env.NodeID) bool { return (from == old.cfg.ID) != (to == old.cfg.ID) }
	old.turn(func() { require.NoError(t, old.Propose([]byte("nobody sees this"))) })
	g.propose("on the other side")
	require.True(t, g.until(3*time.Second, func() bool { return old.Status().Role != replica.Leader }))
	term := g.leader().Status().Term
	g.run(time.Minute)
	g.cut = func(env.NodeID, env.NodeID) bool { return false }
	g.run(3 * time.Second)
	assert.Equal(t, term, g.leader().Status().Term, "one that comes back disturbs nobody")
	g.same(5 * time.Second)
	assert.NotContains(t, old.list.entries, "nobody sees this")
}

func TestReadsSeeWhatWasAcknowledged(t *testing.T) {
	for seed := range uint64(10) {
		g := newGroup(t, seed, 3, nil)
		g.loss = 0.1
		for i := range 10 {
			e := fmt.Sprint(i)
			g.propose(e)
			if g.rng.IntN(3) == 0 {
				l := g.leader()
				g.cut = func(from, to env.NodeID) bool { return (from == l.cfg.ID) != (to == l.cfg.ID) }
			}
			reader := g.members[g.rng.IntN(3)]
			asked := g.now
			seen := false
			reader.turn(func() {
				reader.ReadIndex(func() {
					seen = true
					assert.Contains(t, reader.list.entries, e, "asked at %v", asked)
				})
			})
			g.run(500 * time.Millisecond)
			g.cut = func(env.NodeID, env.NodeID) bool { return false }
			require.True(t, g.until(10*time.Second, func() bool { return seen }), "a read is retried until it is answered")
		}
	}
}

func TestReadsWriteNothing(t *testing.T) {
	g := newGroup(t, 5, 3, nil)
	g.propose("a")
	g.run(time.Second)
	before := 0
	for _, m := range g.members {
		before += m.disk.syncs
	}
	answered := 0
	for range 50 {
		for _, m := range g.members {
			m.turn(func() { m.ReadIndex(func() { answered++ }) })
		}
		g.run(10 * time.Millisecond)
	}
	assert.Equal(t, 150, answered)
	after := 0
	for _, m := range g.members {
		after += m.disk.syncs
	}
	assert.Equal(t, before, after)
}

func TestCancelledReadIsForgotten(t *testing.T) {
	g := newGroup(t, 6, 3, nil)
	l := g.leader()
	g.cut = func(from, to env.NodeID) bool { return true }
	l.turn(func() {
		cancel := l.ReadIndex(func() { t.Error("answered after cancel") })
		cancel()
	})
	g.cut = func(env.NodeID, env.NodeID) bool { return false }
	g.run(5 * time.Second)
}

func TestStopHandsOver(t *testing.T) {
	for seed := range uint64(10) {
		g := newGroup(t, seed, 3, nil)
		g.propose("a")
		l := g.leader()
		began, stopped := g.now, false
		l.turn(func() { l.Stop(func() { stopped = true }) })
		require.True(t, g.until(2*time.Second, func() bool { return stopped }))
		g.off(l)
		g.leader()
		assert.Less(t, g.now-began, 50*time.Millisecond)
		g.propose("b")
	}
}

func TestStopOfALonelyLeaderEnds(t *testing.T) {
	g := newGroup(t, 2, 3, nil)
	l := g.leader()
	g.cut = func(env.NodeID, env.NodeID) bool { return true }
	stopped := false
	l.turn(func() { l.Stop(func() { stopped = true }) })
	require.True(t, g.until(3*time.Second, func() bool { return stopped }))
}

func TestLeaderWithStalledDiskHandsOver(t *testing.T) {
	g := newGroup(t, 8, 3, nil)
	g.propose("a")
	l := g.leader()
	l.disk.stalled = true
	l.turn(func() { require.NoError(t, l.Propose([]byte("b"))) })
	require.True(t, g.until(4*time.Second, func() bool { return l.Status().Role != replica.Leader }), "within three election timeouts or so")
	g.propose("c")
	l.disk.release()
	g.same(5 * time.Second)
	assert.Contains(t, l.list.entries, "b")
}

func TestDiskErrorEndsTheLife(t *testing.T) {
	g := newGroup(t, 9, 3, nil)
	g.propose("a")
	f := g.follower()
	f.disk.err = errBroken
	g.propose("b")
	require.ErrorIs(t, f.fatal, errBroken)
	assert.True(t, f.Status().Dead)
	g.off(f)
	g.on(f)
	g.same(5 * time.Second)
}

func TestFullDiskRecovers(t *testing.T) {
	g := newGroup(t, 10, 3, func(c *replica.Config) { c.SnapshotEntries = 5 })
	g.propose("a")
	f := g.follower()
	f.disk.full = true
	for i := range 20 {
		g.propose(fmt.Sprint(i))
	}
	assert.True(t, f.Full())
	require.NoError(t, f.fatal)
	f.disk.full = false
	g.same(10 * time.Second)
	assert.False(t, f.Full())

	l := g.leader()
	l.disk.full = true
	l.turn(func() { require.NoError(t, l.Propose([]byte("last"))) })
	g.until(time.Second, func() bool { return l.Full() })
	l.turn(func() { assert.ErrorIs(t, l.Propose([]byte("refused")), env.ErrFull) })
	require.True(t, g.until(4*time.Second, func() bool { return l.Status().Role != replica.Leader }))
	l.disk.full = false
	g.same(10 * time.Second)
	assert.Contains(t, l.list.entries, "last")
	assert.NotContains(t, l.list.entries, "refused")
}

func TestMembersComeAndGo(t *testing.T) {
	for seed := range uint64(5) {
		g := newGroup(t, seed, 3, func(c *replica.Config) { c.SnapshotEntries, c.TailEntries, c.ChunkBytes = 8, 2, 64 })
		for i := range 20 {
			g.propose(fmt.Sprint(i))
		}
		l := g.leader()
		change := func(kind replica.ChangeKind, id env.NodeID) {
			require.True(t, g.until(20*time.Second, func() bool {
				l := g.leader()
				var err error
				l.turn(func() { err = l.ProposeConfChange(replica.Change{Kind: kind, ID: id}) })
				if err != nil {
					g.run(50 * time.Millisecond)
				}
				return err == nil
			}))
			g.run(200 * time.Millisecond)
		}
		l.turn(func() {
			require.ErrorIs(t, l.ProposeConfChange(replica.Change{Kind: replica.AddLearner, ID: 2}), replica.ErrMember)
			require.ErrorIs(t, l.ProposeConfChange(replica.Change{Kind: replica.Remove, ID: 9}), replica.ErrNoMember)
		})
		four := g.add(replica.Config{ID: 4, Cluster: 7, Join: true})
		change(replica.AddLearner, 4)
		l.turn(func() {
			require.ErrorIs(t, l.ProposeConfChange(replica.Change{Kind: replica.Promote, ID: 4}), replica.ErrBehind)
		})
		g.on(four)
		g.same(10 * time.Second)
		assert.Equal(t, []env.NodeID{4}, four.Status().Learners)
		change(replica.Promote, 4)
		g.same(10 * time.Second)
		assert.Equal(t, []env.NodeID{1, 2, 3, 4}, g.leader().Voters())

		gone := g.leader()
		change(replica.Remove, gone.cfg.ID)
		require.True(t, g.until(5*time.Second, func() bool { return gone.fatal != nil }), "the removed leader stops")
		require.ErrorIs(t, gone.fatal, replica.ErrRemoved)
		g.off(gone)
		g.propose("without it")
		term := g.leader().Status().Term
		require.ErrorIs(t, tryChange(g.leader(), replica.AddLearner, gone.cfg.ID), replica.ErrLeft)
		g.on(gone) // with its old disk
		g.run(10 * time.Second)
		assert.Equal(t, term, g.leader().Status().Term, "a removed member disturbs nobody")
		require.ErrorIs(t, gone.fatal, replica.ErrRemoved, "and learns that it is one")
		g.off(gone)
		g.same(5 * time.Second)
	}
}

func tryChange(m *member, kind replica.ChangeKind, id env.NodeID) (err error) {
	m.turn(func() { err = m.ProposeConfChange(replica.Change{Kind: kind, ID: id}) })
	return err
}

func TestRemovedMemberThatMissedItIsTold(t *testing.T) {
	g := newGroup(t, 3, 3, nil)
	f := g.follower()
	g.off(f)
	require.NoError(t, tryChange(g.leader(), replica.Remove, f.cfg.ID))
	g.run(time.Second)
	g.on(f)
	require.True(t, g.until(10*time.Second, func() bool { return f.fatal != nil }))
	require.ErrorIs(t, f.fatal, replica.ErrRemoved)
}

func TestEmptiedDiskIsRefused(t *testing.T) {
	g := newGroup(t, 3, 3, nil)
	for i := range 5 {
		g.propose(fmt.Sprint(i))
	}
	f := g.follower()
	g.off(f)
	f.disk.files = map[string][]byte{}
	g.on(f)
	g.until(10*time.Second, func() bool { return f.fatal != nil })
	if f.fatal == nil {
		assert.Empty(t, f.list.entries, "not heard, since its incarnation is not new")
	} else {
		assert.ErrorContains(t, f.fatal, "remove the member and add it anew")
	}
}

func TestSameSeedSameRun(t *testing.T) {
	trace := func() string {
		g := newGroup(t, 42, 3, func(c *replica.Config) { c.SnapshotEntries = 5; c.ElectionTicks = 10 })
		g.loss = 0.1
		var b bytes.Buffer
		g.log = func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
		for i := range 20 {
			g.propose(fmt.Sprint(i))
		}
		g.off(g.leader())
		g.propose("x")
		return b.String()
	}
	assert.Equal(t, trace(), trace())
}

func TestBadConfig(t *testing.T) {
	for name, c := range map[string]replica.Config{
		"no id":            {Cluster: 1, Fatal: func(error) {}},
		"no fatal":         {ID: 1, Voters: []env.NodeID{1}},
		"not among voters": {ID: 1, Voters: []env.NodeID{2, 3}, Fatal: func(error) {}},
		"one tick":         {ID: 1, Voters: []env.NodeID{1}, ElectionTicks: 1, Fatal: func(error) {}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1)
			_, err := replica.Open(c, w.host(1).env(), &list{})
			require.ErrorContains(t, err, "replica: configure")
		})
	}
}

func TestFormerLeaderAnswersNoRead(t *testing.T) {
	overlaps := 0
	for seed := range uint64(20) {
		g := newGroup(t, seed, 3, nil)
		g.propose("old")
		old := g.leader()
		g.run(time.Duration(g.rng.Int64N(int64(time.Second))))
		g.cut = func(from, to env.NodeID) bool { return (from == old.cfg.ID) != (to == old.cfg.ID) }
		g.propose("new")
		if old.Status().Role != replica.Leader {
			continue
		}
		overlaps++ // it does not know yet
		old.turn(func() {
			old.ReadIndex(func() { assert.Contains(t, old.list.entries, "new", "seed %d", seed) })
		})
		g.run(3 * time.Second)
		g.cut = func(env.NodeID, env.NodeID) bool { return false }
		g.run(3 * time.Second)
	}
	assert.Positive(t, overlaps)
}

// A lone voter that starts again answers a learner only once it has committed an
// entry of its own term: before, it may not know all that it acknowledged.
func TestLoneVoterAnswersLearnerAfterRestart(t *testing.T) {
	for seed := range uint64(30) {
		g := newGroup(t, seed, 1, nil)
		voter := g.leader()
		learner := g.add(replica.Config{ID: 2, Cluster: 7, Join: true})
		require.NoError(t, tryChange(voter, replica.AddLearner, 2))
		g.on(learner)
		g.same(10 * time.Second)
		g.cut = func(env.NodeID, env.NodeID) bool { return true }
		g.propose("a")
		g.off(voter)
		g.on(voter)
		g.cut = func(env.NodeID, env.NodeID) bool { return false }
		g.sync = 50 * time.Millisecond
		seen := false
		for range 40 {
			learner.turn(func() {
				learner.ReadIndex(func() {
					seen = true
					assert.Contains(t, learner.list.entries, "a", "seed %d", seed)
				})
			})
			g.run(20 * time.Millisecond)
		}
		require.True(t, g.until(5*time.Second, func() bool { return seen }))
	}
}
