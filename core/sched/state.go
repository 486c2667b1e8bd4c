package sched

import (
	"maps"
	"slices"

	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/unit"
)

// Options is how a State differs from the default: there is nothing yet.
type Options struct{}

// limits are where a picture changes from one way of keeping something to another. Tests
// set them low.
type limits struct {
	few    int // a tally lists so many machines one by one
	search int // so many patterns look at every unit rather than have their names sorted
	idle   int // so many patterns are kept that no unit declares
	whys   int // so many reasons are kept to be used again
}

// State is the picture that plans are made from: what it was told, and the decisions of
// its own plans. What it is told costs as much as it affects, and so does the next Plan.
type State struct {
	hosts   map[string]*host
	slotted []*host // by slot; nil is a slot that is free
	ordered int     // slots before this one are in the order of IDs
	words   int     // of every set of slots
	fresh   []*host // that have no slot yet
	short   map[string][]*host
	open    slots // machines that take something new

	levels      []*level // by load, those that are not empty
	spareLevels []*level
	filters     map[string]*filter
	filterList  []*filter
	idleFilters int // how many no unit uses
	stocks      map[string]*stock
	stockList   []*stock
	byKey       map[string]*values
	epoch       int // of machines and their metadata
	patterns    patterns

	units     map[string]*item
	items     []*item
	families  map[string]*kin
	followers map[string][]*item // by what they name in MachineOf
	globals   []*item            // by name
	stale     []*host            // whose globals may be others now
	allStale  bool

	limits limits
	saved  *saved // while something is tried
	agenda
	changes
	late    []*item // planted.ConflictsByOwnView: not seen by the decisions of this plan
	scratch query
	whys    []string // by load
}

// host is a machine, or the ID of one that units are said to be on.
type host struct {
	Machine
	slot    int32 // -1 before it has one
	alive   bool
	on      []*item // assigned and wanted
	globals []*item // that run on it, by name
	barred  bool    // a global that fits does not run because of a conflict
	stale   bool
	load    int
	used    map[string]int64 // of what it announces, and of what it does not
}

// item is a unit and what belongs to it in the indexes.
type item struct {
	Unit
	weight   int
	filter   *filter
	prefer   []*filter
	declares []*pattern
	fits     []*pattern // that fit its name
	kin      *kin
	at       *host // where it is assigned and wanted
	stemAt   int   // where it stands in the list of its stem,
	itemAt   int   // of all,
	onAt     int   // of its machine,
	kinAt    int   // of those of its kin that are on a machine,
	waitAt   int   // and, from 1, of those that wait
	gone     bool

	marked  uint8 // by what it is due for
	touched bool  // by this plan
	from    string
	why     string
}

func (u *item) self() *Unit { return &u.Unit }

// ordinary reports whether the engine has to find a machine for it.
func (u *item) ordinary() bool { return u.wanted() && !u.Place.Global }

// kin is a family: the units that MaxPerMachine and Spread count together.
type kin struct {
	on []*item // those on a machine
	// counts of them by the value of a metadata key, where somebody asked
	key    string
	epoch  int
	counts map[string]int
}

// New gives an empty picture.
func New(Options) *State {
	return &State{
		limits: limits{few: 64, search: 4, idle: 1024, whys: 1024},
		hosts:  map[string]*host{}, short: map[string][]*host{}, filters: map[string]*filter{}, stocks: map[string]*stock{}, byKey: map[string]*values{},
		patterns: newPatterns(), units: map[string]*item{}, families: map[string]*kin{}, followers: map[string][]*item{},
	}
}

// Clone gives a picture of its own, to try things out on. What it is told is not told to
// the original, and the other way round.
func (s *State) Clone() *State {
	c := New(Options{})
	for _, id := range slices.Sorted(maps.Keys(s.hosts)) {
		if h := s.hosts[id]; h.alive {
			c.SetMachine(h.Machine)
		}
	}
	for _, u := range s.items {
		c.SetUnit(u.Unit)
	}
	return c
}

// Try begins an attempt: whatever is told and planned from now on is taken back by restore.
// It costs what the attempt changes, where a Clone costs the whole picture. The first plan
// of a picture that never planned looks at all of it.
func (s *State) Try() (restore func()) {
	invariant.Check(s.saved == nil, "sched: an attempt within an attempt")
	s.saved = &saved{units: map[string]*Unit{}, machines: map[string]*Machine{}}
	return func() {
		was := s.saved
		s.saved = nil
		for _, id := range slices.Sorted(maps.Keys(was.machines)) {
			if m := was.machines[id]; m != nil {
				s.SetMachine(*m)
			} else {
				s.RemoveMachine(id)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(was.units)) {
			if u := was.units[name]; u != nil {
				s.SetUnit(*u)
			} else {
				s.RemoveUnit(name)
			}
		}
	}
}

// saved is what an attempt has changed, as it was; nil is what was not there.
type saved struct {
	units    map[string]*Unit
	machines map[string]*Machine
}

func (s *State) saveUnit(name string) {
	if s.saved == nil {
		return
	}
	if _, done := s.saved.units[name]; done {
		return
	}
	s.saved.units[name] = nil
	if u := s.units[name]; u != nil {
		was := u.Unit
		s.saved.units[name] = &was
	}
}

func (s *State) saveMachine(id string) {
	if s.saved == nil {
		return
	}
	if _, done := s.saved.machines[id]; done {
		return
	}
	s.saved.machines[id] = nil
	if h := s.hosts[id]; h != nil && h.alive {
		was := h.Machine
		s.saved.machines[id] = &was
	}
}

// SetMachine tells of a machine that is alive, or of what has changed about it. It keeps
// what it is given.
func (s *State) SetMachine(m Machine) {
	s.saveMachine(m.ID)
	h := s.host(m.ID)
	if h.alive && sameMachine(&h.Machine, &m) {
		return
	}
	if h.alive && h.slot >= 0 {
		s.leave(h)
	}
	h.Machine, h.alive = m, true
	s.epoch++
	if h.slot >= 0 {
		s.enter(h)
		s.reopen(h)
		s.takeStock(h)
		for _, f := range s.filterList {
			f.look(h)
		}
	}
	s.spoil(h)
	s.rouseAll(h.on)
	s.rouseAll(s.waiting)
}

// RemoveMachine tells that a machine is gone. Its units are decided again.
func (s *State) RemoveMachine(id string) {
	s.saveMachine(id)
	h := s.hosts[id]
	if h == nil || !h.alive {
		return
	}
	if h.slot >= 0 {
		s.leave(h)
	}
	h.alive = false
	s.epoch++
	s.reopen(h)
	s.admit(h)
	s.commit()
	s.rouseAll(h.on)
	for _, w := range s.waiting {
		if w.Move == id {
			s.rouse(w)
		}
	}
}

// SetUnit tells of a unit as it is: where the picture has it elsewhere, because a decision
// was not carried out, what is told here counts. It keeps what it is given.
func (s *State) SetUnit(told Unit) {
	s.saveUnit(told.Name)
	if told.Place == nil {
		told.Place = anything()
	}
	u := s.units[told.Name]
	if u == nil {
		u = &item{Unit: told, itemAt: len(s.items)}
		s.items = append(s.items, u)
		s.units[u.Name] = u
		s.patterns.enter(u)
		s.learn(u)
		s.settleUnit(u)
		return
	}
	if sameUnit(&u.Unit, &told) {
		return
	}
	same := samePlacement(u.Place, told.Place)
	if same && u.Machine == told.Machine && u.wanted() == told.wanted() {
		u.Unit = told
		s.rouse(u)
		if u.at != nil {
			s.rouseAll(s.group(u)) // who goes with it may have waited for it
		}
		return
	}
	s.withdraw(u)
	if !same {
		s.unlearn(u)
	}
	u.Unit = told
	if !same {
		s.learn(u)
	}
	s.settleUnit(u)
}

// settleUnit puts a unit where it is said to be, from outside.
func (s *State) settleUnit(u *item) {
	if u.Place.Global {
		s.globals = insert(s.globals, u)
		s.allStale = true
	}
	s.attach(u)
	if u.at != nil {
		s.spoil(u.at)
		s.rouseAll(u.at.on) // whom it may be in the way of
	}
	s.rouse(u)
	s.rouseFollowers(u)
}

// RemoveUnit tells that a unit is no more.
func (s *State) RemoveUnit(name string) {
	s.saveUnit(name)
	u := s.units[name]
	if u == nil {
		return
	}
	s.withdraw(u)
	s.unlearn(u)
	s.patterns.leave(u)
	s.unwait(u)
	u.gone = true
	delete(s.units, name)
	last := len(s.items) - 1
	s.items[u.itemAt] = s.items[last]
	s.items[u.itemAt].itemAt = u.itemAt
	s.items[last] = nil
	s.items = s.items[:last]
	s.rouseFollowers(u)
	s.tidy()
}

// withdraw takes a unit out of the picture, from outside.
func (s *State) withdraw(u *item) {
	if u.Place.Global {
		s.globals = slices.DeleteFunc(s.globals, func(g *item) bool { return g == u })
		for _, h := range s.slotted {
			if h != nil && slices.Contains(h.globals, u) {
				h.globals = slices.DeleteFunc(slices.Clone(h.globals), func(g *item) bool { return g == u })
				s.absent(u, h)
			}
		}
		s.allStale = true
		s.rouseRelated(u)
	}
	if h := u.at; h != nil {
		s.detach(u)
		s.spoil(h)
		s.rouseRelated(u)
	}
}

func insert(list []*item, u *item) []*item {
	at, _ := slices.BinarySearchFunc(list, u.Name, func(o *item, name string) int {
		switch {
		case o.Name < name:
			return -1
		case o.Name > name:
			return 1
		}
		return 0
	})
	return slices.Insert(list, at, u)
}

// learn makes what a unit asks for ready for use.
func (s *State) learn(u *item) {
	p := u.Place
	u.weight = u.Unit.weight()
	u.declares = s.patterns.intern(p.Replaces, true, s.patterns.intern(p.Conflicts, false, nil))
	u.filter = s.filter(p.Metadata)
	u.prefer = nil
	for _, c := range p.Prefer {
		u.prefer = append(u.prefer, s.filter([]unit.Condition{c}))
	}
	for _, peer := range p.Peers {
		s.followers[peer] = append(s.followers[peer], u)
	}
	name := family(u.Name)
	if u.kin = s.families[name]; u.kin == nil {
		u.kin = &kin{}
		s.families[name] = u.kin
	}
}

func (s *State) unlearn(u *item) {
	s.patterns.release(u.declares)
	s.dropFilter(u.filter)
	for _, f := range u.prefer {
		s.dropFilter(f)
	}
	for _, peer := range u.Place.Peers {
		list := slices.DeleteFunc(s.followers[peer], func(o *item) bool { return o == u })
		if s.followers[peer] = list; len(list) == 0 {
			delete(s.followers, peer)
		}
	}
}

// host gives the machine of an ID, which may be nothing but the ID.
func (s *State) host(id string) *host {
	h := s.hosts[id]
	if h == nil {
		h = &host{Machine: Machine{ID: id}, slot: -1}
		s.hosts[id] = h
		s.fresh = append(s.fresh, h)
		if len(id) >= shortID {
			s.short[id[:shortID]] = append(s.short[id[:shortID]], h)
		}
	}
	return h
}

// attach counts a unit where it is assigned, if it is wanted.
func (s *State) attach(u *item) {
	if u.Machine == "" || !u.ordinary() {
		return
	}
	s.attachTo(u, s.host(u.Machine))
}

func (s *State) attachTo(u *item, h *host) {
	u.at = h
	u.onAt = len(h.on)
	h.on = append(h.on, u)
	u.kinAt = len(u.kin.on)
	u.kin.on = append(u.kin.on, u)
	s.recount(u, 1)
	s.present(u, h)
}

// detach is the reverse.
func (s *State) detach(u *item) {
	h := u.at
	if h == nil {
		return
	}
	s.absent(u, h)
	s.recount(u, -1)
	last := len(h.on) - 1
	h.on[u.onAt] = h.on[last]
	h.on[u.onAt].onAt = u.onAt
	h.on[last] = nil
	h.on = h.on[:last]
	last = len(u.kin.on) - 1
	u.kin.on[u.kinAt] = u.kin.on[last]
	u.kin.on[u.kinAt].kinAt = u.kinAt
	u.kin.on[last] = nil
	u.kin.on = u.kin.on[:last]
	u.at = nil
}

// recount keeps the counts of Spread.
func (s *State) recount(u *item, by int) {
	k := u.kin
	if k.counts == nil {
		return
	}
	if k.epoch != s.epoch {
		k.counts = nil
		return
	}
	if u.at.alive {
		k.counts[u.at.Metadata[k.key]] += by
	}
}

// crowd gives how many of a family are on machines, by their value of a key.
func (s *State) crowd(k *kin, key string) map[string]int {
	if k.counts != nil && k.key == key && k.epoch == s.epoch {
		return k.counts
	}
	k.key, k.epoch, k.counts = key, s.epoch, map[string]int{}
	for _, u := range k.on {
		if u.at.alive {
			k.counts[u.at.Metadata[key]]++
		}
	}
	return k.counts
}

// present counts a unit, ordinary or global, on a machine.
func (s *State) present(u *item, h *host) {
	s.weigh(h, u.weight)
	for _, q := range u.Place.Resources {
		s.use(h, q, 1)
	}
	if h.slot < 0 {
		return
	}
	if planted.On(planted.ConflictsByOwnView) && s.planning {
		s.late = append(s.late, u)
		return
	}
	s.count(u, h)
}

func (s *State) count(u *item, h *host) {
	for _, p := range u.fits {
		p.hosts.add(h.slot, s)
	}
	for _, p := range u.declares {
		p.declarers.add(h.slot, s)
	}
}

// absent is the reverse.
func (s *State) absent(u *item, h *host) {
	s.refused.u = nil
	if planted.On(planted.ConflictsByOwnView) {
		s.catchUp()
	}
	s.weigh(h, -u.weight)
	for _, q := range u.Place.Resources {
		s.use(h, q, -1)
	}
	if h.slot < 0 {
		return
	}
	for _, p := range u.fits {
		p.hosts.del(h.slot)
	}
	for _, p := range u.declares {
		p.declarers.del(h.slot)
	}
}

// catchUp counts what the planted bug has kept from the decisions of a plan.
func (s *State) catchUp() {
	late := s.late
	s.late = nil
	for _, u := range late {
		if u.at != nil && u.at.slot >= 0 {
			s.count(u, u.at)
		}
	}
}

// reopen says whether a machine takes something new.
func (s *State) reopen(h *host) {
	if h.slot < 0 {
		return
	}
	s.open.del(h.slot)
	if h.alive && !h.Cordoned && !h.Draining {
		s.open.add(h.slot)
	}
}

// spoil says that the globals of a machine may be others now.
func (s *State) spoil(h *host) {
	if !h.stale && len(s.globals)+len(h.globals) > 0 {
		h.stale = true
		s.stale = append(s.stale, h)
	}
}

// settle makes the indexes ready for questions.
func (s *State) settle() {
	if s.forget() || len(s.fresh) > len(s.slotted)-s.taken() {
		s.renumber()
	}
	for _, h := range s.fresh {
		s.give(h)
	}
	s.fresh = s.fresh[:0]
	s.introduce()
	if s.allStale {
		for _, h := range s.slotted {
			if h != nil && h.alive {
				s.admit(h)
			}
		}
	}
	for _, h := range s.stale {
		h.stale = false
		s.admit(h)
	}
	s.stale, s.allStale = s.stale[:0], false
	s.commit()
}

// taken is how many slots have been given out: those for machines still to come are last.
func (s *State) taken() int {
	n := len(s.slotted)
	for n > s.ordered && s.slotted[n-1] == nil {
		n--
	}
	return n
}

// give gives a machine the next slot, and counts there what is on it.
func (s *State) give(h *host) {
	if h.slot >= 0 {
		return
	}
	h.slot = int32(s.taken())
	s.slotted[h.slot] = h
	s.recountHost(h)
}

func (s *State) recountHost(h *host) {
	if h.alive {
		s.enter(h)
	}
	s.reopen(h)
	s.takeStock(h)
	for _, name := range slices.Sorted(maps.Keys(h.used)) {
		s.stock(name).used[h.slot] = h.used[name]
	}
	for _, f := range s.filterList {
		f.look(h)
	}
	for _, u := range h.on {
		s.count(u, h)
	}
	for _, g := range h.globals {
		s.count(g, h)
	}
}

// renumber gives out all slots anew, in the order of the IDs, with a word of them to
// spare. Machines that are gone and have no units are forgotten.
func (s *State) renumber() {
	ids := slices.Sorted(maps.Keys(s.hosts))
	s.slotted = s.slotted[:0]
	for _, id := range ids {
		if h := s.hosts[id]; h.alive || len(h.on) > 0 {
			s.slotted = append(s.slotted, h)
			continue
		}
		s.dropHost(s.hosts[id])
	}
	s.words = (len(s.slotted)+63)/64 + 1
	s.ordered = (s.words - 1) * 64
	live := len(s.slotted)
	s.slotted = append(s.slotted, make([]*host, s.words*64-live)...)
	s.open, s.levels, s.spareLevels, s.byKey = newSlots(s.words), nil, nil, map[string]*values{}
	s.scratch, s.stocks, s.stockList = query{}, map[string]*stock{}, nil
	for _, f := range s.filterList {
		f.fits = newSlots(s.words)
	}
	for _, u := range s.items {
		for _, ps := range [...][]*pattern{u.fits, u.declares} {
			for _, p := range ps {
				p.hosts, p.declarers = tally{}, tally{}
			}
		}
	}
	for i, h := range s.slotted[:live] {
		h.slot = int32(i)
	}
	for _, h := range s.slotted[:live] {
		s.recountHost(h)
	}
	s.fresh = s.fresh[:0]
}

func (s *State) dropHost(h *host) {
	delete(s.hosts, h.ID)
	h.slot = -1
	if len(h.ID) >= shortID {
		key := h.ID[:shortID]
		s.short[key] = slices.DeleteFunc(s.short[key], func(o *host) bool { return o == h })
	}
}

// admit finds the globals of a machine again.
func (s *State) admit(h *host) {
	var here []*item
	h.barred = false
	if h.alive && len(s.globals) > 0 {
		here, h.barred = admitted(&h.Machine, h.on, s.globals, against)
	}
	if slices.Equal(here, h.globals) {
		return
	}
	before := h.globals
	h.globals = here
	for _, g := range before {
		if !slices.Contains(here, g) {
			s.absent(g, h)
			s.shaken = append(s.shaken, g)
		}
	}
	for _, g := range here {
		if !slices.Contains(before, g) {
			s.present(g, h)
			s.shaken = append(s.shaken, g)
		}
	}
}

// GlobalsOn gives the names of the global units that run on a machine, in their order.
func (s *State) GlobalsOn(id string) []string {
	s.settle()
	var names []string
	if h := s.hosts[id]; h != nil {
		for _, g := range h.globals {
			names = append(names, g.Name)
		}
	}
	return names
}

func (s *State) names() []string {
	names := make([]string, len(s.items))
	for i, u := range s.items {
		names[i] = u.Name
	}
	slices.Sort(names)
	return names
}
