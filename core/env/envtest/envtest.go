// Package envtest is the promises of package env, runnable against any implementation.
//
// The simulator and the real machine both pass the same suite, so that a node
// which is right in one is not surprised by the other.
package envtest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

// Node is what a rig drives: functions in place of a node. Those that are nil do
// nothing.
type Node struct {
	// Start runs on the loop when a life begins. Disk.Names and Disk.Load may be
	// called in it, and nowhere else.
	Start   func(e *env.Env)
	Receive func(from env.NodeID, frame []byte)
	Flush   func()
	// Serve answers a request of env.Web, on the loop, as gateway.Mux.Serve does;
	// cancel, which may be nil, runs on the loop when the caller is gone.
	Serve func(q *Request, a Answer) (cancel func())
}

// Request is what another machine asked for.
type Request struct {
	Method      string
	Path, Query string // as on the wire
	Header      []env.WebHeader
	Body        []byte
	Peer        bool // it came in where peers call
}

// Answer takes the answer of one request: Reply once; then, only with more, Chunk
// any number of times and End once.
type Answer interface {
	Reply(status int, header []env.WebHeader, body []byte, more bool)
	Chunk(p []byte) bool
	End()
}

// Rig is two machines, 0 and 1, that know each other. Its methods are called from
// the test's goroutine; a failing rig fails the test.
type Rig interface {
	// ID is the machine's name in the cluster.
	ID(machine int) env.NodeID
	// Start begins a life and returns when n.Start has.
	Start(machine int, n Node)
	// Do runs fn on the machine's loop as one input and returns after it. The
	// turn's Flush may come later.
	Do(machine int, fn func())
	// Wait lets about d pass, on all machines.
	Wait(d time.Duration)
	// Kill ends the machine's life as kill -9 does.
	Kill(machine int)
}

// PowerLoser is a Rig that can take power away: whatever was not durable may be
// lost.
type PowerLoser interface {
	PowerOff(machine int)
}

// Filler is a Rig whose disks can be full.
type Filler interface {
	// Fill leaves room for about so many bytes more; negative lifts the limit.
	Fill(machine int, bytes int)
}

// Finder is a Rig that leaves Net.Set to the suite: a machine that has just started
// belongs to no group.
type Finder interface {
	// PeerURLs is what Net.Set takes to find a machine.
	PeerURLs(machine int) []string
}

// Caller is a Rig whose machines take requests while they run, for Node.Serve.
type Caller interface {
	// URL is scheme://host:port of the place where a machine's peers call.
	URL(machine int) string
}

// Zoner is a Rig whose domain name system says what it is told.
type Zoner interface {
	SetServices(name string, records ...env.Service) // _service._proto.domain
	SetAddresses(host string, addresses ...netip.Addr)
}

// Suite checks every promise of package env. Open makes a rig with empty disks,
// whose machines have not started; what it takes to end the rig it leaves to
// t.Cleanup. A promise that needs PowerLoser, Filler, Finder, Caller or Zoner is
// checked where the rig is one.
func Suite(t *testing.T, open func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"a completion never runs inside the call", testLater},
		{"a completion runs once", testOnce},
		{"a completion never runs after a crash", testNever},
		{"writes to one file finish in the order asked", testOrder},
		{"now stands still in a turn", testStill},
		{"now never goes back", testForward},
		{"wall time is UTC", testWall},
		{"timers run in order and no sooner", testTimers},
		{"a stopped timer does not run", testStop},
		{"a timer of no time runs in a later turn", testSoon},
		{"what was appended is loaded", testAppend},
		{"what was replaced is loaded", testReplace},
		{"content that fails leaves the file as it was", testReplaceFails},
		{"content is read once", testReadOnce},
		{"what was removed is gone", testRemove},
		{"verbs on one name follow each other", testMixed},
		{"names are sorted", testNames},
		{"a missing file is fs.ErrNotExist", testMissing},
		{"large files", testLarge},
		{"what is done survives a kill", testKill},
		{"what is done survives power loss", testPower},
		{"power loss after a kill takes back only what was never done", testKillThenPower},
		{"a replaced file is the old or the new one", testWhole},
		{"a full disk keeps nothing and recovers", testFull},
		{"a silent lack of room is told by the next who can hear", testSilence},
		{"files in directories are as durable as others", testDirectories},
		{"nobody is reached before Set, and only who is in the group after", testSet},
		{"who is heard can be answered", testHeard},
		{"frames arrive unchanged and say from whom", testSend},
		{"sending to nobody is false", testSendNobody},
		{"sending to a machine that is down", testSendDown},
		{"a request arrives and its answer comes back", testAnswer},
		{"a redirect is not followed", testRedirect},
		{"a streamed answer comes in order and takes its time", testStream},
		{"after cancel nothing comes", testCancel},
		{"a request without an answer ends in time", testTimeout},
		{"a request to nobody ends with an error", testNobody},
		{"a request that was not sent was seen by nobody", testUnsent},
		{"an answer never comes after a crash", testWebNever},
		{"addresses of hosts", testAddresses},
		{"services of domains", testServices},
		{"work is done outside the call and ends on the loop", testWork},
		{"each life has its own random stream", testRand},
		{"log and rare have no effect", testQuiet},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&bench{T: t, Rig: open(t)}) })
	}
}

// bench is one test on one rig.
type bench struct {
	*testing.T
	Rig
}

// patience is how long anything that must happen may take.
const patience = 30 * time.Second

// begin starts a life of machine 0 and gives its world.
func (b *bench) begin() *env.Env { return b.beginWith(Node{}) }

func (b *bench) beginWith(n Node) *env.Env {
	var e *env.Env
	start := n.Start
	n.Start = func(x *env.Env) {
		e = x
		if start != nil {
			start(x)
		}
	}
	b.Start(0, n)
	require.NotNil(b, e, "Start must have run")
	return e
}

// until waits for cond, which it asks on the loop.
func (b *bench) until(what string, cond func() bool) {
	b.Helper()
	step := 200 * time.Microsecond
	for waited := time.Duration(0); waited < patience; waited += step {
		ok := false
		b.Do(0, func() { ok = cond() })
		if ok {
			return
		}
		b.Wait(step)
		step = min(2*step, 50*time.Millisecond)
	}
	require.Fail(b, "never happened: "+what)
}

// wait runs one request and waits for its answer.
func (b *bench) wait(ask func(done func(error))) error {
	b.Helper()
	var got error
	ran := false
	b.Do(0, func() { ask(func(err error) { got, ran = err, true }) })
	b.until("a completion", func() bool { return ran })
	return got
}

// loaded begins another life and gives what its disk holds.
func (b *bench) loaded() map[string][]byte {
	b.Helper()
	files := make(map[string][]byte)
	b.beginWith(Node{Start: func(e *env.Env) {
		names, err := e.Disk.Names()
		require.NoError(b, err)
		for _, name := range names {
			p, err := e.Disk.Load(name)
			require.NoError(b, err)
			files[name] = p
		}
	}})
	return files
}

// reborn is loaded after a kill.
func (b *bench) reborn() map[string][]byte {
	b.Helper()
	b.Kill(0)
	return b.loaded()
}
