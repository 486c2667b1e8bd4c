package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
)

// comparer finds members whose state has become another.
//
// Log time is the same on all members, so each takes the hash of its state at the same
// entries: of all that happened (the chain) whenever log time passes a multiple of
// CompareEvery, of all that is stored (the whole) at multiples of HashEvery, from an
// immutable view and outside the loop. They tell each other, and each judges itself:
// one that differs from what a majority of the voters agrees on stops for good. Where
// no majority agrees nobody is stopped, and everybody says so.
type comparer struct {
	n       *Node
	records [hashKinds][]*record // by index, oldest first
	last    [hashKinds]int64     // multiple of the period that log time has passed
	epoch   int                  // rises when the state is replaced: hashes under way are void
	timer   env.Timer            // until what was told is told again
	tries   int
	due     bool // log time must move on, because a hash is due
	wake    env.Timer

	agreed  uint64 // raft index up to which all voters were seen to agree
	differs uint64 // records in which somebody differed
}

// hashKind is what a hash sums up.
type hashKind byte

const (
	hashChain hashKind = iota // everything that happened
	hashWhole                 // everything that is stored
	hashKinds
)

func (k hashKind) String() string { return [...]string{"history", "content"}[k] }

// record is what members say about their state at one entry.
type record struct {
	index  uint64
	own    uint64
	known  bool // own is
	heard  []opinion
	told   bool // that somebody differs
	closed bool // all voters have spoken
}

type opinion struct {
	from env.NodeID
	hash uint64
}

const (
	recordsMax     = 32 // of a kind
	compareVersion = format.Hashes
	// compareMark begins a message of hashes; commands begin with the version of
	// their codec.
	compareMark  = 0xc0
	resendHashes = 5 * time.Second
	resendMax    = 12
)

// DivergedError says that this member's state is another than that of the others.
// The member must never take part again with what it has.
type DivergedError struct {
	Index         uint64 // raft index
	Kind          string // of the hash
	Have, Want    uint64
	Agree, Voters int // so many of the voters have Want
}

// Error names the place and both hashes.
func (e *DivergedError) Error() string {
	return fmt.Sprintf("state diverged: at log entry %d the hash of the %s is %016x here and %016x on %d of %d voting members: this member must be rebuilt from the others",
		e.Index, e.Kind, e.Have, e.Want, e.Agree, e.Voters)
}

func (c *comparer) period(k hashKind) time.Duration {
	if k == hashChain {
		return c.n.cfg.CompareEvery
	}
	return c.n.cfg.HashEvery
}

// alone says that there is nobody to compare with.
func (c *comparer) alone() bool {
	s := c.n.replica.Voters()
	return len(s) == 0 || len(s) == 1 && s[0] == c.n.cfg.ID
}

// applied follows an entry: it takes the hashes that are due at it.
func (c *comparer) applied(index uint64) {
	now := int64(c.n.store.Time())
	for k := range hashKinds {
		at := now / int64(c.period(k))
		if at == c.last[k] {
			continue
		}
		c.last[k] = at
		if c.alone() {
			continue
		}
		if k == hashChain {
			c.note(k, index, c.n.store.Chain())
		} else {
			c.take(index)
		}
	}
}

// take hashes the whole state outside the loop.
func (c *comparer) take(index uint64) {
	if !c.n.replica.Ready() {
		return // entries of an earlier life are applied again
	}
	c.due = false
	view, epoch := c.n.store.View(), c.epoch
	var hash uint64
	c.n.env.Work.Run(func() { hash = view.Hash() }, func() {
		if epoch == c.epoch && !c.n.inert() {
			c.note(hashWhole, index, hash)
		}
	})
}

// note takes down this member's own hash and tells the others.
func (c *comparer) note(k hashKind, index, hash uint64) {
	r := c.at(k, index)
	if r == nil || r.known {
		return
	}
	r.own, r.known = hash, true
	c.judge(k, r)
	if c.n.replica.Ready() && !c.n.inert() {
		c.tries = 0
		c.tell()
	}
}

// at gives the record of an entry, nil where it is too old to keep.
func (c *comparer) at(k hashKind, index uint64) *record {
	list := c.records[k]
	i, found := slices.BinarySearchFunc(list, index, func(r *record, x uint64) int { return cmp.Compare(r.index, x) })
	switch {
	case found:
		return list[i]
	case i == 0 && len(list) >= recordsMax:
		return nil
	}
	r := &record{index: index}
	list = slices.Insert(list, i, r)
	if len(list) > recordsMax {
		list = list[1:]
	}
	c.records[k] = list
	return r
}

// newest is the last record of a kind with a hash of this member's own.
func (c *comparer) newest(k hashKind) *record {
	for i := len(c.records[k]) - 1; i >= 0; i-- {
		if c.records[k][i].known {
			return c.records[k][i]
		}
	}
	return nil
}

// tell sends the newest hash of each kind to all others, and again later as long as
// somebody has not been heard of.
func (c *comparer) tell() {
	p := []byte{compareMark, compareVersion}
	open := false
	for k := range hashKinds {
		if r := c.newest(k); r != nil {
			p = append(p, byte(k))
			p = binary.AppendUvarint(p, r.index)
			p = binary.LittleEndian.AppendUint64(p, r.own)
			open = open || !r.closed
		}
	}
	st := c.n.replica.Status()
	for _, id := range slices.Concat(st.Voters, st.Learners) {
		c.n.replica.Send(id, p)
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.tries++; open && c.tries < resendMax {
		c.timer = c.n.env.Clock.After(resendHashes, func() {
			c.timer = nil
			if !c.n.inert() {
				c.tell()
			}
		})
	}
}

var errHashes = errors.New("malformed hashes")

// hear takes what another member tells.
func (c *comparer) hear(from env.NodeID, p []byte) error {
	if len(p) < 2 || p[1] != compareVersion {
		return errHashes
	}
	for p = p[2:]; len(p) > 0; {
		k := hashKind(p[0])
		index, n := binary.Uvarint(p[1:])
		if k >= hashKinds || n <= 0 || len(p) < 1+n+8 {
			return errHashes
		}
		hash := binary.LittleEndian.Uint64(p[1+n:])
		p = p[1+n+8:]
		if r := c.at(k, index); r != nil && r.hears(from, hash) {
			c.judge(k, r)
		}
	}
	return nil
}

// hears adds an opinion, and says whether it is news.
func (r *record) hears(from env.NodeID, hash uint64) bool {
	if slices.ContainsFunc(r.heard, func(o opinion) bool { return o.from == from }) {
		return false
	}
	r.heard = append(r.heard, opinion{from, hash})
	return true
}

// judge looks at what is known about one entry.
func (c *comparer) judge(k hashKind, r *record) {
	if !r.known || c.n.inert() || planted.On(planted.DivergenceIgnored) {
		return
	}
	voters := c.n.replica.Voters()
	opinions := r.heard
	if slices.Contains(voters, c.n.cfg.ID) {
		opinions = append(slices.Clone(r.heard), opinion{c.n.cfg.ID, r.own})
	}
	spoken, hash, agree := tally(voters, opinions)
	differ := slices.ContainsFunc(r.heard, func(o opinion) bool { return o.hash != r.own })
	r.closed = spoken == len(voters)
	switch {
	case !differ:
		if r.closed {
			c.agreed = max(c.agreed, r.index)
		}
	case 2*agree <= len(voters):
		c.undecided(k, r, opinions, len(voters))
	case hash != r.own:
		c.n.env.Rare.Mark("node: diverged")
		c.n.die(&DivergedError{r.index, k.String(), r.own, hash, agree, len(voters)})
	default:
		c.accuse(k, r)
	}
}

// tally counts the voters that have spoken, and finds the hash most of them have.
func tally(voters []env.NodeID, opinions []opinion) (spoken int, hash uint64, agree int) {
	for _, o := range opinions {
		if !slices.Contains(voters, o.from) {
			continue
		}
		spoken++
		n := 0
		for _, p := range opinions {
			if p.hash == o.hash && slices.Contains(voters, p.from) {
				n++
			}
		}
		if n > agree || n == agree && o.hash < hash {
			hash, agree = o.hash, n
		}
	}
	return spoken, hash, agree
}

// undecided says that nobody knows who is right. It is said again when all have
// spoken.
func (c *comparer) undecided(k hashKind, r *record, opinions []opinion, voters int) {
	if !r.told {
		c.differs++
	}
	if r.told && !r.closed {
		return
	}
	r.told = true
	text := ""
	for _, o := range opinions {
		text += fmt.Sprintf(" %v=%016x", o.from, o.hash)
	}
	c.n.env.Rare.Mark("node: states differ without a majority")
	what := "states of members differ; waiting for a majority to agree"
	if r.closed {
		what = "states of members differ and no majority agrees: compare them by hand and replace the wrong ones"
	}
	c.n.env.Log.Log(env.Error, what, "id", c.n.cfg.ID, "index", r.index, "kind", k, "voters", voters, "hashes", text[1:])
}

// accuse names members that differ from the majority that this one belongs to.
func (c *comparer) accuse(k hashKind, r *record) {
	if !r.told {
		c.differs++
	}
	r.told = true
	for _, o := range r.heard {
		if o.hash != r.own {
			c.n.env.Log.Log(env.Error, "another member has diverged", "id", c.n.cfg.ID, "member", o.from, "index", r.index, "kind", k,
				"hash", fmt.Sprintf("%016x", o.hash), "want", fmt.Sprintf("%016x", r.own))
		}
	}
}

// restored follows a state that was replaced: what was said about the former one is
// no longer this member's word.
func (c *comparer) restored() {
	c.epoch++
	c.records = [hashKinds][]*record{}
	for k := range hashKinds {
		c.last[k] = int64(c.n.store.Time()) / int64(c.period(k))
	}
}

// keep sees to it, on the leader, that log time passes the next multiple of HashEvery
// even if nobody writes.
func (c *comparer) keep() {
	_, leading := c.n.replica.Leading()
	if !leading || c.n.inert() || c.alone() {
		c.due = false
		if c.wake != nil {
			c.wake.Stop()
			c.wake = nil
		}
		return
	}
	if c.wake != nil || c.due {
		return
	}
	every := int64(c.n.cfg.HashEvery)
	next := (int64(c.n.store.Time())/every + 1) * every
	wait := max(time.Duration(next-int64(c.n.logTime())), time.Second)
	c.wake = c.n.env.Clock.After(wait, func() {
		c.wake = nil
		now := c.n.logTime()
		c.due = int64(now)/every > int64(c.n.store.Time())/every
	})
}

// moved follows a batch that was proposed.
func (c *comparer) moved(t store.Time) {
	if c.due && t > c.n.store.Time() {
		c.due = false
	}
}

func (c *comparer) stop() {
	for _, t := range []env.Timer{c.timer, c.wake} {
		if t != nil {
			t.Stop()
		}
	}
	c.timer, c.wake = nil, nil
}
