package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

type noGuard struct{}

func (noGuard) Admit(a *gateway.Admission) func() {
	a.Then(gateway.Ticket{})
	return func() {}
}

// What is told of the store goes on while the member is taken apart and rebuilt, and
// never goes back.
func TestSourceOutlivesTheMember(t *testing.T) {
	w := controltest.New(1, 2)
	s := &source{env: w.Env()}
	assert.Nil(t, s.View())
	var told [][]*store.Event
	s.Follow("/a", func(events []*store.Event) { told = append(told, events) })
	s.attach(noGuard{}, w.Members[0])
	w.Run(time.Second, nil)
	require.Equal(t, [][]*store.Event{nil}, told, "it followed before there was a member")
	set := func(key string) { w.Commit(store.Command{Op: store.OpSet, Key: key, Value: "1"}) }
	set("/a/x")
	w.Members[1].Cut = true
	w.Run(time.Second, nil)
	require.Len(t, told, 2)
	assert.Equal(t, "/a/x", told[1][0].Node.Key)

	index := s.View().Index()
	s.detach()
	set("/a/y")
	w.Run(time.Second, nil)
	assert.Equal(t, index, s.View().Index(), "it stands still")
	var barrier, allowed error
	s.Barrier(func(err error) { barrier = err })
	s.Propose(store.Command{Op: store.OpSet, Key: "/a/z"}, func(r store.Result) { allowed = r.Err })
	w.Run(time.Second, nil)
	require.Error(t, barrier)
	require.Error(t, allowed)
	s.Admit(&gateway.Admission{Refused: func(string) { allowed = nil }})
	require.NoError(t, allowed)

	s.attach(noGuard{}, w.Members[1]) // it knows nothing yet
	w.Run(time.Second, nil)
	assert.Equal(t, index, s.View().Index(), "it does not go back")
	require.Len(t, told, 2)
	w.Members[1].Cut = false
	w.Run(time.Second, nil)
	require.Len(t, told, 3)
	assert.Nil(t, told[2], "everything is to be read anew")
	assert.Greater(t, s.View().Index(), index)
	set("/a/w")
	w.Run(time.Second, nil)
	require.Len(t, told, 4)
	assert.Len(t, told[3], 1)
}
