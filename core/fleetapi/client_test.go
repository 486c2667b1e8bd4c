package fleetapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
)

// doer carries a client's requests to the API of a world, whose time passes while it
// waits.
type doer struct {
	w *world
}

func (d *doer) Do(_ context.Context, req *client.Request) (*client.Response, error) {
	r := &reader{}
	in := &gateway.Request{
		Method: req.Method, Path: req.Path, Query: req.Query, ContentType: req.ContentType, Body: []byte(req.Body),
		User: req.User, Password: req.Password,
	}
	r.cancel = d.w.servers[0].Serve(in, r)
	for range 1000 {
		if r.reply != nil {
			break
		}
		d.w.Run(10*time.Millisecond, nil)
	}
	if r.reply == nil {
		return nil, client.ErrTimeout
	}
	header := make(map[string]string)
	for _, h := range r.reply.Header {
		header[h.Name] = h.Value
	}
	return &client.Response{Status: r.reply.Status, Header: header, Body: &body{w: d.w, r: r, left: r.reply.Body}}, nil
}

func (d *doer) Sleep(_ context.Context, t time.Duration) error {
	d.w.Run(t, nil)
	return nil
}

func (d *doer) Now() time.Duration { return time.Duration(d.w.Now()) }
func (d *doer) Float64() float64   { return 0.5 }

// body is an answer as it comes.
type body struct {
	w    *world
	r    *reader
	left []byte
	seen int
}

func (b *body) Read(p []byte) (int, error) {
	for range 1000 {
		if len(b.left) > 0 {
			n := copy(p, b.left)
			b.left = b.left[n:]
			return n, nil
		}
		switch {
		case b.seen < len(b.r.chunks):
			b.left = []byte(b.r.chunks[b.seen])
			b.seen++
		case !b.r.reply.More || b.r.ended:
			return 0, io.EOF
		case b.r.broken:
			return 0, io.ErrUnexpectedEOF
		default:
			b.w.Run(time.Second, nil)
		}
	}
	return 0, errors.New("nothing comes")
}

func (b *body) Close() error {
	b.r.cancel()
	return nil
}

func units(w *world) *client.Units {
	return client.New(&doer{w: w}, client.Options{Endpoints: []string{"http://a"}, Rounds: 1}).Units()
}

func refused(t *testing.T, err error, status int, message string) {
	t.Helper()
	var e *client.UnitError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, &client.UnitError{Status: status, Message: message}, e)
}

// What the client asks for is what the API has, and the other way around.
func TestClient(t *testing.T) {
	ctx := context.Background()
	w, here, _, _ := withMachines(t)
	u := units(w)
	one := &client.Unit{Name: "x.service", DesiredState: "launched", Options: []client.UnitOption{{Section: "Service", Name: "ExecStart", Value: "/bin/x"}}}
	require.NoError(t, u.Put(ctx, one))
	got, err := u.Get(ctx, "x.service")
	require.NoError(t, err)
	assert.Equal(t, &client.Unit{CurrentState: "inactive", DesiredState: "launched", Name: "x.service", Options: one.Options}, got)
	none, err := u.Get(ctx, "none.service")
	require.NoError(t, err)
	assert.Nil(t, none)
	refused(t, u.Put(ctx, &client.Unit{Name: "y.service"}), 409, "unit does not exist and options field empty")
	assert.EqualError(t, u.Put(ctx, &client.Unit{Name: "web@.service", DesiredState: "launched", Options: one.Options}),
		`googleapi: Error 400: cannot activate template "web@.service"`)

	w.run("x.service", m1, unit.Launched)
	states, err := u.States(ctx, client.StateFilter{Name: "x.service", Details: true})
	require.NoError(t, err)
	require.Len(t, states, 1)
	assert.Equal(t, "running", states[0].SubState)
	machines, err := u.Machines(ctx, true)
	require.NoError(t, err)
	require.Len(t, machines, 3)
	assert.Equal(t, "core-01", machines[0].Host)

	why, err := u.Why(ctx, "x.service")
	require.NoError(t, err)
	assert.Equal(t, m1, why.MachineID)
	list, err := u.List(ctx, true)
	require.NoError(t, err)
	require.Len(t, list, 7)
	assert.Equal(t, why, list[6].Why)
	moves, err := u.Plan(ctx, []client.Unit{{Name: "p.service", Options: one.Options}})
	require.NoError(t, err)
	require.Len(t, moves.Moves, 1)
	assert.Equal(t, "p.service", moves.Moves[0].Unit)
	moves, err = u.Cordon(ctx, m1, true)
	require.NoError(t, err)
	assert.NotEmpty(t, moves.Moves)
	require.NoError(t, u.Uncordon(ctx, m1))
	_, err = u.Rebalance(ctx, 0, true)
	require.NoError(t, err)

	text, code, err := u.Status(ctx, "x.service", "")
	require.NoError(t, err)
	assert.Equal(t, "● x.service\n", string(text))
	assert.Equal(t, 3, code)
	result, err := u.Restart(ctx, "x.service", "", time.Minute)
	require.NoError(t, err)
	assert.Equal(t, "done", result)
	journal, err := u.Journal(ctx, "x.service", client.JournalOptions{Lines: 2, Output: "cat"})
	require.NoError(t, err)
	said, err := io.ReadAll(journal)
	require.NoError(t, err)
	assert.Equal(t, "one\ntwo\n", string(said))
	here.lines, here.err = nil, errors.New("no journal")
	_, err = u.Journal(ctx, "x.service", client.JournalOptions{})
	require.ErrorContains(t, err, "no journal")

	events, err := u.Events(ctx, time.Minute)
	require.NoError(t, err)
	w.says("x.service", m1, "inactive", "dead")
	e, err := events.Next()
	require.NoError(t, err)
	assert.Equal(t, []string{"x.service"}, e.States)
	require.NoError(t, events.Close())

	require.NoError(t, u.Delete(ctx, "x.service"))
	refused(t, u.Delete(ctx, "x.service"), 404, "unit does not exist")
}

func TestClientReadsAllPages(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1, 1, fleetapi.Options{Page: 3})
	u := units(w)
	for i := range 7 {
		require.NoError(t, u.Put(ctx, &client.Unit{Name: fmt.Sprintf("%d.service", i), Options: []client.UnitOption{{Section: "S", Name: "A", Value: "b"}}}))
		w.set(keys.MachineObject(fmt.Sprint(i)), registry.EncodeMachine(&registry.Machine{ID: fmt.Sprint(i)}))
	}
	list, err := u.List(ctx, false)
	require.NoError(t, err)
	assert.Len(t, list, 7)
	machines, err := u.Machines(ctx, false)
	require.NoError(t, err)
	assert.Len(t, machines, 7)
}
