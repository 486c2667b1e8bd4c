package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
	"github.com/keelson/keelson/sim"
)

// picture is the registry as the members have it, read by the oracles' own means: the
// newest state that any member has applied.
type picture struct {
	c      *sim.Cluster
	prefix string
	index  store.Index
	judged store.Index // up to where decisions have been looked at
	keys   map[string]leaf
	order  []string // of the keys, sorted
	// touched is the machines and units of which something has changed since the last
	// look; all says that everything may have.
	all      bool
	machines map[string]bool
	units    map[string]bool
	gone     []goneClaim
	late     []string // decisions that were taken although their engine was deposed
}

// leaf is one key.
type leaf struct {
	value             string
	created, modified store.Index
}

// goneClaim is a claim that was let go of.
type goneClaim struct {
	unit, machine string
	index         store.Index
}

// doc is an assignment: of a unit to a machine, or of a global one to all.
type doc struct {
	*registry.Assignment
	leaf
	hash  string
	place *unit.Placement // nil: there is none that is valid
}

func newPicture(c *sim.Cluster, prefix string) *picture {
	return &picture{c: c, prefix: cmp.Or(prefix, registry.DefaultPrefix), keys: map[string]leaf{}, machines: map[string]bool{}, units: map[string]bool{}}
}

// learn takes what a member has applied beyond what was seen before; false where that
// is nothing.
func (p *picture) learn(v *store.View) bool {
	if v.Index() <= p.index {
		return false
	}
	events := v.Events(p.index + 1)
	if len(events) == 0 || events[0].Index != p.index+1 {
		p.index = v.Index()
		p.list(v)
		return true
	}
	p.index = v.Index()
	touched := false
	for _, e := range events {
		if strings.HasPrefix(e.Node.Key, p.prefix+"/") || strings.HasPrefix(p.prefix, e.Node.Key) {
			p.take(e)
			touched = true
		}
	}
	return touched
}

// list reads everything anew.
func (p *picture) list(v *store.View) {
	clear(p.keys)
	p.order = nil
	p.all, p.judged = true, p.index
	v.Whole(p.prefix, func(n *store.Node) {
		if !n.Dir {
			p.put(n.Key, leaf{n.Value, n.Created, n.Modified})
		}
	})
}

func (p *picture) take(e *store.Event) {
	key := e.Node.Key
	p.touch(key)
	switch {
	case removes(e):
		p.remove(key, e.Index)
	case e.Node.Dir:
	case e.Refresh:
		if l, ok := p.keys[key]; ok {
			l.modified = e.Index
			p.keys[key] = l
		}
	default:
		was := p.keys[key]
		p.lost(key, was, e.Node.Value, e.Index)
		created := e.Node.Created
		p.deposed(e)
		p.put(key, leaf{e.Node.Value, created, e.Index})
	}
}

func removes(e *store.Event) bool {
	return e.Action == store.ActionDelete || e.Action == store.ActionExpire || e.Action == store.ActionCompareAndDelete
}

func (p *picture) put(key string, l leaf) {
	if i, there := slices.BinarySearch(p.order, key); !there {
		p.order = slices.Insert(p.order, i, key)
	}
	p.keys[key] = l
}

func (p *picture) remove(key string, at store.Index) {
	for _, k := range append([]string{key}, slices.Clone(p.within(key+"/"))...) {
		i, there := slices.BinarySearch(p.order, k)
		if !there {
			continue
		}
		p.touch(k)
		p.lost(k, p.keys[k], "", at)
		p.order = slices.Delete(p.order, i, i+1)
		delete(p.keys, k)
	}
}

// within gives the keys that begin with a prefix, sorted.
func (p *picture) within(prefix string) []string {
	from, _ := slices.BinarySearch(p.order, prefix)
	to := from
	for to < len(p.order) && strings.HasPrefix(p.order[to], prefix) {
		to++
	}
	return p.order[from:to]
}

// lost notes a claim that is not its holder's any more.
func (p *picture) lost(key string, was leaf, now string, at store.Index) {
	if was.value == "" || was.value == now || !strings.HasSuffix(key, "/claim") {
		return
	}
	if e := p.split(key); len(e) == 3 && e[0] == "job" {
		p.gone = append(p.gone, goneClaim{e[1], was.value, at})
	}
}

// deposed notes a decision that is older than the lease under which it should have been
// made: whoever made it does not hold it any more.
func (p *picture) deposed(e *store.Event) {
	s := p.split(e.Node.Key)
	if !(len(s) == 4 && s[0] == "machines" && s[2] == "units") && !(len(s) == 2 && s[0] == "global") {
		return
	}
	lease, held := p.get("lease", "engine-leader")
	a, err := registry.DecodeAssignment(s[len(s)-1], e.Node.Value)
	if held && err == nil && a.Since < lease.created {
		p.late = append(p.late, fmt.Sprintf("%s was decided at index %d and taken at index %d, under the lease of index %d", e.Node.Key, a.Since, e.Index, lease.created))
	}
}

// split gives the elements of a key below the prefix.
func (p *picture) split(key string) []string {
	return strings.Split(strings.TrimPrefix(key, p.prefix+"/"), "/")
}

// touch notes whom a key concerns.
func (p *picture) touch(key string) {
	e := p.split(key)
	switch {
	case len(e) < 2:
		p.all = true
	case e[0] == "machines":
		p.machines[e[1]] = true
		if len(e) == 4 && e[2] == "units" {
			p.units[e[3]] = true
		}
	case e[0] == "global":
		p.all = true
	case e[0] == "job":
		p.units[e[1]] = true
	}
}

// look gives the machines and units to look at, sorted, and forgets them.
func (p *picture) look() (machines, units []string) {
	if p.all {
		for _, key := range p.order {
			e := p.split(key)
			switch {
			case e[0] == "machines":
				p.machines[e[1]] = true
			case e[0] == "job":
				p.units[e[1]] = true
			}
		}
	}
	machines, units = slices.Sorted(maps.Keys(p.machines)), slices.Sorted(maps.Keys(p.units))
	p.all = false
	clear(p.machines)
	clear(p.units)
	return machines, units
}

func (p *picture) get(elements ...string) (leaf, bool) {
	l, ok := p.keys[p.prefix+"/"+strings.Join(elements, "/")]
	return l, ok
}

// below gives the names right below a directory, sorted.
func (p *picture) below(elements ...string) (names []string) {
	dir := p.prefix + "/" + strings.Join(elements, "/") + "/"
	for _, key := range p.within(dir) {
		name, _, _ := strings.Cut(key[len(dir):], "/")
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	slices.Sort(names) // a name may be the beginning of another
	return slices.Compact(names)
}

// machine is what is known of a machine: its record, or nil, and what was set at run
// time. Changed is the index of the last change of what placement depends on.
func (p *picture) machine(id string) (m *registry.Machine, changed store.Index) {
	l, ok := p.get("machines", id, "object")
	if !ok {
		return nil, 0
	}
	m, err := registry.DecodeMachine(id, l.value)
	if err != nil {
		return nil, 0
	}
	changed = l.created
	m.Metadata = maps.Clone(m.Metadata)
	for _, key := range p.below("machines", id, "metadata") {
		d, _ := p.get("machines", id, "metadata", key)
		changed = max(changed, d.modified)
		if m.Metadata[key] = d.value; d.value == "" {
			delete(m.Metadata, key)
		}
	}
	if c, ok := p.get("machines", id, "cordon"); ok {
		m.Cordon = c.value
		changed = max(changed, c.modified)
	}
	return m, changed
}

// assigned gives what is assigned to a machine, by name.
func (p *picture) assigned(id string) []*doc {
	return p.docs(p.below("machines", id, "units"), func(name string) (leaf, bool) { return p.get("machines", id, "units", name) })
}

// globals gives the global units.
func (p *picture) globals() []*doc {
	return p.docs(p.below("global"), func(name string) (leaf, bool) { return p.get("global", name) })
}

func (p *picture) docs(names []string, get func(string) (leaf, bool)) (list []*doc) {
	for _, name := range names {
		l, ok := get(name)
		a, err := registry.DecodeAssignment(name, l.value)
		if !ok || err != nil {
			continue
		}
		d := &doc{Assignment: a, leaf: l}
		if f, err := unit.Parse(a.Raw, 1<<20); err == nil {
			d.hash = f.Hash().String()
			if d.place, err = f.Placement(name); err != nil {
				d.place = nil
			}
		}
		list = append(list, d)
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
