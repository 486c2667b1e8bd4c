package realnet

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func start(t testing.TB, flush func()) *Loop {
	l := NewLoop()
	go l.Run(flush)
	t.Cleanup(func() {
		l.Stop()
		<-l.Stopped()
	})
	return l
}

// on runs fn on the loop and waits for it.
func on(t testing.TB, l *Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	require.True(t, l.Post(func() { fn(); close(done) }))
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the loop does not turn")
	}
}

func TestOneTurnTakesAllThatWaits(t *testing.T) {
	flushes := 0
	l := start(t, func() { flushes++ })
	ran, before := 0, 0
	on(t, l, func() {
		before = flushes
		for range 100 {
			l.Post(func() { ran++ })
		}
	})
	on(t, l, func() {})
	on(t, l, func() {
		assert.Equal(t, 100, ran)
		assert.LessOrEqual(t, flushes-before, 3, "a hundred inputs that waited together share a turn")
	})
}

func TestEveryGoroutineKeepsItsOrder(t *testing.T) {
	l := start(t, func() {})
	last := make([]int, 8)
	var all sync.WaitGroup
	for g := range last {
		all.Go(func() {
			for i := 1; i <= 1000; i++ {
				l.Post(func() {
					assert.Equal(t, last[g]+1, i)
					last[g] = i
				})
			}
		})
	}
	all.Wait()
	on(t, l, func() { assert.Equal(t, []int{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}, last) })
}

func TestTimersRunInOrderAndNotEarly(t *testing.T) {
	l := start(t, func() {})
	var order []int
	done := make(chan struct{})
	on(t, l, func() {
		begin := l.Now()
		for _, ms := range []int{30, 10, 20, 0, 10} {
			l.After(time.Duration(ms)*time.Millisecond, func() {
				assert.GreaterOrEqual(t, l.Now().Sub(begin), time.Duration(ms)*time.Millisecond)
				order = append(order, ms)
				if len(order) == 5 {
					close(done)
				}
			})
		}
		assert.Empty(t, order, "a timer never runs inside the call that set it")
	})
	<-done
	on(t, l, func() { assert.Equal(t, []int{0, 10, 10, 20, 30}, order) })
}

func TestStoppedTimerNeverRuns(t *testing.T) {
	l := start(t, func() {})
	on(t, l, func() {
		var second env.Timer
		l.After(0, func() { second.Stop() })
		second = l.After(0, func() { t.Error("stopped by the one before it") })
		third := l.After(time.Hour, func() {})
		third.Stop()
		third.Stop()
	})
	time.Sleep(5 * time.Millisecond)
	on(t, l, func() { assert.Empty(t, l.timers) })
}

func TestTimerOfNoTimeWaitsForAnotherTurn(t *testing.T) {
	turn := 0
	l := start(t, func() { turn++ })
	done := make(chan int)
	on(t, l, func() {
		l.After(0, func() {
			first := turn
			l.After(0, func() { go func(n int) { done <- n }(turn - first) })
		})
	})
	assert.Equal(t, 1, <-done)
}

func TestNowStandsStillWithinATurn(t *testing.T) {
	l := start(t, func() {})
	on(t, l, func() {
		now := l.Now()
		time.Sleep(3 * time.Millisecond)
		assert.Equal(t, now, l.Now())
	})
}

func TestNothingRunsAfterStop(t *testing.T) {
	l := NewLoop()
	go l.Run(func() {})
	l.Post(func() { l.After(time.Millisecond, func() { t.Error("a timer ran after Stop") }) })
	l.Post(l.Stop)
	<-l.Stopped()
	assert.False(t, l.Post(func() { t.Error("ran after Stop") }))
	time.Sleep(5 * time.Millisecond)
}

func TestLogLevels(t *testing.T) {
	var b bytes.Buffer
	log := NewLog(&b, slog.LevelInfo)
	log.Log(env.Debug, "hidden")
	log.Log(env.Warn, "disk is slow", "file", "wal", "took", 3*time.Second)
	assert.NotContains(t, b.String(), "hidden")
	assert.Contains(t, b.String(), `level=WARN msg="disk is slow" file=wal took=3s`)
}

func BenchmarkPost(b *testing.B) {
	l := start(b, func() {})
	done := make(chan struct{}, 1)
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			l.Post(func() { done <- struct{}{} })
			<-done
		}
	})
	b.Run("crowd", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			mine := make(chan struct{}, 1)
			for p.Next() {
				l.Post(func() { mine <- struct{}{} })
				<-mine
			}
		})
	})
}
