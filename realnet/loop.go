// Package realnet drives a node on a real machine: the loop that runs it, its clock and its log.
//
// The packages below it adapt one interface of core/env each and do not know one
// another. None of them decides anything.
package realnet

import (
	"container/heap"
	"runtime"
	"sync"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
)

// Loop runs one node: whatever happens to it is a function that was posted here.
//
// A turn takes all functions that wait at its start, runs them in order and then
// flushes once, so that everything that arrived while the last turn or the disk was
// busy is answered together. Nothing is ever held back to fill a turn.
//
// Loop is the node's env.Clock. Its Clock methods are for the loop's goroutine
// only; Post and Stop may be called from anywhere.
type Loop struct {
	origin time.Time
	wake   chan struct{} // holds one token; a sender never blocks

	mu     sync.Mutex
	inbox  []func()
	asleep bool // the loop waits for wake
	closed bool

	// Only the loop's goroutine touches what follows.
	now     env.Instant
	timers  timerHeap
	created uint64
	alarm   *time.Timer // wakes the loop for the first of timers
	alarmAt env.Instant // when alarm goes off; 0 when it is not set
	crowd   int         // inputs in a turn of late, as a moving mean, times 8

	stopped chan struct{}
}

// NewLoop makes a loop that does nothing until Run.
func NewLoop() *Loop {
	return &Loop{origin: time.Now(), wake: make(chan struct{}, 1), stopped: make(chan struct{})}
}

// Post has fn run on the loop, after everything posted before it. False says that
// the loop has stopped and fn will never run.
func (l *Loop) Post(fn func()) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.inbox = append(l.inbox, fn)
	asleep := l.asleep
	l.asleep = false
	l.mu.Unlock()
	if asleep {
		l.rouse()
	}
	return true
}

// Idle reports whether nothing waits to run.
func (l *Loop) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inbox) == 0
}

// Stop ends Run after the turn under way. What was posted and did not run by then
// never runs. It does not wait; Stopped tells when the loop has ended.
func (l *Loop) Stop() {
	l.mu.Lock()
	l.closed = true
	l.inbox = nil
	l.mu.Unlock()
	l.rouse()
}

// Stopped is closed once Run has returned: from then on nothing runs on the loop.
func (l *Loop) Stopped() <-chan struct{} { return l.stopped }

// Run runs turns on the calling goroutine until Stop. It may be called once.
func (l *Loop) Run(flush func()) {
	defer close(l.stopped)
	defer l.disarm()
	var spare []func()
	for {
		inputs, open := l.take(spare)
		if !open {
			return
		}
		l.now = l.read()
		l.runTimers()
		for i, fn := range inputs {
			fn()
			inputs[i] = nil // the closure must not outlive its turn
		}
		flush()
		l.crowd += len(inputs) - l.crowd/8
		spare = inputs[:0]
	}
}

// crowdMin is the mean of inputs in a turn, times 8, beyond which the loop lets
// others run first when it wakes. That is no wait: whoever is ready runs anyway, and
// a lone client does not pay for it.
const crowdMin = 16

// take waits for inputs or a due timer and gives all inputs there are. It leaves
// spare behind as the room for the next ones.
func (l *Loop) take(spare []func()) (inputs []func(), open bool) {
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, false
		}
		if len(l.inbox) > 0 || l.timerDue() {
			inputs, l.inbox = l.inbox, spare
			l.mu.Unlock()
			return inputs, true
		}
		l.asleep = true
		l.mu.Unlock()
		l.arm()
		<-l.wake
		if l.crowd > crowdMin {
			runtime.Gosched() // those who woke together with the loop post first and share the turn
		}
	}
}

func (l *Loop) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Loop) read() env.Instant { return env.Instant(time.Since(l.origin)) }

// Now is the time at which the turn began, since the loop was made.
func (l *Loop) Now() env.Instant { return l.now }

// Wall is the wall clock, in UTC.
func (l *Loop) Wall() time.Time { return time.Now().UTC() }

// After runs fn in a turn that begins no sooner than d after this one.
func (l *Loop) After(d time.Duration, fn func()) env.Timer {
	invariant.Check(fn != nil, "realnet: a timer without a function")
	l.created++
	t := &timer{loop: l, at: l.now.Add(max(d, 0)), number: l.created, fn: fn}
	heap.Push(&l.timers, t)
	return t
}

// runTimers runs what is due. A timer that one of them sets, even for no time at
// all, waits for the next turn.
func (l *Loop) runTimers() {
	last := l.created
	var later []*timer
	for len(l.timers) > 0 && l.timers[0].at <= l.now {
		t := heap.Pop(&l.timers).(*timer)
		if t.number > last {
			later = append(later, t)
			continue
		}
		fn := t.fn
		t.fn = nil
		fn()
	}
	for _, t := range later {
		if t.fn != nil {
			heap.Push(&l.timers, t)
		}
	}
}

func (l *Loop) timerDue() bool { return len(l.timers) > 0 && l.timers[0].at <= l.read() }

// arm sets the alarm for the first timer, unless it is set for that or an earlier
// time: waking up for nothing is cheaper than setting it at each turn.
func (l *Loop) arm() {
	if len(l.timers) == 0 {
		return
	}
	at, now := l.timers[0].at, l.read()
	if l.alarmAt > now && l.alarmAt <= at {
		return
	}
	l.alarmAt = at
	d := max(at.Sub(now), 0)
	if l.alarm == nil {
		l.alarm = time.AfterFunc(d, l.rouse)
		return
	}
	l.alarm.Reset(d)
}

func (l *Loop) disarm() {
	if l.alarm != nil {
		l.alarm.Stop()
	}
}

type timer struct {
	loop   *Loop
	at     env.Instant
	number uint64
	fn     func() // nil once it ran or was stopped
	place  int    // in the heap; -1 outside
}

// Stop implements env.Timer.
func (t *timer) Stop() {
	if t.fn == nil {
		return
	}
	t.fn = nil
	if t.place >= 0 {
		heap.Remove(&t.loop.timers, t.place)
	}
}

// timerHeap orders timers by time, then by the order in which they were set.
type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].number < h[j].number
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.place = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.place = -1
	return t
}
