package mirror

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/store"
)

// Config says what is mirrored and whom to ask.
type Config struct {
	// Prefixes are clean keys. With each goes all that is below, hidden keys too.
	Prefixes []string
	// Endpoints gives the base URLs of members or proxies. It is asked again and
	// again, so it may change; Fixed makes one of a list.
	Endpoints func() []string
	// Header goes with every request.
	Header []env.WebHeader
}

// Fixed is a list of endpoints that does not change.
func Fixed(urls ...string) func() []string { return func() []string { return urls } }

// Bounds of waiting. The wait after a failure doubles from backoffMin to backoffMax
// and is stretched by up to a half.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
	connectMax = 2 * time.Second
	// headMax bounds the wait for the head of an answer, and of a listing for all of it.
	headMax = 30 * time.Second
	// silenceMax is how long nothing may come before a feed is given up. Members give
	// a sign of life every second.
	silenceMax = 5 * time.Second
	// staleMax is how long a member may be unable to say that it is up to date before
	// another one is asked.
	staleMax = 10 * time.Second
	// lineMax bounds one line.
	lineMax = 64 << 20
)

// Mirror is a copy of some prefixes. Its methods are called on the loop.
type Mirror struct {
	cfg     Config
	env     *env.Env
	cluster string // "" until one answered
	copy    *store.Copy
	told    store.Index // the copy holds every change up to it
	view    *View
	touched []*store.Event // since view
	fresh   env.Instant    // when a member last said that it is up to date
	err     error          // why there is no connection now

	from     int // the endpoint asked last, counted on without end
	talk     *talk
	listing  bool // list before anything else
	failures int
	timer    env.Timer
	follows  []*registration
	waiting  []*waiting // writes whose effect is not in the view yet
	barriers []*barrier
	talks    uint64 // counts connections
	stopped  bool
}

type registration struct {
	prefix string
	fn     func([]*store.Event)
	over   bool
}

// Open begins to copy.
func Open(cfg Config, e *env.Env) (*Mirror, error) {
	if len(cfg.Prefixes) == 0 || cfg.Endpoints == nil {
		return nil, errors.New("mirror: no prefix, or nobody to ask")
	}
	for _, p := range cfg.Prefixes {
		if !store.ValidKey(p) {
			return nil, fmt.Errorf("mirror: prefix %q is not a clean key", p)
		}
	}
	m := &Mirror{cfg: cfg, env: e, listing: true, from: e.Rand.IntN(1 << 16)}
	m.timer = e.Clock.After(0, m.begin)
	return m, nil
}

// View is the latest state, or nil before the first. It is a control.View.
func (m *Mirror) View() control.View {
	if m.view == nil {
		return nil
	}
	return m.view
}

// Changed has fn called after each later View in which something below prefix
// differs; it says "look again". Refreshes do not count.
func (m *Mirror) Changed(prefix string, fn func()) {
	m.Follow(prefix, func(events []*store.Event) {
		if events == nil || slices.ContainsFunc(events, changes) {
			fn()
		}
	})
}

// Follow has fn called after each later View with the events below prefix that led to
// it, or with nil where the view comes from a listing. Events do not tell what was there
// before. It is that of control.Source.
func (m *Mirror) Follow(prefix string, fn func([]*store.Event)) (cancel func()) {
	r := &registration{prefix: prefix, fn: fn}
	m.follows = append(m.follows, r)
	return func() {
		r.over = true
		m.follows = slices.DeleteFunc(slices.Clone(m.follows), func(have *registration) bool { return have == r })
	}
}

// Age is how long ago a member said that the view holds every write that was
// acknowledged then. False says that none ever did.
func (m *Mirror) Age() (time.Duration, bool) {
	if m.view == nil {
		return 0, false
	}
	return m.env.Clock.Now().Sub(m.fresh), true
}

// SyncedMax is the age up to which a view counts as the present one.
const SyncedMax = 5 * time.Second

// Synced reports whether the view is at most SyncedMax old.
func (m *Mirror) Synced() bool {
	age, ok := m.Age()
	return ok && age <= SyncedMax
}

// Err says why nothing is heard at the moment; nil while a feed runs.
func (m *Mirror) Err() error { return m.err }

// Cluster is the number of the cluster that is mirrored, in hex; "" before any
// member has answered.
func (m *Mirror) Cluster() string { return m.cluster }

// Stop ends everything. Writes without an outcome get none.
func (m *Mirror) Stop() {
	m.stopped = true
	m.hush()
	if m.timer != nil {
		m.timer.Stop()
	}
	for _, w := range m.waiting {
		w.timer.Stop()
	}
	for _, b := range m.barriers {
		b.timer.Stop()
	}
	m.waiting, m.barriers = nil, nil
}

// hush ends the connection.
func (m *Mirror) hush() {
	if m.talk != nil {
		m.talk.quit()
		m.talk = nil
	}
}

// endpoint is whom to ask now; "" if nobody is known.
func (m *Mirror) endpoint() string {
	urls := m.cfg.Endpoints()
	if len(urls) == 0 {
		return ""
	}
	return urls[m.from%len(urls)]
}

// begin asks for a listing, or for what followed the last state.
func (m *Mirror) begin() {
	m.timer = nil
	if m.stopped || m.talk != nil {
		return
	}
	base := m.endpoint()
	if base == "" {
		m.fail(errors.New("mirror: no endpoint is known"))
		return
	}
	q := url.Values{"prefix": m.cfg.Prefixes}
	m.talks++
	t := &talk{m: m, base: base, listing: m.listing, number: m.talks}
	if t.listing {
		t.copy = store.NewCopy()
	} else {
		q.Set("wait", "true")
		q.Set("from", strconv.FormatUint(uint64(m.told)+1, 10))
	}
	m.talk = t
	t.cancel = m.env.Web.Do(&env.WebRequest{
		Method: "GET", URL: base + "/v2/mirror?" + q.Encode(), Header: m.cfg.Header,
		Timeout: headMax, Connect: connectMax, Stream: !t.listing,
	}, t)
}

// fail ends what is under way; another endpoint is asked after a wait.
func (m *Mirror) fail(err error) {
	m.hush()
	m.err = err
	m.from++
	wait := min(backoffMin<<min(m.failures, 16), backoffMax)
	wait += time.Duration(m.env.Rand.Int64N(int64(wait)/2 + 1))
	m.failures++
	m.env.Log.Log(env.Debug, "mirror: connection lost", "reason", err, "again", wait)
	m.again(wait)
}

func (m *Mirror) again(wait time.Duration) {
	if !m.stopped && m.timer == nil {
		m.timer = m.env.Clock.After(wait, m.begin)
	}
}

// gap has the next connection begin with a listing.
func (m *Mirror) gap(why string) {
	m.env.Rare.Mark("mirror: list again")
	m.env.Log.Log(env.Info, "mirror: list again", "reason", why)
	m.listing = true
}

// belongs checks the number of the cluster that answers.
func (m *Mirror) belongs(cluster string) error {
	switch {
	case cluster == "":
		return errors.New("mirror: the answer does not say which cluster it is of")
	case m.cluster != "" && cluster != m.cluster:
		m.env.Rare.Mark("mirror: another cluster refused")
		m.env.Log.Log(env.Error, "mirror: another cluster answers and is not followed; restart this process if it took the place of the old one", "is", cluster, "was", m.cluster)
		return fmt.Errorf("mirror: cluster %s answers where cluster %s was", cluster, m.cluster)
	}
	m.cluster = cluster
	return nil
}

// replace takes a listing as the new state.
func (m *Mirror) replace(c *store.Copy, index store.Index, fresh bool) error {
	if seen := m.index(); index < seen {
		m.env.Rare.Mark("mirror: older listing refused")
		m.env.Log.Log(env.Error, "mirror: a listing is older than what was seen before, and is not used", "index", index, "seen", seen)
		return fmt.Errorf("listing at index %d, after %d was seen", index, seen)
	}
	m.copy, m.told, m.listing = c, index, false
	m.touched = nil
	m.show(index, fresh, true)
	return nil
}

// apply takes an event that follows the state.
func (m *Mirror) apply(e *store.Event) error {
	if e.Index <= m.told {
		return fmt.Errorf("event %d after index %d", e.Index, m.told)
	}
	if err := m.copy.Apply(e, m.now()); err != nil {
		return err
	}
	m.told = e.Index
	m.touched = append(m.touched, e)
	return nil
}

// reach takes the word that all up to index was told.
func (m *Mirror) reach(index store.Index, fresh bool) error {
	if index < m.told {
		return fmt.Errorf("index %d after %d", index, m.told)
	}
	m.told = index
	m.show(index, fresh, false)
	return nil
}

// now is log time as far as the time left of deadlines goes.
func (m *Mirror) now() store.Time { return store.Time(m.env.Clock.Now()) }

// show makes the copy the view, and wakes who waits for it.
func (m *Mirror) show(index store.Index, fresh, all bool) {
	if fresh {
		m.fresh = m.env.Clock.Now()
		m.failures = 0
	}
	m.err = nil
	if m.view != nil && m.view.Index() == index && !all {
		return
	}
	invariant.Check(m.view == nil || index >= m.view.Index(), "mirror: index %d after %d", index, m.told)
	m.view = &View{tree: m.copy.View(index, m.now()), prefixes: m.cfg.Prefixes}
	touched := m.touched
	m.touched = nil
	for _, r := range m.follows { // a call may add and cancel: see Follow
		r.tell(touched, all)
	}
	m.reached(index)
}

func (r *registration) tell(touched []*store.Event, all bool) {
	if r.over {
		return
	}
	if all {
		r.fn(nil)
		return
	}
	var news []*store.Event
	for _, e := range touched {
		if e.Touches(r.prefix) {
			news = append(news, e)
		}
	}
	if len(news) > 0 {
		r.fn(news)
	}
}

// changes reports whether an event is more than a new TTL. A refresh may be: one that
// asks for a directory makes one of a file, and wakes no watcher of the store.
func changes(e *store.Event) bool {
	return !e.Refresh || e.Action == store.ActionSet && e.Node.Dir
}

// View is the state at one index.
type View struct {
	tree     *store.View
	prefixes []string
}

// Index is the index of the state.
func (v *View) Index() store.Index { return v.tree.Index() }

// Prefixes are those that the view shows.
func (v *View) Prefixes() []string { return slices.Clone(v.prefixes) }

// Get shows a key as store.View does. Of a key that lies below no prefix nothing is
// known: that is an error of code 300.
func (v *View) Get(key string, recursive bool) (*store.Node, *store.Error) {
	for _, p := range v.prefixes {
		if key == p || store.Within(key, p) {
			return v.tree.Get(key, recursive)
		}
	}
	return nil, &store.Error{Code: store.CodeRaftInternal, Cause: "the mirror holds nothing of " + key, Index: v.Index()}
}

// Whole lists a prefix, as store.View does.
func (v *View) Whole(prefix string, fn func(*store.Node)) { v.tree.Whole(prefix, fn) }
