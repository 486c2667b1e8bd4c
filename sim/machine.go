package sim

import (
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/sim/systemd"
)

// Node is what runs on a machine. *node.Node is one.
type Node interface {
	Receive(from env.NodeID, frame []byte)
	Serve(req *gateway.Request, r gateway.Responder) (cancel func())
	Flush()
	Stop(done func())
}

// Factory starts a node, as a process start does. An error is an exit of the
// process. A node that must stop later calls m.Fatal.
type Factory func(m *Machine, e *env.Env) (Node, error)

// Exit tells how a node's process ended.
type Exit struct {
	At   time.Duration
	Why  string // "kill", "power", "stop", "start" or "fatal"
	Err  error  // of start and fatal
	Life int
}

// input is one thing that happens to a node.
type input interface {
	live() bool         // false: it was called off while it waited
	deliver(m *Machine) // runs inside the node's turn
	drop(m *Machine)    // the node died first
}

type waiting struct {
	in        input
	id, cause uint64
}

// Machine is one computer: power, a process, clocks and a disk.
//
//	off ──PowerOn──▶ running ⇄ paused
//	 ▲                 │ kill, fatal, stop
//	 │                 ▼
//	 └──PowerOff──── powered, no process ──Start, restart delay──▶ running
type Machine struct {
	w    *World
	id   env.NodeID
	name string
	open Factory

	address netip.Addr

	clock *Clock
	disk  *Disk
	rand  *random // of this machine's starts

	powered bool
	node    Node
	opening bool // the factory runs
	running bool // a process exists, from Start to its exit
	life    int
	exits   []Exit
	restart time.Duration
	refused uint          // lives in a row that ended by themselves as soon as they began
	began   time.Duration // when this life did
	ports   *nodeClock
	nic     *nodeNet
	manager *systemd.Manager
	boots   int
	fleet   bool // its daemon was told to run units

	timers  []*timer
	inbox   []waiting
	conns   []*conn    // of others, to this machine
	calls   []*webCall // of this machine, to others
	calling bool       // node code is on the stack
	dying   *Exit      // what ends the process after the present input
	leaving bool       // the node has said that it is done

	paused    bool
	pauses    uint64 // counts pauses, so that an old end is ignored
	turnAsked bool   // a turn is in the world's queue
	busy      time.Duration
	slow      time.Duration
}

func newMachine(w *World, id env.NodeID, name string, open Factory) *Machine {
	m := &Machine{w: w, id: id, name: name, open: open, restart: -1}
	m.rand = w.stream("machine/" + strconv.FormatUint(uint64(id), 10))
	m.clock = &Clock{m: m}
	m.disk = newDisk(m, w.opts.Disk)
	m.manager = systemd.New(&unitHost{m: m}, systemd.Options{})
	return m
}

// ID is which machine it is.
func (m *Machine) ID() env.NodeID { return m.id }

// Name is the machine's host name.
func (m *Machine) Name() string { return m.name }

// World is where the machine stands.
func (m *Machine) World() *World { return m.w }

// Node is the running node, or nil. Oracles look at it between turns.
func (m *Machine) Node() Node { return m.node }

// Up says whether a node is running, paused or not.
func (m *Machine) Up() bool { return m.node != nil }

// Powered says whether the machine has power; its process may still be down.
func (m *Machine) Powered() bool { return m.powered }

// Paused says whether the process is stopped for now.
func (m *Machine) Paused() bool { return m.paused }

// Life counts the process starts, from 1.
func (m *Machine) Life() int { return m.life }

// Exits lists how earlier lives ended, oldest first. The caller must not change it.
func (m *Machine) Exits() []Exit { return m.exits }

// Clock gives the machine's clocks.
func (m *Machine) Clock() *Clock { return m.clock }

// Disk gives the machine's disk.
func (m *Machine) Disk() *Disk { return m.disk }

// URL is where clients reach the node: http://NAME:2379.
func (m *Machine) URL() string { return "http://" + m.name + ":2379" }

// Timers counts the timers that the node has set and that have not run yet.
func (m *Machine) Timers() int { return len(m.timers) }

// Waiting counts the inputs that have arrived and were not delivered yet.
func (m *Machine) Waiting() int { return len(m.inbox) }

// Connections counts the open client connections.
func (m *Machine) Connections() int { return len(m.conns) }

func (m *Machine) note(k Kind, text string, n uint64) { m.w.record(k, m.id, 0, 0, n, text) }

// PowerOn gives power and starts the process. On a machine with power it only
// starts the process, if that is down.
func (m *Machine) PowerOn() {
	if !m.powered {
		m.powered = true
		m.boots++
		m.manager.On()
		m.clock.restart(m.rand.upTo(30 * time.Second))
		m.note(KindStart, "power on", 0)
	}
	m.Start()
}

// Start starts the process on a machine that has power and none running.
func (m *Machine) Start() {
	if !m.powered || m.node != nil || m.opening {
		return
	}
	m.life++
	m.paused, m.leaving, m.dying, m.busy = false, false, nil, 0
	m.running, m.began = true, m.w.now
	m.ports = &nodeClock{m: m, life: m.life, now: env.Instant(m.clock.Mono())}
	m.nic = &nodeNet{m: m, life: m.life}
	m.note(KindStart, "process", uint64(m.life))
	node, err := m.boot()
	switch {
	case m.w.failure != nil:
		return
	case err != nil:
		m.exit("start", err)
		return
	case m.dying != nil:
		m.exit(m.dying.Why, m.dying.Err)
		return
	}
	m.node = node
	for _, fn := range m.w.onLife {
		fn(m)
	}
	m.turn()
}

// boot runs the factory in a world of its own for this life.
func (m *Machine) boot() (node Node, err error) {
	defer m.caught()
	m.calling, m.opening = true, true
	defer func() { m.opening = false }()
	m.disk.begin()
	e := &env.Env{
		Clock: m.ports,
		Disk:  &nodeDisk{d: m.disk, life: m.life},
		Net:   m.nic,
		Web:   &nodeWeb{m, m.life},
		Names: &nodeNames{m, m.life},
		Work:  &nodeWork{m, m.life},

		Systemd: &nodeSystemd{m, m.life}, Journal: &nodeJournal{m, m.life},

		Log:  &nodeLog{m},
		Rare: &m.w.rare,
		Rand: m.w.Rand(fmt.Sprintf("node/%d/%d", uint64(m.id), m.life)),
	}
	return m.open(m, e)
}

// caught turns a panic of node code into the run's failure. It is deferred by
// everything that calls such code.
func (m *Machine) caught() {
	m.calling = false
	if r := recover(); r != nil {
		m.w.fail(&Failure{Oracle: "panic", Message: fmt.Sprint(r), Node: m.id, Stack: plainStack(debug.Stack())})
	}
}

// PowerOff takes power away at once: memory is lost, and of the disk whatever
// was not durable is drawn to survive or not.
func (m *Machine) PowerOff() {
	if m.powered {
		m.end("power", nil)
	}
}

// Kill ends the process and leaves the machine on, as kill -9 does. What was
// written stays; connections are reset.
func (m *Machine) Kill() {
	if m.node != nil {
		m.end("kill", nil)
	}
}

// Fatal ends the process after the current input, as a node asks for when it
// cannot go on.
func (m *Machine) Fatal(err error) { m.end("fatal", err) }

// end ends the process, or has it ended as soon as no node code is on the stack.
func (m *Machine) end(why string, err error) {
	if m.calling {
		if m.dying == nil || why == "power" {
			m.dying = &Exit{Why: why, Err: err}
		}
		return
	}
	m.exit(why, err)
}

func (m *Machine) exit(why string, err error) {
	x := Exit{At: m.w.now, Why: why, Err: err, Life: m.life}
	ran := m.running
	power := why == "power"
	m.forget(power)
	if power {
		m.powered = false
	}
	text := why
	if err != nil {
		text += ": " + err.Error()
	}
	m.note(KindExit, text, uint64(m.life))
	if !ran {
		return
	}
	m.exits = append(m.exits, x)
	for _, fn := range m.w.onLife {
		fn(m)
	}
	failed := why == "start" || why == "fatal" && x.At-m.began < soon
	if !failed {
		m.refused = 0
	}
	if why != "power" && why != "stop" {
		m.startLater()
	}
	if failed {
		m.refused++
	}
}

// forget drops everything that belongs to the life that ends.
func (m *Machine) forget(power bool) {
	m.node, m.dying, m.running, m.paused, m.leaving = nil, nil, false, false, false
	m.pauses++
	for _, t := range m.timers {
		t.place, t.fn = -1, nil
	}
	m.timers = nil
	inbox := m.inbox
	m.inbox = nil
	for _, i := range inbox {
		i.in.drop(m)
	}
	if m.disk.removing() {
		m.w.Mark("sim: crash between snapshot and removal of the old log")
	}
	m.manager.Left()
	if power {
		m.manager.Off()
		m.disk.powerLoss()
	} else {
		m.disk.killed()
	}
	conns := m.conns
	m.conns = nil
	for _, c := range conns {
		c.serverDied(power)
	}
	calls := m.calls
	m.calls = nil
	for _, c := range calls {
		c.died(power)
	}
	m.clock.wake()
}

func (m *Machine) startLater() {
	if m.restart < 0 {
		return
	}
	// A service manager backs off from what does not start.
	delay := max(m.restart, min(m.restart<<min(m.refused, 16), restartMost))
	life := m.life
	m.w.push(m.w.now+delay, call(func() {
		if m.life == life {
			m.Start()
		}
	}))
}

// restartMost is the longest wait before a process that refuses to start, or ends by
// itself so soon, is started again.
const (
	restartMost = 3 * time.Second
	soon        = time.Second
)

// SetRestart has the process started again d after it ended by itself or by
// Kill, as a service manager does. Negative: never, which is the default.
func (m *Machine) SetRestart(d time.Duration) { m.restart = d }

// SetSlow makes each turn cost that much virtual time of the node's only CPU.
func (m *Machine) SetSlow(cost time.Duration) {
	m.slow = max(cost, 0)
	m.note(KindHurt, "slow", uint64(cost))
}

// Slow says that turns cost time.
func (m *Machine) Slow() bool { return m.slow > 0 }

// Stop asks the node to end well, as SIGTERM does. The process ends when the
// node says so, or by Kill after the grace period.
func (m *Machine) Stop(grace time.Duration) {
	if m.node == nil {
		return
	}
	life := m.life
	m.input(&stop{life})
	m.w.push(m.w.now+grace, call(func() {
		if m.life == life {
			m.Kill()
		}
	}))
}

// stop is the input that SIGTERM is.
type stop struct{ life int }

func (*stop) live() bool    { return true }
func (*stop) drop(*Machine) {}

func (s *stop) deliver(m *Machine) {
	m.note(KindStop, "", 0)
	m.node.Stop(func() {
		if m.life != s.life || m.node == nil {
			return
		}
		m.leaving = true
	})
}

// Pause stops the process for d, as SIGSTOP does; 0 is until Resume. The world
// goes on; at the end all due timers fire and all waiting input is delivered.
func (m *Machine) Pause(d time.Duration) {
	if m.node == nil {
		return
	}
	m.paused = true
	m.pauses++
	m.note(KindPause, "", uint64(d))
	if d <= 0 {
		return
	}
	mine := m.pauses
	m.w.push(m.w.now+d, call(func() {
		if m.pauses == mine {
			m.Resume()
		}
	}))
}

// Suspend is Pause for the whole machine: its monotonic clock stands still too.
func (m *Machine) Suspend(d time.Duration) {
	if m.node == nil {
		return
	}
	m.clock.sleep()
	m.Pause(d)
}

// Resume ends Pause or Suspend.
func (m *Machine) Resume() {
	if !m.paused {
		return
	}
	m.paused = false
	m.pauses++
	m.note(KindResume, "", 0)
	m.clock.wake()
	m.askTurn()
}

// rearm follows a change of the monotonic clock's rate.
func (m *Machine) rearm() {
	for _, t := range m.timers {
		if !t.due {
			t.arm()
		}
	}
}

// input hands something to the node in one of its next turns. The seed decides
// whether that is now or together with what else arrives soon.
func (m *Machine) input(in input) {
	if m.node == nil {
		in.drop(m)
		return
	}
	m.inbox = append(m.inbox, waiting{in, m.w.cur, m.w.cause})
	m.askTurn()
}

func (m *Machine) askTurn() {
	if m.turnAsked || m.paused || m.node == nil || len(m.inbox) == 0 {
		return
	}
	at := max(m.w.now, m.busy)
	t := &m.w.opts.Turn
	if m.w.turns.chance(t.Wait) {
		at += m.w.turns.upTo(t.Delay)
	}
	if at == m.w.now && !m.calling && m.w.cur != 0 && len(m.inbox) == 1 {
		m.turn()
		return
	}
	m.turnAsked = true
	m.w.push(at, (*turnEvent)(m))
}

// turnEvent is a turn whose time has come.
type turnEvent Machine

func (e *turnEvent) run(*World) {
	m := (*Machine)(e)
	m.turnAsked = false
	if m.node == nil || m.paused {
		return
	}
	if m.busy > m.w.now {
		m.turnAsked = true
		m.w.push(m.busy, e)
		return
	}
	m.turn()
}

// turn runs some of the inputs that wait, then Flush once.
func (m *Machine) turn() {
	life := m.life
	m.ports.now = env.Instant(m.clock.Mono())
	n := min(len(m.inbox), m.w.opts.Turn.Max)
	if n > 1 {
		n = 1 + m.w.turns.IntN(n)
	}
	cur, cause := m.w.cur, m.w.cause
	for i := range n {
		next := m.inbox[i]
		m.inbox[i] = waiting{}
		m.w.cur, m.w.cause = next.id, next.cause
		m.deliver(next.in)
		if m.w.failure != nil {
			return
		}
		if m.dying != nil {
			m.inbox = m.inbox[i+1:]
			m.exit(m.dying.Why, m.dying.Err)
			m.w.cur, m.w.cause = cur, cause
			return
		}
	}
	m.inbox = append(m.inbox[:0], m.inbox[n:]...)
	m.flush()
	m.w.cur, m.w.cause = cur, cause
	if m.w.failure != nil {
		return
	}
	m.busy = m.w.now + m.slow
	for _, fn := range m.w.onTurn {
		fn(m)
	}
	m.afterTurn(life)
}

func (m *Machine) afterTurn(life int) {
	switch {
	case m.life != life || m.node == nil:
	case m.dying != nil:
		m.exit(m.dying.Why, m.dying.Err)
	case m.leaving:
		m.exit("stop", nil)
	default:
		m.askTurn()
	}
}

func (m *Machine) deliver(in input) {
	if !in.live() {
		return
	}
	defer m.caught()
	m.calling = true
	in.deliver(m)
}

func (m *Machine) flush() {
	defer m.caught()
	m.calling = true
	m.w.record(KindFlush, m.id, 0, 0, 0, "")
	m.node.Flush()
}

// nodeLog takes a node's lines. Only the message is part of the run; values are
// printed for people and may hold what differs from run to run.
type nodeLog struct{ m *Machine }

func (l *nodeLog) Log(level env.Level, msg string, kv ...any) {
	w := l.m.w
	w.record(KindLog, l.m.id, 0, 0, uint64(level)+1, msg)
	if w.opts.Log == nil || level < w.opts.LogLevel {
		return
	}
	line := fmt.Sprintf("%12.6f %s %s %s", w.now.Seconds(), l.m.name, levelName(level), msg)
	for i := 0; i+1 < len(kv); i += 2 {
		line += fmt.Sprintf(" %v=%v", kv[i], kv[i+1])
	}
	_, _ = io.WriteString(w.opts.Log, line+"\n") // a broken sink must not change the run
}

func levelName(l env.Level) string {
	switch l {
	case env.Debug:
		return "debug"
	case env.Info:
		return "info"
	case env.Warn:
		return "warn"
	}
	return "error"
}
