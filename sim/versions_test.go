package sim

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
)

// mixture is a cluster whose machines may run one of two versions.
type mixture struct {
	*Cluster
	t    *testing.T
	next map[*Machine]bool // runs the later version
	hold map[*Machine]bool // and holds the former format
	ok   []string          // keys that were acknowledged
	stop bool
}

func newMixture(t *testing.T, seed uint64) *mixture {
	f := &mixture{t: t, next: map[*Machine]bool{}, hold: map[*Machine]bool{}}
	f.Cluster = NewCluster(seed, 3, ClusterOptions{Restart: 200 * time.Millisecond, Config: func(m *Machine, c *node.Config) {
		c.NextFormats, c.SnapshotEntries, c.TailEntries = f.next[m], 200, 20
		if f.hold[m] {
			c.HoldBatch = 1
		}
	}})
	require.NotNil(t, f.AwaitLeader(30*time.Second), "%v", f.Failure())
	for i := range 2 {
		f.Spawn(fmt.Sprint("client", i), f.write)
	}
	return f
}

// write is the load: keys of a client's own, one after the other, at any machine.
func (f *mixture) write(p *Proc) {
	for i := 0; !f.stop; i++ {
		key := fmt.Sprintf("/%s-%d", p.Name(), i)
		resp, err := p.Do(p.Context(), &client.Request{
			Endpoint: fmt.Sprintf("http://n%d:2379", 1+p.rand.IntN(3)), Method: "PUT", Path: "/v2/keys" + key,
			Body: "value=1", ContentType: "application/x-www-form-urlencoded", Timeout: 5 * time.Second,
		})
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			if resp.Body.Close(); resp.Status == 201 {
				f.ok = append(f.ok, key)
			}
		}
		p.Pause(30 * time.Millisecond)
	}
}

// roll restarts one machine after the other, each when the one before is well again.
func (f *mixture) roll(change func(m *Machine)) {
	for _, m := range f.Machines() {
		m.Stop(10 * time.Second)
		require.True(f.t, f.RunTill(30*time.Second, func() bool { return !m.Up() }), "%v", f.Failure())
		change(m)
		m.PowerOn()
		require.True(f.t, f.RunTill(30*time.Second, func() bool {
			n, l := NodeOf(m), f.Leader()
			return n != nil && l != nil && n.Status().Ready && n.Status().Applied+5 > NodeOf(l).Status().Applied
		}), "%s does not come up: %v, %v", m.Name(), f.Failure(), m.Exits())
		f.RunFor(3 * time.Second)
	}
}

// format is that which all machines have applied last, 0 where they differ.
func (f *mixture) format() int {
	var is int
	for i, m := range f.Machines() {
		n := NodeOf(m)
		if n == nil || i > 0 && n.Status().BatchFormat != is {
			return 0
		}
		is = n.Status().BatchFormat
	}
	return is
}

// sound says that no process ended by itself, all states are the same and everything
// that was acknowledged is there.
func (f *mixture) sound() {
	f.stop = true
	f.RunFor(8 * time.Second)
	require.Nil(f.t, f.Failure())
	var hash uint64
	for i, m := range f.Machines() {
		for _, x := range m.Exits() {
			assert.Equal(f.t, "stop", x.Why, "%s: %v", m.Name(), x.Err)
		}
		v := NodeOf(m).View()
		if i == 0 {
			hash = v.Hash()
		}
		assert.Equal(f.t, hash, v.Hash(), m.Name())
		for _, key := range f.ok {
			_, missing := v.Get(key, false)
			assert.Nil(f.t, missing, key)
		}
	}
	assert.Greater(f.t, len(f.ok), 200)
}

// One machine after the other gets a version that knows another format, and goes back,
// while clients write.
func TestRollingUpgradeAndBack(t *testing.T) {
	for seed := range uint64(2) {
		f := newMixture(t, seed)
		f.roll(func(m *Machine) { assert.NotEqual(t, store.NextBatch, f.format()); f.next[m] = true })
		require.True(t, f.RunTill(20*time.Second, func() bool { return f.format() == store.NextBatch }), "the new format never begins")
		f.roll(func(m *Machine) { f.hold[m] = true })
		require.True(t, f.RunTill(20*time.Second, func() bool { return f.format() == 1 }), "the old format does not return")
		f.RunFor(10 * time.Second) // snapshots are taken
		f.roll(func(m *Machine) { f.next[m], f.hold[m] = false, false })
		f.RunFor(5 * time.Second)
		assert.Equal(t, format.Batch, f.format())
		f.sound()
		f.Close()
	}
}

// A version that meets a format it does not know stops and says so, and goes on when
// it is replaced by one that does.
func TestAnOldProgramStopsAtANewFormat(t *testing.T) {
	f := newMixture(t, 9)
	defer f.Close()
	f.roll(func(m *Machine) { f.next[m] = true })
	require.True(t, f.RunTill(20*time.Second, func() bool { return f.format() == store.NextBatch }))
	m := f.Machines()[0]
	before := len(m.Exits())
	m.Kill()
	f.next[m] = false
	f.RunFor(5 * time.Second)
	exits := m.Exits()[before:]
	require.Greater(t, len(exits), 1)
	assert.ErrorContains(t, exits[1].Err, "batch format 3 is not known here, this program reads 1 to 2: use the version of the program that wrote it, or a later one")
	f.next[m] = true
	require.True(t, f.RunTill(20*time.Second, func() bool { return f.format() == store.NextBatch }), "%v", m.Exits())
	require.Nil(t, f.Failure())
}

// ask sends a request to the first machine and gives status and body.
func (f *mixture) ask(method, path, body string) (status int, text string) {
	f.t.Helper()
	f.Spawn("asker", func(p *Proc) {
		resp, err := p.Do(p.Context(), &client.Request{
			Endpoint: "http://n1:2379", Method: method, Path: path, Body: body, ContentType: "application/json", Timeout: 10 * time.Second,
		})
		if err != nil {
			status, text = 599, err.Error()
			return
		}
		all, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		status, text = resp.Status, string(all)
	})
	require.True(f.t, f.RunTill(15*time.Second, func() bool { return status != 0 }))
	return status, text
}

// While a member of the version before is there, which asks nobody who he is, there are
// no users; once there are, the cluster does not go back to the format without guards.
func TestUsersWaitForTheLastUpgrade(t *testing.T) {
	f := newMixture(t, 3)
	defer f.Close()
	last := f.Machines()[2]
	old := func(on bool) {
		f.roll(func(m *Machine) { f.hold[m] = on && m == last })
		f.RunFor(3 * time.Second)
	}
	old(true)
	require.Equal(t, 1, f.format())
	const user = `{"user":"root","password":"x"}`
	status, text := f.ask("PUT", "/v2/auth/users/root", user)
	assert.Equal(t, 500, status)
	assert.Equal(t, `{"message":"etcdserver: users and roles are for a cluster whose members all run this version: upgrade, or wait for, n3"}`, text)
	old(false)
	require.Equal(t, 2, f.format())
	status, text = f.ask("PUT", "/v2/auth/users/root", user)
	assert.Equal(t, 201, status, text)
	old(true)
	assert.Equal(t, 2, f.format(), "guards count")
	f.sound()
}
