package node

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
)

// A change of the members that a client asks for is a command of this node like any
// other: it has a number, waits until it is seen applied or its time is up, is sent to
// the leader, and again to the next. The leader makes of it what goes into the log, a
// change of the group that carries the record of the member under that number, or says
// no. So a change is carried out once at most, whoever leads, and a refusal changed
// nothing.

// changes are what members ask of this node, the leader, oldest first. One is carried
// out after the other.
type changes struct {
	list []*change
}

// change is one of them.
type change struct {
	gateway.MemberChange
	id      store.ID
	settled uint64 // as in store.Command

	// The leader's.
	since env.Instant
	begun bool // it is in the log, or was dropped on its way there
}

// changesMax bounds what waits. Who is not taken asks again.
const changesMax = 64

// ChangeMembers has a change carried out; see gateway.Membership.
func (n *Node) ChangeMembers(c gateway.MemberChange, done func(gateway.MemberOutcome)) {
	n.change(c, n.env.Clock.Now().Add(n.cfg.Timeout), done)
}

func (n *Node) change(c gateway.MemberChange, until env.Instant, done func(gateway.MemberOutcome)) {
	q := &n.commands
	switch {
	case n.inert():
		done(gateway.MemberOutcome{Refusal: &gateway.MemberRefusal{Status: 503, Message: causeStopped}})
		return
	case n.left:
		done(gateway.MemberOutcome{Refusal: &gateway.MemberRefusal{Status: 503, Message: causeRemoved}})
		return
	case q.count >= n.cfg.PendingMax:
		done(gateway.MemberOutcome{Refusal: &gateway.MemberRefusal{Status: 503, Message: causeTooMany}})
		return
	}
	q.list = append(q.list, &command{
		until: until, changes: n.info.changes, size: commandOverhead, refused: func(no *gateway.MemberRefusal) { done(gateway.MemberOutcome{Refusal: no}) },
		change: &change{MemberChange: c, id: store.ID{Node: n.cfg.ID, Incarnation: n.replica.Incarnation(), Number: q.next}},
		done:   func(res store.Result) { n.changed(c, until, res, done) },
	})
	q.next++
	q.count++
	q.bytes += commandOverhead
}

// changed tells a client how its change ended.
func (n *Node) changed(c gateway.MemberChange, until env.Instant, res store.Result, done func(gateway.MemberOutcome)) {
	switch {
	case res.Err != nil && res.Err.Code.Status() >= 500:
		done(gateway.MemberOutcome{Unknown: res.Err.Cause})
	case res.Err != nil && c.Kind == gateway.UpdateMember:
		n.change(c, until, done) // the member has said something else meanwhile
	case res.Event != nil && (c.Kind == gateway.AddMember || c.Kind == gateway.ReplaceMember):
		id, _ := memberOf(res.Event.Node.Key)
		done(gateway.MemberOutcome{Member: n.member(id)})
	default:
		done(gateway.MemberOutcome{})
	}
}

// send brings a change to the leader.
func (n *Node) sendChange(leader env.NodeID, c *change) {
	c.settled = n.commands.first
	if leader == n.cfg.ID {
		n.takeChange(c)
		return
	}
	n.replica.Send(leader, c.encode())
	n.commands.sentAt = n.env.Clock.Now()
}

// takeChange puts a change behind those that wait here.
func (n *Node) takeChange(c *change) {
	q := &n.changes
	if len(q.list) >= changesMax || n.store.Applied(c.id) ||
		slices.ContainsFunc(q.list, func(o *change) bool { return o.id == c.id }) {
		return
	}
	own := *c
	own.since = n.env.Clock.Now()
	q.list = append(q.list, &own)
}

// tendMembers moves changes on, on the leader: those that were asked for, then those
// that follow from them.
func (n *Node) tendMembers() {
	if _, ok := n.replica.Leading(); !ok {
		return
	}
	q := &n.changes
	for len(q.list) > 0 {
		c := q.list[0]
		switch {
		case n.store.Applied(c.id), n.env.Clock.Now().Sub(c.since) > n.cfg.Timeout:
		case c.begun && (c.Kind == gateway.UpdateMember || n.replica.Changing()):
			return // on its way
		case !n.carryOut(c):
			return
		}
		q.list = q.list[1:]
	}
	n.followUp()
}

// carryOut puts a change into the log or refuses it. False means that it stays where
// it is: it is on its way, or cannot be judged yet.
func (n *Node) carryOut(c *change) bool {
	no, err := n.begin(c)
	var quorum *replica.QuorumError
	switch {
	case no == nil && err == nil:
		c.begun = true
		return false
	case errors.Is(err, replica.ErrChanging), errors.Is(err, replica.ErrBusy), errors.Is(err, replica.ErrNotLeader):
		return false
	case errors.As(err, &quorum) && n.env.Clock.Now().Sub(c.since) < n.cfg.election():
		return false // a leader that is new has not heard of everybody
	}
	if err != nil {
		no = n.refusal(c, err)
	}
	n.env.Log.Log(env.Warn, "change of members refused", "status", no.Status, "reason", no.Message)
	n.sayNo(c, no)
	return true
}

// begin proposes a change. Either a refusal or an error says why it does not.
func (n *Node) begin(c *change) (*gateway.MemberRefusal, error) {
	old := n.member(c.ID)
	if c.Kind != gateway.AddMember && !n.isMember(c.ID) {
		if n.replica.Left(c.ID) {
			return &gateway.MemberRefusal{Status: 410, Message: fmt.Sprintf("Member permanently removed: %v", c.ID)}, nil
		}
		return &gateway.MemberRefusal{Status: 404, Message: fmt.Sprintf("No such member: %v", c.ID)}, nil
	}
	if c.Repair && n.takesPart(c.ID) {
		return &gateway.MemberRefusal{Status: 409, Message: fmt.Sprintf("member %v takes part and needs no repair: whoever wants another in its place says so on a client URL", c.ID)}, nil
	}
	if c.Kind == gateway.ReplaceMember {
		if by := n.replacement(c.ID); by != 0 {
			return &gateway.MemberRefusal{Status: 409, Message: fmt.Sprintf("member %v is being replaced by %v already: start that one, or, if its disk is gone too, replace it by its ID", c.ID, by)}, nil
		}
		if len(c.PeerURLs) == 0 {
			c.PeerURLs = old.PeerURLs
		}
	}
	for _, m := range n.members() {
		same := c.ID != 0 && (n.standsFor(m.ID, c.ID) || n.standsFor(c.ID, m.ID))
		if !same && overlap(m.PeerURLs, c.PeerURLs) {
			return &gateway.MemberRefusal{Status: 409, Message: "etcdserver: peerURL exists"}, nil
		}
	}
	if no := n.crowded(c.Kind); no != nil {
		return no, nil
	}
	return nil, n.proposeMember(c)
}

// Learners cost the leader what members cost, and nobody is to make it pay for many:
// learnersMax bounds adding. A replacement repairs, so it is let in beyond, up to
// replacementsMax: learners that nobody starts do not keep a broken member broken.
const (
	learnersMax     = 3
	replacementsMax = 6
)

// crowded refuses another member where too many do not vote yet.
func (n *Node) crowded(kind gateway.ChangeKind) *gateway.MemberRefusal {
	most := map[gateway.ChangeKind]int{gateway.AddMember: learnersMax, gateway.ReplaceMember: replacementsMax}[kind]
	learners := n.replica.Group().Learners
	if most == 0 || len(learners) < most {
		return nil
	}
	return &gateway.MemberRefusal{Status: 409, Message: fmt.Sprintf("%d members do not vote yet: %v: start them and wait, or remove those that are not wanted, before another is added", len(learners), learners)}
}

// proposeMember puts into the log what was asked for and found to make sense.
func (n *Node) proposeMember(c *change) error {
	switch c.Kind {
	case gateway.AddMember, gateway.ReplaceMember:
		id := n.newMember(c.PeerURLs)
		a := attributes{PeerURLs: c.PeerURLs, ClientURLs: []string{}}
		if c.Kind == gateway.ReplaceMember {
			a.Replaces = c.ID.String()
		}
		return n.proposeConf(replica.Change{Kind: replica.AddLearner, ID: id},
			store.Command{Op: store.OpSet, Key: memberKey(id), Value: a.text(), ID: c.id, Settled: c.settled})
	case gateway.UpdateMember:
		if !n.propose([]store.Command{n.updating(c)}) {
			return replica.ErrBusy
		}
		return nil
	default:
		return n.proposeRemoval(c.ID, store.Command{Op: store.OpDelete, Key: memberKey(c.ID), ID: c.id, Settled: c.settled})
	}
}

// proposeRemoval removes a member. This one hands leadership over instead: whoever
// leads then is asked again.
func (n *Node) proposeRemoval(id env.NodeID, record store.Command) error {
	c := replica.Change{Kind: replica.Remove, ID: id}
	if id != n.cfg.ID {
		return n.proposeConf(c, record)
	}
	if err := n.replica.MayChange(c); err != nil {
		return err
	}
	n.replica.HandOverOnce()
	return replica.ErrNotLeader
}

func (n *Node) proposeConf(c replica.Change, record ...store.Command) error {
	b := store.Batch{Time: n.logTime(), Wall: n.env.Clock.Wall().UnixNano(), Commands: record}
	c.Entry = store.AppendBatchAs(nil, &b, n.formats.write())
	if err := n.replica.ProposeConfChange(c); err != nil {
		return err
	}
	n.keeper.Moved(b.Time)
	return nil
}

// updating is the command that gives a member other peer URLs. It fails where the
// member has written its own record meanwhile, so that neither undoes the other.
func (n *Node) updating(c *change) store.Command {
	cmd := store.Command{Op: store.OpCreate, Key: memberKey(c.ID), ID: c.id, Settled: c.settled}
	m := n.member(c.ID)
	a := attributes{Name: m.Name, ClientURLs: m.ClientURLs}
	if node, missing := n.View().Get(cmd.Key, false); missing == nil {
		cmd.Op, cmd.PrevIndex = store.OpCompareAndSwap, node.Modified
		a, _ = attributesOf(node.Value)
	}
	a.PeerURLs = c.PeerURLs
	cmd.Value = a.text()
	return cmd
}

// newMember gives the ID of a member that is added now: as the original has it, unless
// it was in use.
func (n *Node) newMember(peerURLs []string) env.NodeID {
	at := n.env.Clock.Wall().Unix()
	for {
		id := bootstrap.MemberID(peerURLs, strconv.FormatInt(at, 10))
		if id != 0 && !n.isMember(id) && !n.replica.Left(id) {
			return id
		}
		at++
	}
}

// refusal puts an error into words.
func (n *Node) refusal(c *change, err error) *gateway.MemberRefusal {
	verb := map[gateway.ChangeKind]string{gateway.AddMember: "add", gateway.RemoveMember: "remove", gateway.ReplaceMember: "replace", gateway.UpdateMember: "update"}[c.Kind]
	reason := err
	for inner := errors.Unwrap(reason); inner != nil; inner = errors.Unwrap(reason) {
		reason = inner
	}
	return &gateway.MemberRefusal{Status: 409, Message: fmt.Sprintf("cannot %s member %v: %v", verb, c.ID, reason)}
}

// followUp does, on the leader, what changes have left to be done: learners that keep
// up get their vote, and whoever is replaced leaves.
func (n *Node) followUp() {
	if n.replica.Changing() {
		return
	}
	for _, id := range n.replica.Steady() {
		old := n.ousts(id)
		switch {
		case n.votes(n.replacement(id)):
			// Whoever came in its place was first, and takes it out below.
		case old == 0:
			if n.proposeConf(replica.Change{Kind: replica.Promote, ID: id}) == nil {
				return
			}
		case old == n.cfg.ID && len(n.replica.Voters()) > 1:
			n.replica.HandOverOnce()
			return
		case old == n.cfg.ID: // there must be another to hand over to, first
			if n.proposeConf(replica.Change{Kind: replica.Promote, ID: id}) == nil {
				return
			}
		default:
			err := n.proposeConf(replica.Change{Kind: replica.Replace, ID: id, Old: old}, store.Command{Op: store.OpDelete, Key: memberKey(old)})
			if err == nil {
				return
			}
		}
	}
	if !n.replacing && !n.groupStale {
		return // the usual case, in every turn
	}
	for _, id := range n.replica.Voters() {
		if old := n.ousts(id); old != 0 {
			_ = n.proposeRemoval(old, store.Command{Op: store.OpDelete, Key: memberKey(old)}) // refused, it is tried again
			return
		}
	}
}

// Following tells how far the other members are; see gateway.Membership.
func (n *Node) Following() (list []gateway.Following) {
	applied, steady := n.replica.Applied(), n.replica.Steady()
	for _, p := range n.replica.Progress() {
		f := gateway.Following{Member: n.member(p.ID), Match: p.Match, Behind: applied - min(applied, p.Match), State: "replicating", Replaces: n.replaces(p.ID)}
		f.Learner = p.Learner
		switch {
		case !p.Active:
			f.State = "not heard of"
		case p.Snapshot:
			f.State = "receives the state"
		}
		if p.Learner {
			f.Waits = n.waitsFor(p, slices.Contains(steady, p.ID))
		}
		list = append(list, f)
	}
	return list
}

// waitsFor says what keeps a learner from voting.
func (n *Node) waitsFor(p replica.Progress, steady bool) string {
	switch {
	case !p.Active:
		return "it has not been heard of: start it, or remove it"
	case p.Snapshot:
		return "it receives the state"
	case !steady:
		return "it has to keep up with the leader for a while"
	}
	err := n.replica.MayChange(replica.Change{Kind: replica.Promote, ID: p.ID})
	if old := n.ousts(p.ID); old != 0 {
		err = n.replica.MayChange(replica.Change{Kind: replica.Replace, ID: p.ID, Old: old})
	}
	if err == nil {
		return "it gets its vote now"
	}
	return "it gets its vote as soon as possible: " + err.Error()
}

// takesPart tells, on the leader, whether id was heard of just now.
func (n *Node) takesPart(id env.NodeID) bool {
	return id == n.cfg.ID || slices.ContainsFunc(n.replica.Progress(), func(p replica.Progress) bool { return p.ID == id && p.Active })
}

// isMember tells whether id belongs to the cluster.
func (n *Node) isMember(id env.NodeID) bool {
	g := n.replica.Group()
	return slices.Contains(g.Voters, id) || slices.Contains(g.Learners, id)
}

// replaces is the member in whose place id was added and which is still there, or 0.
func (n *Node) replaces(id env.NodeID) env.NodeID {
	node, missing := n.View().Get(memberKey(id), false)
	if missing != nil || !strings.Contains(node.Value, `"replaces"`) {
		return 0
	}
	a, ok := attributesOf(node.Value)
	if old := parseID(a.Replaces); ok && n.isMember(old) {
		return old
	}
	return 0
}

// ousts is who leaves next when id has its vote, or 0. One that came in the place of a
// learner comes in the place of the member that the learner was to replace: were only
// the learner to leave, the group would have one more to count and nobody more to
// answer. Learners that stood between follow, the oldest first.
func (n *Node) ousts(id env.NodeID) env.NodeID {
	old := n.replaces(id)
	for range n.replica.Group().All { // as long as a chain can be
		if next := n.replaces(old); next != 0 && !n.votes(old) {
			old = next
		}
	}
	return old
}

// votes tells whether id votes now.
func (n *Node) votes(id env.NodeID) bool { return slices.Contains(n.replica.Group().Voters, id) }

// standsFor tells whether id is old, or came in its place, directly or not.
func (n *Node) standsFor(id, old env.NodeID) bool {
	for range n.replica.Group().All {
		if id == old {
			return true
		}
		id = n.replaces(id)
	}
	return false
}

// replacement is the member that was added in the place of old, or 0.
func (n *Node) replacement(old env.NodeID) env.NodeID {
	for _, m := range n.members() {
		if n.replaces(m.ID) == old {
			return m.ID
		}
	}
	return 0
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

// Messages about changes begin with changeMark, a version and what they are.
const (
	changeMark    = 0xc1
	changeVersion = format.Change
	changeAsked   = 1
	changeRefused = 2
)

// encode gives the message that asks the leader for c.
func (c *change) encode() []byte {
	p := []byte{changeMark, changeVersion, changeAsked}
	p = binary.AppendUvarint(p, c.id.Incarnation)
	p = binary.AppendUvarint(p, c.id.Number)
	p = binary.AppendUvarint(p, c.settled)
	text, err := json.Marshal(c.MemberChange)
	if err != nil { // numbers and strings always encode
		panic(err)
	}
	return append(p, text...)
}

var errChange = errors.New("malformed change of members")

// decodeChange reads a message about changes.
func decodeChange(from env.NodeID, p []byte) (kind byte, c *change, text []byte, err error) {
	if len(p) < 3 || p[0] != changeMark || p[1] != changeVersion {
		return 0, nil, nil, errChange
	}
	kind, p = p[2], p[3:]
	c = &change{id: store.ID{Node: from}}
	for _, v := range []*uint64{&c.id.Incarnation, &c.id.Number, &c.settled} {
		value, k := binary.Uvarint(p)
		if k <= 0 {
			return 0, nil, nil, errChange
		}
		*v, p = value, p[k:]
	}
	return kind, c, p, nil
}

// hearChange takes a change that another member asks for, or the refusal of one.
func (n *Node) hearChange(from env.NodeID, p []byte) error {
	kind, c, text, err := decodeChange(from, p)
	if err != nil {
		return err
	}
	switch kind {
	case changeAsked:
		if err := c.read(text); err != nil {
			return err
		}
		if leader, _ := n.replica.Leader(); leader == n.cfg.ID {
			n.takeChange(c)
		}
		return nil
	case changeRefused:
		no := &gateway.MemberRefusal{}
		if err := json.Unmarshal(text, no); err != nil {
			return err
		}
		if c.id.Incarnation == n.replica.Incarnation() {
			n.refused(c.id.Number, no)
		}
		return nil
	}
	return errChange
}

// read fills in what is asked for, checked as the gateway checks it.
func (c *change) read(text []byte) (err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&c.MemberChange); err != nil {
		return err
	}
	if c.Kind < gateway.AddMember || c.Kind > gateway.ReplaceMember || (c.ID == 0) != (c.Kind == gateway.AddMember) {
		return errChange
	}
	if c.Kind == gateway.RemoveMember || c.Kind == gateway.ReplaceMember && len(c.PeerURLs) == 0 {
		c.PeerURLs = nil
		return nil
	}
	c.PeerURLs, err = gateway.PeerURLs(c.PeerURLs)
	return err
}

// sayNo tells whoever asked that a change was refused. A lost answer is given
// again when the change is asked for again.
func (n *Node) sayNo(c *change, no *gateway.MemberRefusal) {
	if c.id.Node == n.cfg.ID {
		n.refused(c.id.Number, no)
		return
	}
	p := []byte{changeMark, changeVersion, changeRefused}
	p = binary.AppendUvarint(p, c.id.Incarnation)
	p = binary.AppendUvarint(p, c.id.Number)
	p = binary.AppendUvarint(p, 0)
	text, err := json.Marshal(no)
	if err != nil {
		panic(err)
	}
	n.replica.Send(c.id.Node, append(p, text...))
}

// refused ends one of this node's own changes.
func (n *Node) refused(number uint64, no *gateway.MemberRefusal) {
	c := n.commands.at(number)
	if c == nil || c.change == nil {
		return
	}
	n.commands.take(number)
	n.outcomes = append(n.outcomes, outcome{func(store.Result) { c.refused(no) }, store.Result{}})
}

// farewell ends what waits on a member that was told that it is none any more. Its own
// removal, if somebody asked for it here, has been carried out.
func (n *Node) farewell() {
	if n.left || !n.replica.Removed() {
		return
	}
	n.left, n.info.made = true, nil
	q := &n.commands
	for number := q.first; number < q.next; number++ {
		if c := q.at(number); c != nil && c.change != nil && c.change.Kind == gateway.RemoveMember && c.change.ID == n.cfg.ID {
			n.outcomes = append(n.outcomes, outcome{q.take(number).done, store.Result{}})
		}
	}
	n.deliver()
	n.failAll(causeRemoved)
}
