package replica_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func TestTrafficIsCounted(t *testing.T) {
	g := newGroup(t, 1, 3, nil)
	l := g.leader()
	g.run(5 * time.Second)
	before := l.Traffic()
	assert.Zero(t, before.Sent.Span, "heartbeats do not count")
	for range 40 {
		l.turn(func() { require.NoError(t, l.Propose([]byte("entry"))) })
		g.run(50 * time.Millisecond)
	}
	got := l.Traffic()
	assert.Equal(t, before.Received, got.Received, "nobody else leads")
	assert.GreaterOrEqual(t, got.Sent.Messages, before.Sent.Messages+80)
	assert.InDelta(t, 80, float64(got.Sent.Recent)/got.Sent.Span.Seconds(), 20, "20 entries a second and the word that each is committed, to two")
	assert.Greater(t, got.Sent.RecentBytes, 5*got.Sent.Recent)
	require.Len(t, got.Followers, 2)
	for _, f := range got.Followers {
		assert.NotEqual(t, l.cfg.ID, f.ID)
		assert.GreaterOrEqual(t, f.Answered, uint64(40))
		assert.Zero(t, f.Failed)
		assert.Greater(t, f.Minimum, time.Millisecond, "links and the disk take longer")
		assert.Less(t, f.Maximum, 10*time.Millisecond)
		for _, d := range []time.Duration{f.Current, f.Average} {
			assert.GreaterOrEqual(t, d, f.Minimum)
			assert.LessOrEqual(t, d, f.Maximum)
		}
		assert.Greater(t, f.Deviation, time.Duration(0))
		assert.LessOrEqual(t, f.Deviation, f.Maximum-f.Minimum)
	}
	for _, m := range g.members {
		if m != l {
			assert.GreaterOrEqual(t, m.Traffic().Received.Messages, uint64(40))
			assert.Empty(t, m.Traffic().Followers, "only a leader has them")
		}
	}

	g.run(5 * time.Second)
	assert.Zero(t, l.Traffic().Sent.Span, "rates are of late")
	assert.Equal(t, got.Followers, l.Traffic().Followers)
}

func TestTrafficCountsWhatIsNotAnswered(t *testing.T) {
	g := newGroup(t, 1, 3, nil)
	l := g.leader()
	g.run(time.Second)
	deaf := l.Traffic().Followers[0].ID
	g.cut = func(from, to env.NodeID) bool { return to == deaf || from == deaf }
	for range 20 {
		l.turn(func() { _ = l.Propose([]byte("entry")) })
		g.run(200 * time.Millisecond)
	}
	got := l.Traffic().Followers
	require.Len(t, got, 2)
	assert.Equal(t, deaf, got[0].ID)
	assert.NotZero(t, got[0].Failed)
	assert.Zero(t, got[1].Failed)
}
