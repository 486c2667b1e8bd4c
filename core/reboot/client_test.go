package reboot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/lock"
)

// memory is a store of one document in which anything may go wrong.
type memory struct {
	value string
	index uint64
	now   time.Duration
	rnd   *rand.Rand
	// before is called before every request; an error is the answer, without
	// anything done.
	before func(verb string) error
	// after is called with what a write did; an error replaces its answer.
	after  func(verb string, err error) error
	writes int
	late   []func() // writes that the store has accepted and not yet done
}

func newMemory() *memory { return &memory{rnd: rand.New(rand.NewPCG(1, 2))} }

var errChangedText = errors.New("101: Compare failed ([18 != 19]) [19]")

func (m *memory) ask(verb string) error {
	m.now += time.Millisecond
	if m.before == nil {
		return nil
	}
	return m.before(verb)
}

func (m *memory) wrote(verb string, err error) error {
	if m.after == nil {
		return err
	}
	return m.after(verb, err)
}

func (m *memory) Get(context.Context, string) (Document, error) {
	if err := m.ask("get"); err != nil {
		return Document{}, err
	}
	if m.index == 0 {
		return Document{}, ErrMissing
	}
	return Document{m.value, m.index}, nil
}

func (m *memory) Create(_ context.Context, _, value string) error {
	if err := m.ask("create"); err != nil {
		return err
	}
	return m.wrote("create", m.create(value))
}

func (m *memory) create(value string) error {
	if m.index != 0 {
		return ErrExists
	}
	m.put(value)
	return nil
}

func (m *memory) put(value string) {
	m.value = value
	m.index++
	m.writes++
}

func (m *memory) CompareAndSwap(_ context.Context, _, value string, prev uint64) error {
	if err := m.ask("cas"); err != nil {
		return err
	}
	return m.wrote("cas", m.swap(value, prev))
}

func (m *memory) swap(value string, prev uint64) error {
	if prev != 0 && prev != m.index {
		return fmt.Errorf("%w: %w", errChangedText, ErrChanged)
	}
	m.put(value)
	return nil
}

func (m *memory) Sleep(ctx context.Context, d time.Duration) error {
	m.now += d
	return ctx.Err()
}

func (m *memory) Now() time.Duration { return m.now }
func (m *memory) Float64() float64   { return m.rnd.Float64() }

func TestDocumentsByteForByte(t *testing.T) {
	m := newMemory()
	c, ctx := NewClient(m, m, ""), t.Context()
	s, err := c.Status(ctx)
	require.NoError(t, err)
	assert.Equal(t, lock.New(), s)
	assert.Equal(t, `{"semaphore":1,"max":1,"holders":null}`, m.value)
	require.NoError(t, c.Lock(ctx, "aaa"))
	assert.Equal(t, `{"semaphore":0,"max":1,"holders":["aaa"]}`, m.value)
	assert.EqualError(t, c.Lock(ctx, "aaa"), "semaphore is at 0")
	assert.EqualError(t, c.Lock(ctx, "bbb"), "semaphore is at 0")
	assert.EqualError(t, c.Unlock(ctx, "bbb"), "holder does not exist")
	old, err := c.SetMax(ctx, 3)
	require.NoError(t, err)
	assert.Equal(t, 1, old)
	assert.EqualError(t, c.Lock(ctx, "aaa"), "holder exists")
	require.NoError(t, c.Unlock(ctx, "aaa"))
	assert.Equal(t, `{"semaphore":3,"max":3,"holders":[]}`, m.value)
}

func TestRefusalNamesTheGroup(t *testing.T) {
	m := newMemory()
	c := NewClient(m, m, "lb")
	require.NoError(t, c.Lock(t.Context(), "aaa"))
	var full *lock.FullError
	require.ErrorAs(t, c.Lock(t.Context(), "bbb"), &full)
	assert.Equal(t, "reboot lock lb: 1 of 1 slots held by aaa", full.Detail())
}

func TestUnreadableDocumentStays(t *testing.T) {
	for _, doc := range []string{"", "no", `{"semaphore":5,"max":1,"holders":[]}`} {
		m := newMemory()
		m.put(doc)
		c, ctx := NewClient(m, m, ""), t.Context()
		_, err := c.Status(ctx)
		assert.Error(t, err)
		assert.Error(t, c.Lock(ctx, "a"))
		assert.Error(t, c.Unlock(ctx, "a"))
		_, err = c.SetMax(ctx, 2)
		assert.ErrorContains(t, err, "/semaphore: ")
		assert.Equal(t, 1, m.writes)
	}
}

func TestLostCompareIsTriedAgain(t *testing.T) {
	m := newMemory()
	c := NewClient(m, m, "")
	_, err := c.SetMax(t.Context(), 5)
	require.NoError(t, err)
	rivals := 3
	m.before = func(verb string) error {
		if verb == "cas" && rivals > 0 {
			rivals--
			s, err := lock.Parse([]byte(m.value))
			require.NoError(t, err)
			s, err = s.Lock(fmt.Sprint("rival", rivals))
			require.NoError(t, err)
			m.put(string(s.Encode()))
		}
		return nil
	}
	require.NoError(t, c.Lock(t.Context(), "me"))
	assert.Equal(t, `{"semaphore":1,"max":5,"holders":["me","rival0","rival1","rival2"]}`, m.value)
}

func TestPatienceEnds(t *testing.T) {
	m := newMemory()
	m.put(string(lock.New().Encode()))
	m.before = func(verb string) error {
		if verb == "cas" {
			m.put(m.value)
		}
		return nil
	}
	err := NewClient(m, m, "").Lock(t.Context(), "me")
	assert.ErrorIs(t, err, ErrChanged)
	assert.ErrorContains(t, err, "101: Compare failed")
	assert.Less(t, m.now, patience+2*time.Second)
}

func TestUnknownOutcomes(t *testing.T) {
	for _, happened := range []bool{true, false} {
		t.Run(fmt.Sprint("happened=", happened), func(t *testing.T) {
			m := newMemory()
			m.put(string(lock.New().Encode()))
			lost := 0
			m.before = func(verb string) error {
				if verb == "cas" && !happened && lost == 0 {
					lost++
					return ErrUnknown
				}
				return nil
			}
			m.after = func(_ string, err error) error {
				if happened && lost == 0 {
					lost++
					return ErrUnknown
				}
				return err
			}
			c, ctx := NewClient(m, m, ""), t.Context()
			require.NoError(t, c.Lock(ctx, "me"))
			assert.Equal(t, 1, lost)
			assert.Equal(t, `{"semaphore":0,"max":1,"holders":["me"]}`, m.value)
			lost = 0
			require.NoError(t, c.Unlock(ctx, "me"))
			lost = 0
			old, err := c.SetMax(ctx, 4)
			require.NoError(t, err)
			assert.Equal(t, 1, old)
			assert.Equal(t, `{"semaphore":4,"max":4,"holders":[]}`, m.value)
		})
	}
}

func TestUnknownStaysUnknown(t *testing.T) {
	m := newMemory()
	m.put(string(lock.New().Encode()))
	down := false
	m.before = func(verb string) error {
		if down {
			return errors.New("nobody answers")
		}
		if verb == "cas" {
			down = true
			return ErrUnknown
		}
		return nil
	}
	err := NewClient(m, m, "").Lock(t.Context(), "me")
	assert.ErrorIs(t, err, ErrUnknown)
	assert.ErrorContains(t, err, "nobody answers")
	assert.Less(t, m.now, patience+2*time.Second)
}

// Clients run side by side, each switched at every request; writes get lost, are
// done without being answered, or are done much later. Afterwards who was told
// "yes" holds a slot, nobody holds two, and no slot was made or lost.
func TestManyClientsShareTheSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		slots := rapid.IntRange(0, 4).Draw(t, "slots")
		n := rapid.IntRange(1, 6).Draw(t, "clients")
		s, err := lock.New().SetMax(slots)
		if err != nil {
			t.Fatal(err)
		}
		m.put(string(s.Encode()))

		results := make([]error, n)
		var live []func() (struct{}, bool)
		for i := range n {
			next, stop := iter.Pull(func(yield func(struct{}) bool) {
				w := &switching{memory: m, t: t, yield: func() { yield(struct{}{}) }}
				results[i] = NewClient(w, w, "").Lock(context.Background(), fmt.Sprint("id", i))
			})
			defer stop()
			live = append(live, next)
		}
		for len(live) > 0 {
			at := rapid.IntRange(0, len(live)-1).Draw(t, "turn")
			if _, more := live[at](); !more {
				live = append(live[:at], live[at+1:]...)
			}
			if len(m.late) > 0 && rapid.Bool().Draw(t, "late write") {
				m.late[0]()
				m.late = m.late[1:]
			}
			s, err := lock.Parse([]byte(m.value))
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Holders) > slots {
				t.Fatalf("%d holders of %d slots: %s", len(s.Holders), slots, m.value)
			}
		}
		for _, write := range m.late {
			write()
		}
		s, _ = lock.Parse([]byte(m.value))
		for i, err := range results {
			id := fmt.Sprint("id", i)
			switch {
			case err == nil && !s.Holds(id):
				t.Fatalf("%s was told yes: %s", id, m.value)
			case err != nil && !errors.Is(err, ErrUnknown) && s.Holds(id):
				t.Fatalf("%s was told %v: %s", id, err, m.value)
			}
			if strings.Count(m.value, `"`+id+`"`) > 1 {
				t.Fatalf("%s holds twice: %s", id, m.value)
			}
		}
	})
}

// switching gives the turn away at every request, and loses some.
type switching struct {
	*memory
	t     *rapid.T
	yield func()
}

func (w *switching) Get(ctx context.Context, key string) (Document, error) {
	w.yield()
	return w.memory.Get(ctx, key)
}

func (w *switching) CompareAndSwap(ctx context.Context, key, value string, prev uint64) error {
	w.yield()
	switch rapid.IntRange(0, 6).Draw(w.t, "fate") {
	case 0:
		return ErrUnknown
	case 1:
		w.swap(value, prev)
		return ErrUnknown
	case 2:
		w.late = append(w.late, func() { w.swap(value, prev) })
		return ErrUnknown
	}
	return w.memory.CompareAndSwap(ctx, key, value, prev)
}

func (w *switching) Sleep(ctx context.Context, d time.Duration) error {
	w.yield()
	return w.memory.Sleep(ctx, d)
}
