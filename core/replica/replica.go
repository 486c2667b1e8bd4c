package replica

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/peer"
	"github.com/keelson/keelson/core/planted"
)

// Replica is one member of a raft group.
type Replica struct {
	cfg     Config
	env     *env.Env
	machine Machine
	raft    *raft.RawNode
	storage *storage

	incarnation uint64
	founded     bool // the log began in this life, as that of a founder

	peers []*link // by ID
	enc   encodings

	// What raft said last.
	role Role
	term uint64
	vote uint64
	lead uint64

	commit      uint64
	applied     uint64 // Invariant: applied <= commit
	appliedTerm uint64
	conf        *raftpb.ConfState
	removed     []env.NodeID      // members that left, by ID; they never come back
	unsettled   []env.NodeID      // of removed: they may still be needed
	gone        bool              // this replica was removed and told so
	tickCommit  uint64            // commit at the last tick
	groupOf     *raftpb.ConfState // what group was made from
	group       *Group
	confPending uint64 // index of the last change of members proposed here
	full        bool   // the disk was full at the last tick

	ticks      uint64
	silent     int // ticks without a sign of the leader
	stretch    time.Duration
	timer      env.Timer
	ready      bool // the record of this life is durable
	dead       bool
	stopped    bool
	stopping   func()
	stopBy     uint64 // tick
	handoverAt uint64 // tick of the last attempt

	journal journal
	images  images
	loose   loose
	reads   reads
	out     transfers // snapshots on their way to followers
	in      reception // the snapshot that is arriving

	received, sent meter // append messages

	toldAt uint64 // index up to which people know that the log was applied
}

// Open brings a replica up from what the disk holds: the machine is restored
// from the last snapshot, and the entries behind it are applied by the first
// Flush. The replica takes part once its new incarnation is durable.
func Open(cfg Config, e *env.Env, m Machine) (*Replica, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	r := &Replica{cfg: cfg, env: e, machine: m, enc: encodings{}}
	r.drawStretch()
	rec, err := r.recover()
	if err != nil {
		return nil, fmt.Errorf("replica: open: %w", err)
	}
	if r.storage, err = newStorage(rec); err != nil {
		return nil, fmt.Errorf("replica: open: %w", err)
	}
	r.storage.image = r.image
	r.toldAt = rec.index
	r.applied, r.appliedTerm, r.commit = rec.index, rec.term, rec.hard.GetCommit()
	r.term, r.vote = rec.hard.GetTerm(), rec.hard.GetVote()
	r.conf, r.removed, r.unsettled = rec.conf, rec.removed, rec.unsettled
	r.journal.term, r.journal.vote = r.term, r.vote
	raft.SetLogger(quiet{})
	r.raft, err = raft.NewRawNode(r.raftConfig())
	if err != nil {
		return nil, fmt.Errorf("replica: open: %w", err)
	}
	if r.founded = rec.fresh; r.founded {
		r.found(rec)
	}
	r.armTick()
	return r, nil
}

func (r *Replica) raftConfig() *raft.Config {
	return &raft.Config{
		ID:                        uint64(r.cfg.ID),
		ElectionTick:              r.cfg.ElectionTicks,
		HeartbeatTick:             1,
		Storage:                   r.storage,
		Applied:                   r.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             r.cfg.MessageBytes,
		MaxCommittedSizePerReady:  r.cfg.InflightBytes,
		MaxUncommittedEntriesSize: r.cfg.UncommittedBytes,
		MaxInflightMsgs:           r.cfg.InflightMessages,
		MaxInflightBytes:          max(r.cfg.InflightBytes, r.cfg.MessageBytes),
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    logger{r.env.Log},
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	}
}

// begin takes part once the incarnation is durable: what this life says to
// others must not be taken for words of an earlier one.
func (r *Replica) begin() {
	if r.dead || r.stopped {
		return
	}
	r.ready = true
	r.env.Log.Log(env.Info, "replica ready", "id", r.cfg.ID, "incarnation", r.incarnation, "term", r.term, "applied", r.applied, "last", r.storage.last())
	if len(r.conf.GetVoters()) == 1 && r.voter() {
		_ = r.raft.Campaign() // nobody else could win
	}
}

// Propose asks the leader to put entries into the log, in order and all of them
// or none. Whether they get there, only Machine.Apply tells.
func (r *Replica) Propose(entries ...[]byte) error {
	switch {
	case r.role != Leader || r.inert() || !r.ready:
		return ErrNotLeader
	case r.journal.log.Full():
		return fmt.Errorf("propose: %w", env.ErrFull)
	}
	m := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(uint64(r.cfg.ID))}
	for _, p := range entries {
		m.Entries = append(m.Entries, &raftpb.Entry{Data: p})
	}
	if err := r.raft.Step(m); err != nil {
		return ErrBusy
	}
	return nil
}

// Send queues a message for the replica to; it leaves with the turn's frame, or
// is lost.
func (r *Replica) Send(to env.NodeID, payload []byte) {
	if to != 0 && to != r.cfg.ID {
		r.post(to, kindNode, payload)
	}
}

// Receive takes a frame from another replica. What cannot be read is dropped.
func (r *Replica) Receive(from env.NodeID, frame []byte) {
	if r.inert() || !r.ready || from == r.cfg.ID {
		return
	}
	l := r.link(from)
	messages, err := l.codec.Open(frame)
	if err != nil {
		level := env.Debug
		if errors.Is(err, peer.ErrCluster) && !l.foreign {
			level, l.foreign = env.Warn, true // said once: it comes again and again
		}
		r.env.Log.Log(level, "frame dropped", "from", from, "reason", err)
		return
	}
	if r.forgotten(from) {
		return
	}
	l.heard = r.ticks
	for _, m := range messages {
		r.take(from, m.Kind, m.Payload)
	}
}

func (r *Replica) take(from env.NodeID, kind byte, payload []byte) {
	var err error
	switch kind {
	case kindRaft:
		err = r.takeRaft(from, payload)
	case kindNode:
		r.cfg.OnMessage(from, payload)
	case kindChunk:
		err = r.takeChunk(from, payload)
	case kindAck:
		err = r.takeAck(from, payload)
	case kindRemoved:
		r.leave()
	case kindAsk:
		r.tellRemoved(from)
	default:
		err = fmt.Errorf("unknown kind %d", kind)
	}
	if err != nil {
		r.env.Log.Log(env.Debug, "message dropped", "from", from, "kind", kind, "reason", err)
	}
}

func (r *Replica) takeRaft(from env.NodeID, payload []byte) error {
	m := &raftpb.Message{}
	if err := unmarshal(payload, m); err != nil {
		return err
	}
	if m.GetFrom() != uint64(from) || m.GetTo() != uint64(r.cfg.ID) {
		return fmt.Errorf("a raft message from %x to %x", m.GetFrom(), m.GetTo())
	}
	if raft.IsLocalMsg(m.GetType()) || m.GetType() == raftpb.MsgSnap || m.GetType() == raftpb.MsgProp {
		return fmt.Errorf("a %v does not travel", m.GetType())
	}
	if r.left(from) {
		if m.GetType() == raftpb.MsgPreVote || m.GetType() == raftpb.MsgVote {
			r.tellRemoved(from)
		}
		return nil
	}
	r.gotRaft(r.link(from), m, len(payload))
	return r.step(m)
}

// step hands a message of another replica to raft.
func (r *Replica) step(m *raftpb.Message) error {
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		if m.GetTerm() >= r.term && r.lost(m.GetCommit()) {
			return nil
		}
		fallthrough
	case raftpb.MsgApp, raftpb.MsgSnap:
		if m.GetTerm() >= r.term {
			r.silent = 0
		}
	case raftpb.MsgReadIndex:
		// Raft, where it has one voter, answers with the commit index it has, which
		// after a restart may be behind what an earlier life acknowledged.
		if _, ok := r.Leading(); !ok {
			return nil // asked again soon
		}
	case raftpb.MsgTimeoutNow:
		r.env.Rare.Mark("replica: leadership handed over")
	}
	return r.raft.Step(m)
}

// lost reports that the leader has seen entries acknowledged by this replica
// that its log does not hold: the disk was emptied or an old copy put back. Such
// a replica must not take part under its old name.
func (r *Replica) lost(commit uint64) bool {
	if commit <= r.storage.last() {
		return false
	}
	if r.drain(); commit <= r.storage.last() {
		return false
	}
	r.env.Rare.Mark("replica: log lost")
	r.die(fmt.Errorf("replica: the log ends at %d but this member acknowledged %d: its disk was emptied or replaced by an old copy; remove the member and add it anew", r.storage.last(), commit))
	return true
}

// Flush ends a turn: raft's outputs are carried out, one frame leaves for each
// peer and one append goes to the log.
func (r *Replica) Flush() {
	r.Advance()
	if r.dead || r.stopped {
		r.checkStop()
		return
	}
	r.settleRemovals()
	r.maybeSnapshot()
	r.trim()
	r.pumpTransfers()
	r.sendFrames()
	r.submit()
	r.checkStop()
	clear(r.enc)
}

// Advance carries out what raft has to do so far without ending the turn: what
// is committed gets applied.
func (r *Replica) Advance() {
	if r.dead || r.stopped {
		return
	}
	r.drain()
	for r.askReads() {
		r.drain()
	}
	r.answerReads()
}

// drain takes what raft has for us until there is no more.
func (r *Replica) drain() {
	for !r.inert() && r.raft.HasReady() {
		rd := r.raft.Ready()
		r.observe(&rd)
		for _, m := range rd.Messages {
			r.route(m)
		}
		for _, s := range rd.ReadStates {
			r.readState(s)
		}
	}
}

// observe notes what raft says about itself.
func (r *Replica) observe(rd *raft.Ready) {
	role, term, lead := r.role, r.term, r.lead
	if rd.SoftState != nil {
		r.role, r.lead = roleOf(rd.SoftState.RaftState), rd.SoftState.Lead
	}
	if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
		if r.vote != rd.HardState.GetVote() {
			r.silent = 0
		}
		r.term, r.vote = rd.HardState.GetTerm(), rd.HardState.GetVote()
		r.commit = max(r.commit, rd.HardState.GetCommit())
	}
	if r.role != role || r.term != term {
		r.changed(role, term)
	}
	if r.lead != lead || r.term != term {
		r.reads.again()
	}
}

// changed follows a change of role or term.
func (r *Replica) changed(role Role, term uint64) {
	r.silent = 0
	r.drawStretch()
	if role == Leader {
		r.abandonTransfers("leadership lost")
	}
	if r.role == Leader || role == Leader {
		r.env.Log.Log(env.Info, "role", "id", r.cfg.ID, "was", role, "is", r.role, "term", r.term, "before", term)
	}
}

// drawStretch chooses how long this replica's ticks last. A leader's are exact. A
// pre-vote is granted only by those who miss the leader, too, so it is the slowest
// of a majority that says when an election begins: the stretch must only be as wide
// as keeps two followers from campaigning within one exchange of messages.
func (r *Replica) drawStretch() {
	r.stretch = r.cfg.Tick
	if r.role != Leader {
		r.stretch += time.Duration(r.env.Rand.Int64N(int64(r.cfg.Tick)/8 + 1))
	}
}

func roleOf(s raft.StateType) Role {
	switch s {
	case raft.StateLeader:
		return Leader
	case raft.StateCandidate:
		return Candidate
	case raft.StatePreCandidate:
		return PreCandidate
	default:
		return Follower
	}
}

// route sends one of raft's messages on its way.
func (r *Replica) route(m *raftpb.Message) {
	switch {
	case m.GetTo() == raft.LocalAppendThread:
		r.gather(m)
	case m.GetTo() == raft.LocalApplyThread:
		r.apply(m.GetEntries())
		r.respond(m.GetResponses())
	case m.GetType() == raftpb.MsgSnap:
		r.startTransfer(m)
	default:
		r.postRaft(m)
	}
}

// respond delivers responses whose condition is met.
func (r *Replica) respond(responses []*raftpb.Message) {
	for _, m := range responses {
		if m.GetTo() != uint64(r.cfg.ID) {
			r.route(m)
		} else if err := r.raft.Step(m); err != nil {
			r.env.Log.Log(env.Debug, "response refused", "type", m.GetType(), "reason", err)
		}
	}
}

// apply hands committed entries to the machine.
func (r *Replica) apply(entries []*raftpb.Entry) {
	for _, e := range entries {
		invariant.Check(e.GetIndex() == r.applied+1, "replica: apply entry %d after %d", e.GetIndex(), r.applied)
		switch {
		case e.GetType() != raftpb.EntryNormal:
			r.applyConf(e)
		case len(e.GetData()) > 0:
			r.machine.Apply(e.GetIndex(), e.GetData())
		}
		r.applied, r.appliedTerm = e.GetIndex(), e.GetTerm()
		r.images.bytes += int64(len(e.GetData())) + entryOverhead
		r.images.entries++
		r.loose.bytes += int64(len(e.GetData())) + entryOverhead
		r.loose.entries++
		r.applying()
	}
	r.commit = max(r.commit, r.applied)
}

// Leading tells whether this replica leads and has applied an entry of its own
// term, and so knows everything that was committed before it.
func (r *Replica) Leading() (term uint64, ok bool) {
	return r.term, r.role == Leader && r.appliedTerm == r.term && !r.inert()
}

// Leader is the present leader as this replica knows it, or 0, and its term.
func (r *Replica) Leader() (env.NodeID, uint64) { return env.NodeID(r.lead), r.term }

// Incarnation numbers this life of the replica. It is higher than in all earlier
// ones, and says nothing before Ready.
func (r *Replica) Incarnation() uint64 { return r.incarnation }

// Ready tells whether the incarnation may be used.
func (r *Replica) Ready() bool { return r.ready && !r.inert() }

// Full tells whether the disk has no room for the log.
func (r *Replica) Full() bool { return r.journal.log.Full() }

// Role is the replica's part in the consensus.
func (r *Replica) Role() Role { return r.role }

// Group is who takes part, each list by ID.
type Group struct {
	Voters   []env.NodeID
	Learners []env.NodeID // hold the log and do not vote
	All      []env.NodeID // both, and whoever a change under way takes out
}

// Group tells who takes part. The same value is given until that changes; the caller
// must not change it.
func (r *Replica) Group() *Group {
	if r.groupOf != r.conf {
		r.groupOf = r.conf
		r.group = &Group{Voters: nodeIDs(r.conf.GetVoters()), Learners: nodeIDs(r.conf.GetLearners()), All: everybody(r.conf)}
	}
	return r.group
}

// Voters lists the members that vote; see Group.
func (r *Replica) Voters() []env.NodeID { return r.Group().Voters }

// Left tells whether id was a member once. It cannot return.
func (r *Replica) Left(id env.NodeID) bool { return r.left(id) }

// Removed tells whether this replica was told that it is no member any more. It
// stops a moment later.
func (r *Replica) Removed() bool { return r.gone }

// Applied is the index of the last entry applied.
func (r *Replica) Applied() uint64 { return r.applied }

// Status tells what the replica knows about itself.
func (r *Replica) Status() Status {
	return Status{
		ID: r.cfg.ID, Incarnation: r.incarnation,
		Role: r.role, Term: r.term, Vote: env.NodeID(r.vote), Leader: env.NodeID(r.lead),
		Commit: r.commit, Applied: r.applied, First: r.storage.first(), Last: r.storage.last(), Snapshot: r.images.index,
		Voters: nodeIDs(r.conf.GetVoters()), Learners: nodeIDs(r.conf.GetLearners()),
		Ready: r.ready, Full: r.journal.log.Full(), Removed: r.gone, Dead: r.dead,
	}
}

func nodeIDs(ids []uint64) []env.NodeID {
	var out []env.NodeID
	for _, id := range ids {
		out = append(out, env.NodeID(id))
	}
	return out
}

func (r *Replica) voter() bool { return r.votes(r.cfg.ID) }

// inert tells that the replica does nothing any more.
func (r *Replica) inert() bool { return r.dead || r.stopped || r.gone }

// die ends the replica because of err.
func (r *Replica) die(err error) {
	if r.dead {
		return
	}
	r.dead = true
	r.stopTick()
	r.env.Log.Log(env.Error, "replica stops", "id", r.cfg.ID, "reason", err)
	r.cfg.Fatal(err)
}

// armTick starts the next tick. Followers tick a little slower than the leader,
// each at its own rate, so that they do not campaign all at once.
func (r *Replica) armTick() { r.timer = r.env.Clock.After(r.stretch, r.tick) }

func (r *Replica) stopTick() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (r *Replica) tick() {
	if r.inert() {
		return
	}
	r.ticks++
	r.tickDisk()
	if r.ready {
		r.tickRaft()
	}
	r.armTick()
}

func (r *Replica) tickRaft() {
	r.silent++
	if r.role != Leader && r.silent >= r.cfg.ElectionTicks && r.voter() {
		r.campaignSoon()
	} else {
		r.raft.Tick()
	}
	r.tickReads()
	r.tickTransfers()
	r.tickAppends()
	r.tickMembers()
	r.checkStalled()
}

// campaignSoon makes raft campaign with this tick. Raft adds a jitter of its own,
// up to a whole election timeout, which would delay the election for nothing:
// the stretch of the ticks is jitter already.
func (r *Replica) campaignSoon() {
	r.drain()
	for range 2 * r.cfg.ElectionTicks {
		if r.raft.Tick(); r.raft.HasReady() {
			break
		}
	}
	r.silent = 0
}

// checkStalled lets go of leadership when this leader's own disk takes no more
// writes: followers could go on, but clients of this replica could not.
func (r *Replica) checkStalled() {
	if r.role != Leader || len(r.journal.writes) == 0 || planted.On(planted.StalledLeaderStays) {
		return
	}
	outstanding := r.env.Clock.Now().Sub(r.journal.writes[0].since)
	if outstanding < electionRounds*r.cfg.election() || r.ticks-r.handoverAt < uint64(r.cfg.ElectionTicks) {
		return
	}
	if r.HandOver() {
		r.env.Rare.Mark("replica: stalled leader hands over")
	}
}

// HandOver asks the voter that is furthest along to lead. False means that there
// is none.
func (r *Replica) HandOver() bool {
	var to, match uint64
	for _, p := range r.Progress() {
		if p.Active && !p.Learner && p.Match > match {
			to, match = uint64(p.ID), p.Match
		}
	}
	if to == 0 {
		return false
	}
	r.handoverAt = r.ticks
	r.env.Log.Log(env.Info, "hand leadership over", "from", r.cfg.ID, "to", env.NodeID(to), "term", r.term)
	r.raft.TransferLeader(to)
	return true
}

// HandOverOnce is HandOver, unless that is under way already.
func (r *Replica) HandOverOnce() {
	if r.handoverAt == 0 || r.ticks-r.handoverAt > uint64(r.cfg.ElectionTicks) {
		r.HandOver()
	}
}

// Stop hands leadership over, if there is someone to take it, and calls done in
// this or a later turn. After it the replica does nothing. A second call
// replaces done.
func (r *Replica) Stop(done func()) {
	if r.stopping == nil && r.role == Leader && !r.inert() && r.HandOver() {
		r.stopBy = r.ticks + uint64(r.cfg.ElectionTicks)
	}
	r.stopping = done
}

// checkStop ends an orderly stop once somebody else leads, or nobody took over.
func (r *Replica) checkStop() {
	if r.stopping == nil {
		return
	}
	handed := r.role != Leader && r.lead != 0
	if !r.inert() && !r.stopped && !handed && r.ticks < r.stopBy {
		return
	}
	done := r.stopping
	r.stopping = nil
	if !r.dead {
		r.sendFrames()
	}
	r.stopped = true
	r.stopTick()
	done()
}
