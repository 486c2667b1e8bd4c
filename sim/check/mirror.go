package check

import (
	"fmt"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/mirror"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/sim"
)

// mirrorsKept is how many of the last states mirrors are compared with.
const mirrorsKept = 5000

// Mirrors is the oracle of what proxies copy for their controllers: each view is
// what the members were at that index, and none is older than the one before.
type Mirrors struct {
	c      *sim.Cluster
	truths map[string]*truth // by cluster
	last   map[*sim.Machine]*copied
}

// truth is the states of one cluster.
type truth struct {
	all   *store.Copy
	index store.Index
	at    map[store.Index]*store.View
	early []*copied // views of an index that no member was seen at yet
}

// copied is a view of a machine's mirror.
type copied struct {
	m    *sim.Machine
	life int
	view *mirror.View
}

// WatchMirrors puts the oracle in place.
func WatchMirrors(c *sim.Cluster) *Mirrors {
	o := &Mirrors{c: c, truths: map[string]*truth{}, last: map[*sim.Machine]*copied{}}
	c.OnTurn(o.turn)
	return o
}

func (o *Mirrors) truth(cluster string) *truth {
	t := o.truths[cluster]
	if t == nil {
		t = &truth{at: map[store.Index]*store.View{}}
		o.truths[cluster] = t
	}
	return t
}

func (o *Mirrors) turn(m *sim.Machine) {
	if n := sim.NodeOf(m); n != nil {
		t := o.truth(strconv.FormatUint(n.Cluster(), 16))
		if t.learn(n.View()) {
			early := t.early
			t.early = nil
			for _, x := range early {
				o.judge(t, x)
			}
		}
	}
	d := sim.DaemonOf(m)
	if d == nil || d.Mirror() == nil {
		return
	}
	v, _ := d.View().(*mirror.View)
	was := o.last[m]
	if v == nil || was != nil && was.view == v {
		return
	}
	x := &copied{m, m.Life(), v}
	if was != nil && was.life == x.life && v.Index() < was.view.Index() {
		o.c.Fail(Mirrored, "%s: the mirror's index went from %d to %d", m.Name(), was.view.Index(), v.Index())
	}
	o.last[m] = x
	o.judge(o.truth(d.Mirror().Cluster()), x)
}

// learn takes what a member has applied beyond what was seen before; false where that
// is nothing.
func (t *truth) learn(v *store.View) bool {
	if t.all != nil && v.Index() <= t.index {
		return false
	}
	events := v.Events(t.index + 1)
	if t.all == nil || len(events) == 0 || events[0].Index != t.index+1 {
		t.all, t.at = store.NewCopy(), map[store.Index]*store.View{}
		v.Whole("/", func(n *store.Node) {
			if err := t.all.Put(n, v.Time()); err != nil {
				panic(err) // a store lists itself soundly
			}
		})
		events = nil
	}
	for _, e := range events {
		if err := t.all.Apply(e, v.Time()); err != nil {
			panic(err)
		}
		t.at[e.Index] = t.all.View(e.Index, v.Time())
		delete(t.at, e.Index-mirrorsKept)
	}
	t.index = v.Index()
	t.at[t.index] = t.all.View(t.index, v.Time())
	return true
}

func (o *Mirrors) judge(t *truth, x *copied) {
	truth := t.at[x.view.Index()]
	switch {
	case truth == nil && x.view.Index() > t.index:
		t.early = append(t.early, x)
		return
	case truth == nil:
		return
	}
	o.c.Mark("check: mirror compared with the members")
	for _, p := range x.view.Prefixes() {
		want, have := shown(truth, p), shown(x.view, p)
		for i := range max(len(want), len(have)) {
			if i >= len(want) || i >= len(have) || want[i] != have[i] {
				o.c.Fail(Mirrored, "%s: at index %d the mirror shows %s below %s, the members had %s",
					x.m.Name(), x.view.Index(), nth(have, i), p, nth(want, i))
				return
			}
		}
	}
}

// row is what a mirror must show of a key.
type row struct {
	key, value        string
	dir               bool
	created, modified store.Index
	expires           int64
}

func (r row) String() string {
	return fmt.Sprintf("%s=%q dir=%t %d/%d expires=%d", r.key, r.value, r.dir, r.created, r.modified, r.expires)
}

// shown is every key below a prefix.
func shown(v interface {
	Whole(string, func(*store.Node))
}, prefix string,
) (list []row) {
	v.Whole(prefix, func(n *store.Node) {
		if n.Key != "/" {
			list = append(list, row{n.Key, n.Value, n.Dir, n.Created, n.Modified, n.Expires})
		}
	})
	return list
}

func nth(list []row, i int) string {
	if i < len(list) {
		return list[i].String()
	}
	return "nothing"
}

// syncedMax is how long mirrors may need in calm: they notice that a connection is
// lost, wait, and list again.
const syncedMax = 30 * time.Second

// Synced waits until every mirror of a process that runs is up to date.
func Synced(c *sim.Cluster) bool {
	late := func() string {
		for _, m := range c.Machines() {
			d := sim.DaemonOf(m)
			if d != nil && d.Mirror() != nil && !d.Mirror().Synced() {
				return fmt.Sprintf("%s (%v)", m.Name(), d.Mirror().Err())
			}
		}
		return ""
	}
	if !wait(c, syncedMax, func() bool { return late() == "" }) {
		return fail(c, "the mirror of %s is not up to date %v after the end of trouble", late(), syncedMax)
	}
	return true
}
