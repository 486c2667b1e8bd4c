package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
)

const semaphoreKey = "/coreos.com/updateengine/rebootlock/semaphore"

type semaphore struct {
	Semaphore, Max int
	Holders        []string
}

// locker is one machine that wants to reboot, and says so by locksmithctl.
type locker struct {
	ctl []string
	id  string
}

// call runs the tool; unlike run it may be used on any goroutine.
func (k *locker) call(ctx context.Context, words ...string) result {
	var out, errOut text
	args := append(append(k.ctl[1:len(k.ctl):len(k.ctl)], words...), k.id)
	cmd := exec.CommandContext(ctx, k.ctl[0], args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ(), &out, &errOut
	if err := (*space)(nil).do(cmd.Start); err != nil {
		return result{-1, "", err.Error()}
	}
	cmd.Wait()
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// lock tries until the slot is had, as an agent does. A holder that does not know
// it, because the answer was lost, learns it at the next try.
func (k *locker) lock(ctx context.Context) (tries int, err error) {
	for tries = 1; ctx.Err() == nil; tries++ {
		r := k.call(ctx, "lock")
		if r.status == 0 || strings.Contains(r.err, "holder exists") {
			return tries, nil
		}
		if r.status != 1 || r.err == "" || r.out != "" {
			return tries, fmt.Errorf("lock %s: %v", k.id, r)
		}
		time.Sleep(think)
	}
	return tries, fmt.Errorf("lock %s: %w", k.id, context.Cause(ctx))
}

func (k *locker) unlock(ctx context.Context) error {
	for ctx.Err() == nil {
		r := k.call(ctx, "unlock")
		if r.status == 0 || strings.Contains(r.err, "holder does not exist") {
			return nil
		}
		time.Sleep(think)
	}
	return fmt.Errorf("unlock %s: %w", k.id, context.Cause(ctx))
}

// Ten machines want three slots while the leader is killed: never do more than
// three hold one, and every one gets its turn.
func TestHoldersNeverExceedMax(t *testing.T) {
	t.Parallel()
	const slots, machines = 3, 10
	c := startCluster(t, 3, nil)
	ctl := []string{link(t, "locksmithctl"), "-endpoint", strings.Join(c.client, ",")}
	says := func(words ...string) result { return run(t, nil, nil, append(ctl[:3:3], words...)...) }
	assert.Equal(t, result{0, "Available: 1\nMax: 1\n", ""}, says("status"))
	assert.Equal(t, result{0, fmt.Sprintf("Old-Max: 1\nMax: %d\n", slots), ""}, says("set-max", fmt.Sprint(slots)))

	begun, err := c.keys(t).Get(t.Context(), semaphoreKey, client.GetOptions{})
	require.NoError(t, err)
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	var seen []semaphore
	var observer sync.WaitGroup
	observer.Go(func() { seen = observe(t, watching, c.keys(t), begun.Node.ModifiedIndex) })

	ctx := within(t, 40)
	var inside, locked, most, refusals atomic.Int64
	var all sync.WaitGroup
	for n := range machines {
		k := &locker{ctl, fmt.Sprintf("%032x", n)}
		all.Go(func() {
			tries, err := k.lock(ctx)
			if !assert.NoError(t, err) {
				return
			}
			refusals.Add(int64(tries - 1))
			held := inside.Add(1)
			most.Store(max(most.Load(), held))
			assert.LessOrEqual(t, held, int64(slots), "machines hold the lock at once")
			locked.Add(1)
			time.Sleep(5 * think) // it reboots
			inside.Add(-1)
			assert.NoError(t, k.unlock(ctx))
		})
	}
	until(t, "some have had the lock", func() bool { return locked.Load() >= 2 })
	leader := c.leader(t)
	c.kill(leader)
	all.Wait()
	c.start(t, leader)
	c.healthy(t)

	assert.EqualValues(t, machines, locked.Load())
	assert.Equal(t, result{0, fmt.Sprintf("Available: %d\nMax: %d\n", slots, slots), ""}, says("status"))
	assert.Equal(t, 1, says("unlock", "stranger").status)
	assert.Equal(t, result{0, "", ""}, says("lock", "last"))
	assert.Equal(t, result{0, "Available: 2\nMax: 3\n\nMACHINE ID\nlast\n", ""}, says("status"))
	if t.Failed() {
		stop() // the last change may never come
	}
	observer.Wait()
	holders := 0
	for _, s := range seen {
		assert.LessOrEqual(t, len(s.Holders), s.Max)
		assert.Equal(t, s.Max, s.Semaphore+len(s.Holders))
		holders = max(holders, len(s.Holders))
	}
	assert.GreaterOrEqual(t, len(seen), 2*machines+1, "each taking and giving back is a change")
	assert.Greater(t, holders, 1, "nobody ever shared")
	t.Logf("%d changes of the lock, at most %d holders, %d refusals", len(seen), holders, refusals.Load())
}

// observe follows the semaphore until the machine named last holds it.
func observe(t *testing.T, ctx context.Context, keys *client.Keys, after uint64) (seen []semaphore) {
	w := keys.Watch(semaphoreKey, client.WatchOptions{After: after})
	for {
		e, err := w.Next(ctx)
		if ctx.Err() != nil {
			return seen
		}
		var gap *client.GapError
		if errors.As(err, &gap) {
			t.Error(err)
			return seen
		}
		if err != nil {
			continue // nobody answers for the moment; the watch knows where it was
		}
		var s semaphore
		if !assert.NoError(t, json.Unmarshal([]byte(e.Node.Value), &s), e.Node.Value) {
			return seen
		}
		seen = append(seen, s)
		if len(s.Holders) == 1 && s.Holders[0] == "last" {
			return seen
		}
	}
}
