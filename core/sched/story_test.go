package sched

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/unit"
)

// story is a picture and short words for what it is told.
type story struct {
	*State
	t *testing.T
}

func tell(t *testing.T, machines ...string) story {
	s := story{New(Options{}), t}
	for _, m := range machines {
		s.machine(m)
	}
	return s
}

// machine takes "a disk=ssd cap:memory=2G cordoned draining".
func (s story) machine(words string) {
	f := strings.Fields(words)
	m := Machine{ID: f[0], Metadata: map[string]string{}}
	for _, w := range f[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch capacity, isCapacity := strings.CutPrefix(w, "cap:"); {
		case isCapacity:
			q, err := unit.ParseQuantities(capacity)
			require.NoError(s.t, err)
			m.Capacity = append(m.Capacity, q...)
		case w == "cordoned":
			m.Cordoned = true
		case w == "draining":
			m.Cordoned, m.Draining = true, true
		default:
			m.Metadata[key] = value
		}
	}
	s.SetMachine(m)
}

// unit takes the lines of [X-Fleet].
func (s story) unit(name string, lines ...string) Unit {
	f, err := unit.Parse("[X-Fleet]\n"+strings.Join(lines, "\n")+"\n", unit.DefaultLineMax)
	require.NoError(s.t, err)
	p, err := f.Placement(name)
	require.NoError(s.t, err)
	u := Unit{Name: name, Place: p, State: unit.Launched}
	s.SetUnit(u)
	return u
}

// plan expects decisions such as "a.service >m1", "b.service m1>m2".
func (s story) plan(want ...string) {
	s.t.Helper()
	var have []string
	for _, d := range s.Plan() {
		have = append(have, d.Unit+" "+d.From+">"+d.To)
	}
	assert.Equal(s.t, want, have)
}

// again tells of a unit what the picture has, with a change.
func (s story) again(name string, change func(u *Unit)) {
	u := s.units[name].Unit
	change(&u)
	s.SetUnit(u)
}

func TestGlobalsAsCaptured(t *testing.T) {
	s := tell(t, "m1 disk=ssd", "m2 disk=hdd", "m3 disk=ssd")
	s.unit("g1.service", "Global=true", "MachineMetadata=disk=ssd")
	s.unit("g2.service", "Conflicts=g1.service")
	s.plan("g2.service >m2")
	s.unit("g3.service", "Global=true", "Conflicts=g2.service")
	s.plan()
	assert.Equal(t, []string{"g1.service", "g3.service"}, s.GlobalsOn("m1"))
	assert.Empty(t, s.GlobalsOn("m2"))
	assert.Equal(t, Explanation{
		Unit: "g3.service", Why: "global: it runs on 2 machines", Able: 2, Refusals: []Refusal{{"Conflicts=g2.service", 1}},
	}, s.Explain("g3.service"))
	s.machine("m4 disk=ssd")
	s.plan()
	assert.Equal(t, []string{"g1.service", "g3.service"}, s.GlobalsOn("m4"))
	s.again("g1.service", func(u *Unit) { u.State = unit.Inactive })
	s.plan()
	assert.Equal(t, []string{"g3.service"}, s.GlobalsOn("m4"))
}

func TestFollowersGoWhereTheyMust(t *testing.T) {
	s := tell(t, "m1", "m2")
	s.unit("c.service", "MachineOf=b.service")
	s.unit("b.service", "MachineOf=a.service")
	s.unit("me.service", "MachineOf=me.service")
	s.unit("ping.service", "MachineOf=pong.service")
	s.unit("pong.service", "MachineOf=ping.service")
	s.plan()
	s.unit("a.service")
	s.plan("a.service >m1", "b.service >m1", "c.service >m1")
	s.RemoveMachine("m1")
	s.plan("a.service m1>m2", "b.service m1>m2", "c.service m1>m2")
	s.RemoveUnit("a.service")
	s.plan("b.service m2>", "c.service m2>")
	assert.Equal(t, "no machine qualifies: 1 tried, 1 MachineOf=pong.service", s.Explain("ping.service").Why)
}

func TestReplacedUnitsYieldOrStay(t *testing.T) {
	s := tell(t, "m1 disk=ssd", "m2 disk=hdd")
	s.unit("a.service", "MachineMetadata=disk=ssd")
	s.plan("a.service >m1")
	s.unit("b.service", "Replaces=a.service", "MachineMetadata=disk=ssd")
	s.plan()
	assert.Equal(t, "no machine qualifies: 2 tried, 1 MachineMetadata=disk=ssd, 1 Replaces: what is there cannot leave", s.Explain("b.service").Why)
	s.machine("m3 disk=ssd cordoned")
	s.plan()
	s.machine("m3 disk=ssd")
	s.plan("b.service >m3")

	s = tell(t, "m1", "m2")
	s.unit("a.service")
	s.unit("z.service")
	s.plan("a.service >m1", "z.service >m2")
	s.unit("b.service", "Replaces=a.service")
	s.plan("a.service m1>m2", "b.service >m1")
}

func TestADrainMovesWhatCanMove(t *testing.T) {
	s := tell(t, "m1 disk=ssd", "m2 disk=hdd")
	s.unit("a.service")
	s.plan("a.service >m1")
	s.unit("side.service", "MachineOf=a.service")
	s.unit("pinned.service", "MachineMetadata=disk=ssd")
	s.plan("pinned.service >m1", "side.service >m1")
	s.machine("m1 disk=ssd draining")
	s.plan("a.service m1>m2", "side.service m1>m2")
	assert.Equal(t, []Stuck{{"pinned.service", "m1", "", "no machine qualifies: 1 tried, 1 MachineMetadata=disk=ssd"}}, s.Stuck())
	s.plan()
	s.machine("m3 disk=ssd")
	s.plan("pinned.service m1>m3")
	assert.Empty(t, s.Stuck())
}

func TestACordonedMachineKeepsWhatItHas(t *testing.T) {
	s := tell(t, "m1", "m2")
	s.unit("a.service")
	s.plan("a.service >m1")
	s.machine("m1 cordoned")
	s.unit("b.service")
	s.unit("c.service")
	s.plan("b.service >m2", "c.service >m2")
	assert.Equal(t, []Refusal{{"cordoned", 1}}, s.Explain("b.service").Refusals)
}

func TestMovesThatAreAskedFor(t *testing.T) {
	s := tell(t, "m1", "m2", "m3 cordoned")
	s.unit("a.service")
	s.unit("b.service", "Conflicts=c.service")
	s.unit("c.service")
	s.plan("a.service >m1", "b.service >m2", "c.service >m1")
	s.again("a.service", func(u *Unit) { u.Move = "m2" })
	s.again("b.service", func(u *Unit) { u.Move = "m1" })
	s.plan("a.service m1>m2")
	assert.Equal(t, []Stuck{{"b.service", "m2", "m1", "Conflicts=c.service"}}, s.Stuck())
	s.again("a.service", func(u *Unit) { u.Move = "m3" })
	s.plan()
	assert.Equal(t, "it was asked to move to m3, and cannot: cordoned", s.Explain("a.service").Why)
}

func TestTwoThatAreTiedAndAskedApartStay(t *testing.T) {
	s := tell(t, "m1", "m2", "m3")
	s.unit("a.service")
	s.unit("b.service", "MachineOf=a.service")
	s.plan("a.service >m1", "b.service >m1")
	s.again("a.service", func(u *Unit) { u.Move = "m2" })
	s.again("b.service", func(u *Unit) { u.Move = "m3" })
	s.plan()
	require.Len(t, s.Stuck(), 2)
	assert.Equal(t, "b.service, which has to be with it, was asked to move to m3", s.Stuck()[0].Why)
	s.again("b.service", func(u *Unit) { u.Move = "" })
	s.plan("a.service m1>m2", "b.service m1>m2")
}

func TestASingletonMovesInTwoSteps(t *testing.T) {
	s := tell(t, "m1", "m2")
	s.unit("one.service", "Singleton=true")
	s.plan("one.service >m1")
	s.again("one.service", func(u *Unit) { u.Held, u.Move = "m1", "m2" })
	s.plan("one.service m1>")
	s.plan()
	s.again("one.service", func(u *Unit) { u.Held = "" })
	s.plan("one.service >m2")
	s.again("one.service", func(u *Unit) { u.Held, u.Move = "m2", "" })
	s.machine("m2 draining")
	s.plan("one.service m2>")
	assert.Equal(t, "no machine qualifies: 2 tried, 1 Singleton: m2 has not let go of it, 1 drained", s.Explain("one.service").Why)
	s.RemoveMachine("m2")
	s.plan()
	s.again("one.service", func(u *Unit) { u.Held = "" })
	s.plan("one.service >m1")
}

func TestResources(t *testing.T) {
	s := tell(t, "m1 cap:memory=2G,cpu=2", "m2 cap:memory=4G,cpu=2", "m3")
	s.unit("a.service", "Resources=memory=2G")
	s.unit("b.service", "Resources=memory=2G")
	s.unit("c.service", "Resources=memory=2G cpu=500m")
	s.unit("d.service", "Resources=memory=2G")
	s.plan("a.service >m1", "b.service >m2", "c.service >m2")
	assert.Equal(t, "no machine qualifies: 3 tried, 2 Resources=memory=2G: too little is free, 1 Resources=memory=2G: memory is not announced",
		s.Explain("d.service").Why)
	s.machine("m2 cap:memory=1G,cpu=2")
	s.plan() // what runs stays
	s.RemoveUnit("a.service")
	s.plan("d.service >m1")
}

func TestWishes(t *testing.T) {
	s := tell(t, "m1 zone=a cap:memory=2G", "m2 zone=a disk=ssd cap:memory=8G", "m3 zone=b cap:memory=4G")
	s.unit("s@1.service", "Spread=zone")
	s.unit("s@2.service", "Spread=zone")
	s.unit("s@3.service", "Spread=zone")
	s.plan("s@1.service >m1", "s@2.service >m3", "s@3.service >m2")
	s.unit("p.service", "Prefer=disk=ssd")
	s.plan("p.service >m2")
	s.unit("free.service", "MostFree=true", "Resources=memory=1G")
	s.plan("free.service >m2")
	s.unit("x@1.service", "MaxPerMachine=1")
	s.unit("x@2.service", "MaxPerMachine=1")
	s.unit("x@3.service", "MaxPerMachine=1")
	s.unit("x@4.service", "MaxPerMachine=1")
	s.plan("x@1.service >m1", "x@2.service >m3", "x@3.service >m2")
	s.unit("big.service", "Weight=10")
	s.plan("big.service >m1")
	s.unit("y.service")
	s.plan("y.service >m3")
}

func TestRebalance(t *testing.T) {
	s := tell(t, "m1 disk=ssd")
	for i := range 6 {
		s.unit(fmt.Sprintf("u%d.service", i))
	}
	s.unit("pinned.service", "MachineMetadata=disk=ssd")
	s.plan("pinned.service >m1", "u0.service >m1", "u1.service >m1", "u2.service >m1", "u3.service >m1", "u4.service >m1", "u5.service >m1")
	s.machine("m2")
	s.plan()
	preview := s.Clone().Rebalance(100)
	require.Len(t, preview, 3)
	assert.Equal(t, Decision{"u0.service", "m1", "m2", "evens out: from a load of 7 to one of 0"}, preview[0])
	assert.Len(t, s.Rebalance(2), 2)
	assert.Equal(t, preview[2:], s.Rebalance(2))
	assert.Empty(t, s.Rebalance(2))
	s.plan()
}

// TestDecisionsOfOnePassSeeEachOther fails where the bug is planted that this is about; in
// builds that can plant it, it shows that it does.
func TestDecisionsOfOnePassSeeEachOther(t *testing.T) {
	together := func() bool {
		s := tell(t, "m1", "m2 x=y", "m3")
		s.unit("a@1.service", "Conflicts=a@*.service", "MachineMetadata=x=y")
		s.unit("a@2.service", "Conflicts=a@*.service", "MachineMetadata=x=y")
		return len(s.Plan()) == 2
	}
	assert.False(t, together())
	if planted.Plant(planted.ConflictsByOwnView) {
		defer planted.Plant(planted.None)
		assert.True(t, together())
	}
}

// TestRebalancingHelps holds for any picture: within the budget, to where units may be, and
// so that the most loaded machine has no more than before and the next plan undoes nothing.
func TestRebalancingHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pair{New(Options{}), newReference()}
		for range rapid.IntRange(5, 30).Draw(t, "events") {
			p.disturb(t, true)
		}
		p.plain.plan()
		p.state.Plan()
		most := func() int {
			n := 0
			for _, h := range p.state.slotted {
				if h != nil && h.alive {
					n = max(n, h.load)
				}
			}
			return n
		}
		before, budget := most(), rapid.IntRange(0, 5).Draw(t, "budget")
		ds := p.state.Rebalance(budget)
		require.LessOrEqual(t, len(ds), budget)
		require.LessOrEqual(t, most(), before)
		for _, d := range ds {
			p.plain.units[d.Unit].Machine = d.To
		}
		for _, d := range ds {
			require.True(t, p.plain.mayStay(p.plain.units[d.Unit]), "%v", d)
		}
		require.Equal(t, bare(p.plain.plan()), bare(p.state.Plan()))
	})
}

// TestAPassMovesOnlyWhatMayNotStay: without units that replace others or that were asked
// to move, a unit leaves its machine only where it may not stay, or where one that it must
// be with has left. When a machine dies, nothing moves but what was on it, and that once.
func TestAPassMovesOnlyWhatMayNotStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pair{New(Options{}), newReference()}
		for range rapid.IntRange(5, 40).Draw(t, "events") {
			p.disturb(t, true)
		}
		for _, u := range p.plain.byName() {
			told := *u
			told.Held, told.Move, told.Place = "", "", tidy(*u).Place
			plain := *told.Place
			plain.Replaces, told.Place = nil, &plain
			p.setUnit(told)
		}
		for _, id := range someIDs {
			if m := p.plain.machines[id]; m != nil {
				m := *m
				m.Draining = false
				p.setMachine(m)
			}
		}
		before := p.plain.copy()
		left := map[string]bool{}
		ds := p.state.Plan()
		p.plain.plan()
		for _, d := range ds {
			left[d.Unit] = d.From != ""
		}
		for _, d := range ds {
			u := before.units[d.Unit]
			excused := d.From == "" || !before.mayStay(u) || slices.ContainsFunc(u.Place.Peers, func(p string) bool {
				return left[p] || before.units[p].Place.Global
			})
			require.True(t, excused, "%v could have stayed", d)
		}

		id := rapid.SampledFrom(someIDs).Draw(t, "dies")
		on := len(p.plain.on(id))
		p.removeMachine(id)
		ds = slices.DeleteFunc(p.state.Plan(), func(d Decision) bool { return d.From == "" }) // a follower that waited
		require.LessOrEqual(t, len(ds), on)
		for _, d := range ds {
			require.Equal(t, id, d.From, "%v", d)
		}
	})
}
