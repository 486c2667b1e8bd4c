package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

var keys = Keys{DefaultPrefix}

func file(t require.TestingT, text string) *unit.File {
	f, err := unit.Parse(text, 0)
	require.NoError(t, err)
	return f
}

func set(key, value string) store.Command {
	return store.Command{Op: store.OpSet, Key: key, Value: value}
}

const hello = "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/true\n"

func TestModelOfOneUnit(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w)
	var last Change
	m.OnChange(func(c Change) { last = c })
	assert.True(t, m.Ready())

	f := file(t, hello)
	w.Commit(m.Create("a.service", f, unit.Inactive)...)
	w.Run(time.Second, nil)
	assert.Equal(t, []string{"a.service"}, last.Units)
	u := m.Unit("a.service")
	require.NotNil(t, u)
	assert.Equal(t, unit.Inactive, u.Desired)
	assert.Equal(t, f.Hash(), u.Hash)
	assert.Equal(t, unit.Inactive, m.Current(u))
	assert.Equal(t, []string{"a.service"}, m.Names())

	w.Commit(m.Desire(u, unit.Launched))
	w.Commit(set(keys.Target("a.service"), "m1"), set(keys.MachineObject("m1"), EncodeMachine(&Machine{ID: "m1"})))
	w.Commit(set(keys.State("a.service", "m1"), EncodeState(&UnitState{Load: "loaded", Active: "active", Sub: "running", MachineID: "m1", Hash: u.Hash.String()})))
	w.Run(time.Second, nil)
	assert.Equal(t, []Pair{{"a.service", "m1"}}, last.States)
	assert.Equal(t, unit.Loaded, m.Current(m.Unit("a.service")))
	assert.Equal(t, unit.Inactive, u.Desired, "what was handed out stays as it was")
	w.Commit(set(keys.JobState("a.service"), "m1"))
	w.Run(time.Second, nil)
	assert.Equal(t, unit.Launched, m.Current(m.Unit("a.service")))
	assert.Equal(t, []string{"a.service"}, m.LaunchedBy("m1"))
	w.Commit(store.Command{Op: store.OpDelete, Key: keys.MachineObject("m1")})
	w.Run(time.Second, nil)
	assert.Equal(t, []string{"m1"}, last.Machines)
	assert.Equal(t, unit.Inactive, m.Current(m.Unit("a.service")), "a machine that is not alive says nothing")
	assert.Empty(t, m.States("a.service"))
	assert.Len(t, m.StatesOf("m1"), 1)

	w.Commit(m.Destroy(m.Unit("a.service"))...)
	w.Run(time.Second, nil)
	assert.Nil(t, m.Unit("a.service"))
	assert.Equal(t, []unit.Hash{f.Hash()}, last.Unused)
	var left []string
	for _, l := range m.Leftovers("a.service") {
		left = append(left, strings.TrimPrefix(l.Key, keys.Job("a.service")+"/"))
	}
	assert.Equal(t, []string{"target", "job-state"}, left)
}

// A machine that only gives a sign of life changes nothing but the time of its last one.
func TestBeatsAreNoChange(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w)
	w.Commit(store.Command{Op: store.OpSet, Key: keys.MachineObject("m1"), Value: EncodeMachine(&Machine{ID: "m1"}), HasTTL: true, TTL: time.Minute})
	w.Run(time.Second, nil)
	was := m.Machine("m1").Modified
	m.OnChange(func(c Change) { t.Errorf("told of %+v", c) })
	w.Commit(store.Command{Op: store.OpUpdate, Key: keys.MachineObject("m1"), Refresh: true, HasTTL: true, TTL: time.Minute})
	w.Run(time.Second, nil)
	assert.Greater(t, m.Machine("m1").Modified, was)
}

func TestBadDocumentsAreNamedOnce(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w)
	for _, c := range []store.Command{
		set(keys.Object("a.service"), "null"), set(keys.Object("b"), EncodeObject("b", unit.Hash{})),
		set(keys.State("a.service", "m1"), "{"), set(keys.MachineObject("m1"), "[]"), set(keys.Prefix+"/unit/xyz", "{}"),
		set(keys.TargetState("c.service"), "running"), set(keys.Object("c.service"), EncodeObject("c.service", unit.Hash{})),
		set(keys.Assignment("m1", "a.service"), `{"State":"inactive"}`),
	} {
		w.Commit(c)
	}
	w.Run(time.Second, nil)
	assert.Len(t, w.Lines, 7, "%q", w.Lines)
	w.Members[0].Reread()
	w.Commit(set(keys.State("a.service", "m1"), "{"))
	w.Run(time.Second, nil)
	assert.Equal(t, []string{"c.service"}, m.Names())
	assert.Equal(t, unit.Inactive, m.Unit("c.service").Desired)
	assert.Nil(t, m.Unit("c.service").File)
	assert.Contains(t, w.Lines[0], keys.Object("a.service"))
}

// Two that make a unit of one name at a time: one of them does, and the other changes
// nothing.
func TestCreateIsWholeOrNothing(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w)
	for _, left := range []bool{false, true} {
		a := m.Create("a.service", file(t, hello), unit.Loaded)
		b := m.Create("a.service", file(t, hello+"Restart=always\n"), unit.Launched)
		assert.Nil(t, last(w.Commit(a...)).Err)
		assert.Contains(t, []store.Code{store.CodeExists, store.CodeCompareFailed}, last(w.Commit(b...)).Err.Code)
		w.Run(time.Second, nil)
		u := m.Unit("a.service")
		assert.Equal(t, unit.Loaded, u.Desired, "%v", left)
		assert.Equal(t, file(t, hello).Hash(), u.Hash)
		w.Commit(store.Command{Op: store.OpDelete, Key: keys.Object("a.service")}) // leaves the state
		w.Run(time.Second, nil)
	}
}

// Two that change one unit at a time: one of them does, whole, and the other changes
// nothing but contents that nobody has.
func TestChangesAreWholeOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := controltest.New(1, 1)
		m := Open(w.Members[0], keys, w)
		w.Commit(m.Create("a.service", file(t, hello), unit.Loaded)...)
		if rapid.Bool().Draw(t, "foreign") { // a program of others has set the state
			w.Commit(store.Command{Op: store.OpSet, Key: keys.TargetState("a.service"), Value: "launched"})
		}
		w.Run(time.Second, nil)
		u := m.Unit("a.service")
		change := func(name string) []store.Command {
			desired := rapid.SampledFrom([]unit.State{unit.Inactive, unit.Loaded, unit.Launched}).Draw(t, name+" desired")
			switch rapid.IntRange(0, 2).Draw(t, name) {
			case 0:
				return m.Replace(u, file(t, hello+"Restart="+name+"\n"), desired)
			case 1:
				return []store.Command{m.Desire(u, desired)}
			default:
				return m.Destroy(u)
			}
		}
		a, b := change("first"), change("second")
		for _, r := range w.Commit(a...) {
			require.Nil(t, r.Err)
		}
		w.Run(time.Second, nil)
		after := m.Unit("a.service")
		for i, r := range w.Commit(b...) {
			if !strings.HasPrefix(b[i].Key, keys.Prefix+"/unit/") {
				require.NotNil(t, r.Err, "%+v after %+v", b[i], a)
			}
		}
		w.Run(time.Second, nil)
		require.Equal(t, after, m.Unit("a.service"))
		require.Empty(t, m.Leftovers("a.service"))
	})
}

func last(rs []store.Result) store.Result { return rs[len(rs)-1] }

// picture is all that a model shows.
func picture(m *Model) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, u := range m.Units() {
		add("unit %s %s %v %v %v %v %v %v %v %v %v", u.Name, u.Hash, u.File, u.Desired, u.Target, u.Launcher, u.Claim, u.Move, u.Place, u.PlaceErr, m.Current(u))
		add("at %d %d %d %d %d %d %d", u.Created, u.ObjectIndex, u.DesiredIndex, u.TargetIndex, u.LauncherIndex, u.ClaimIndex, u.MoveIndex)
	}
	for _, x := range m.Machines() {
		add("machine %+v %v %v", *x, len(m.StatesOf(x.ID)), m.AssignedTo(x.ID))
	}
	for _, name := range m.Jobs() {
		add("left %s %v", name, m.Leftovers(name))
	}
	for _, name := range m.Stated() {
		for _, id := range m.StatedAt(name) {
			add("state %+v alive %v", *m.states.rows[name][id], m.State(name, id) != nil)
		}
	}
	for _, name := range unionSorted(m.assigned.rows, m.assigned.rows) {
		for _, id := range m.Assigned(name) {
			d, _ := m.Assignment(name, id)
			add("assigned %s %s %+v %d", name, id, d.Assignment, d.Index)
		}
	}
	for _, id := range []string{"m1", "m2"} {
		add("by %s %v %v", id, m.LaunchedBy(id), m.ClaimedBy(id))
	}
	add("unused %v version %d", m.Unused(), m.Version())
	l, created, modified := m.Lease()
	add("lease %v %d %d", l, created, modified)
	return lines
}

// anyKey draws a key that is in the registry, near it or above.
func anyKey(t *rapid.T) string {
	name := rapid.SampledFrom([]string{"a.service", "_b.service", "bad"}).Draw(t, "name")
	id := rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "id")
	all := []string{
		keys.Object(name), keys.TargetState(name), keys.Target(name), keys.JobState(name), keys.Claim(name), keys.Move(name),
		keys.Contents(file(t, hello).Hash()), keys.Contents(unit.Hash{1}), keys.State(name, id), keys.MachineObject(id),
		keys.Metadata(id, "k"), keys.Cordon(id), keys.Assignment(id, name), keys.Global(name), keys.EngineLease(), keys.EngineVersion(),
		keys.Prefix + "/state/" + name, keys.Prefix + "/unit/zz",
	}
	key := rapid.SampledFrom(all).Draw(t, "key")
	for range max(rapid.IntRange(-6, 4).Draw(t, "up"), 0) {
		if at := strings.LastIndexByte(key, '/'); at > 0 {
			key = key[:at]
		}
	}
	if rapid.IntRange(0, 19).Draw(t, "below") == 0 {
		key += "/x"
	}
	return key
}

func anyValue(t *rapid.T) string {
	id := rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "of")
	h := rapid.SampledFrom([]unit.Hash{{1}, file(t, hello).Hash()}).Draw(t, "hash")
	return rapid.SampledFrom([]string{
		EncodeObject("a.service", h), EncodeContents(hello), EncodeContents("no unit\n[x"), "loaded", "launched", "inactive", id, id, "7",
		EncodeState(&UnitState{MachineID: id, Active: "active"}), EncodeMachine(&Machine{ID: id, Metadata: map[string]string{"a": "b"}}),
		EncodeAssignment(&Assignment{Raw: hello, State: unit.Loaded, Since: 3}), EncodeLease(Lease{id, 1}), "", "null", "{}", "\xff",
	}).Draw(t, "value")
}

// Whatever happens to the keys, the model is what a new one of the same view is, and what
// it tells names all that is different.
func TestModelIsAFunctionOfTheView(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := controltest.New(1, 1)
		src := w.Members[0]
		m := Open(src, keys, w)
		units, machines := map[string]*Unit{}, map[string]*Machine{}
		m.OnChange(func(c Change) {
			if c.All {
				clear(units)
				clear(machines)
				for _, u := range m.Units() {
					units[u.Name] = u
				}
				for _, x := range m.Machines() {
					machines[x.ID] = x
				}
				return
			}
			for _, name := range c.Units {
				if units[name] = m.Unit(name); units[name] == nil {
					delete(units, name)
				}
			}
			for _, id := range c.Machines {
				if machines[id] = m.Machine(id); machines[id] == nil {
					delete(machines, id)
				}
			}
		})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			var cs []store.Command
			for range rapid.IntRange(1, 4).Draw(t, "commands") {
				c := store.Command{Op: store.OpSet, Key: anyKey(t), Value: anyValue(t)}
				switch rapid.IntRange(0, 7).Draw(t, "op") {
				case 0:
					c = store.Command{Op: store.OpDelete, Key: c.Key, Dir: true, Recursive: true}
				case 1:
					c.Dir, c.Value = true, ""
				case 2:
					c.HasTTL, c.TTL = true, time.Duration(rapid.IntRange(0, 3).Draw(t, "ttl"))*time.Second
				case 3:
					c.Refresh, c.HasTTL, c.TTL = true, true, time.Second
				}
				cs = append(cs, c)
			}
			w.Commit(cs...)
			w.Run(time.Duration(rapid.IntRange(0, 2).Draw(t, "pause"))*time.Second, nil)
		}
		fresh := Open(src, keys, w)
		require.Equal(t, picture(fresh), picture(m))
		for _, u := range m.Units() {
			was := units[u.Name]
			require.NotNil(t, was)
			require.True(t, sameUnit(was, u))
			delete(units, u.Name)
		}
		require.Empty(t, units)
		for _, x := range m.Machines() {
			require.True(t, machines[x.ID] != nil && sameMachine(machines[x.ID], x), x.ID)
			delete(machines, x.ID)
		}
		require.Empty(t, machines)
		m.index = 0
		src.Reread()
		require.Equal(t, picture(fresh), picture(m))
	})
}

// A worker's model shows its own part, and is not touched by what happens elsewhere.
func TestModelOfAWorker(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w, keys.Worker("m1")...)
	told := 0
	m.OnChange(func(Change) { told++ })
	w.Commit(set(keys.Assignment("m2", "a.service"), EncodeAssignment(&Assignment{State: unit.Loaded})), set(keys.Target("a.service"), "m2"))
	w.Run(time.Second, nil)
	assert.Zero(t, told)
	w.Commit(set(keys.Assignment("m1", "a.service"), EncodeAssignment(&Assignment{State: unit.Loaded, Raw: hello})))
	w.Commit(set(keys.Global("g.service"), EncodeAssignment(&Assignment{State: unit.Launched})))
	w.Run(time.Second, nil)
	assert.Positive(t, told)
	assert.Equal(t, []string{"a.service"}, m.AssignedTo("m1"))
	assert.Equal(t, []string{"g.service"}, m.AssignedTo(""))
}

func TestUnitsOfAThousandMachines(t *testing.T) {
	w := controltest.New(1, 1)
	m := Open(w.Members[0], keys, w)
	var cs []store.Command
	f := file(t, hello)
	for i := range 10_000 {
		cs = append(cs, set(keys.Object(fmt.Sprintf("u%d.service", i)), EncodeObject("", f.Hash())))
	}
	w.Commit(cs...)
	w.Run(time.Second, nil)
	assert.Len(t, m.Units(), 10_000)
	assert.True(t, slices.IsSorted(m.Names()))
	touched := 0
	m.OnChange(func(c Change) { touched += len(c.Units) })
	w.Commit(set(keys.TargetState("u17.service"), "launched"))
	w.Run(time.Second, nil)
	assert.Equal(t, 1, touched)
}
