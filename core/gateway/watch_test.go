package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/store"
)

const (
	setFoo4 = `{"action":"set","node":{"key":"/foo","value":"4","modifiedIndex":4,"createdIndex":4}}` + "\n"
	setFoo5 = `{"action":"set","node":{"key":"/foo","value":"5","modifiedIndex":5,"createdIndex":5},"prevNode":{"key":"/foo","value":"4","modifiedIndex":4,"createdIndex":4}}` + "\n"
)

func TestWatchHeadAtOnce(t *testing.T) {
	s := newServer(Options{})
	s.skip(3)
	s.held = true // a watch needs no other member
	r := s.start(t, "GET /v2/keys/foo?wait=true&quorum=false")
	assert.Equal(t, &Reply{Status: 200, More: true, Header: []Header{
		{"Content-Type", "application/json"},
		{"X-Etcd-Cluster-Id", "7e27652122e8b2ae"},
		{"X-Etcd-Index", "3"},
		{"X-Raft-Index", "40"},
		{"X-Raft-Term", "2"},
	}}, r.reply)
	assert.Empty(t, r.chunks)
	assert.Zero(t, r.ended)

	answer := newReader()
	s.Serve(request("PUT /v2/keys/foo value=4"), answer)
	s.release()
	assert.Equal(t, []string{setFoo4}, r.chunks)
	assert.Equal(t, 1, r.ended)
	assert.Equal(t, setFoo4, string(answer.reply.Body))
	s.do("PUT /v2/keys/foo value=5")
	assert.Len(t, r.chunks, 1, "a long poll is over with its event")
	assert.Zero(t, s.Watches())
	assert.Zero(t, s.watchers.Len())
}

func TestWatchFromHistory(t *testing.T) {
	s := newServer(Options{})
	s.skip(3)
	s.do("PUT /v2/keys/foo value=4")
	s.do("PUT /v2/keys/foo value=5")
	s.skip(8)

	r := s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=2")
	assert.Equal(t, "8", r.reply.header("X-Etcd-Index"), "the head tells the present index")
	assert.Equal(t, []string{setFoo4}, r.chunks)
	assert.Equal(t, 1, r.ended)

	r = s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=5")
	assert.Equal(t, []string{setFoo5}, r.chunks)

	r = s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=6")
	assert.Empty(t, r.chunks)
	s.do("PUT /v2/keys/foo value=9")
	assert.Len(t, r.chunks, 1)

	r = s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=0")
	assert.Empty(t, r.chunks, "0 is from now")
}

func TestWatchStreamGoesOnFromHistoryToLive(t *testing.T) {
	s := newServer(Options{})
	s.skip(3)
	s.do("PUT /v2/keys/foo value=4")
	s.do("PUT /v2/keys/foo value=5")
	r := s.start(t, "GET /v2/keys/foo?wait=true&stream=true&waitIndex=4")
	assert.Equal(t, []string{setFoo4, setFoo5}, r.chunks)
	s.do("DELETE /v2/keys/foo")
	s.do("PUT /v2/keys/foo value=7")
	require.Len(t, r.chunks, 4, "a deletion of the very key comes once")
	assert.Contains(t, r.chunks[2], `"delete"`)
	assert.Contains(t, r.chunks[3], `"set"`)
	assert.Zero(t, r.ended)
	assert.Equal(t, 1, s.Watches())
}

func TestWatchInTheFuture(t *testing.T) {
	s := newServer(Options{})
	s.skip(3)
	r := s.start(t, "GET /v2/keys/foo?wait=true&stream=true&waitIndex=6")
	for i := range 4 { // 4 to 7
		s.do(fmt.Sprintf("PUT /v2/keys/foo value=%d", i+4))
	}
	require.Len(t, r.chunks, 2)
	assert.Contains(t, r.chunks[0], `"value":"6","modifiedIndex":6`)
	assert.Contains(t, r.chunks[1], `"value":"7","modifiedIndex":7`)
	s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=18446744073709551615")
}

func TestWatchSeesExpiry(t *testing.T) {
	s := newServer(Options{})
	s.skip(7)
	s.do("PUT /v2/keys/a ttl=1&value=1")
	r := s.start(t, "GET /v2/keys/a?wait=true&stream=true")
	s.now = 999 * time.Millisecond
	s.apply()
	assert.Empty(t, r.chunks)
	s.now = time.Second
	s.apply()
	require.Equal(t, []string{`{"action":"expire","node":{"key":"/a","modifiedIndex":9,"createdIndex":8},"prevNode":{"key":"/a","value":"1","expiration":"2025-11-20T11:14:55.922523342Z","modifiedIndex":8,"createdIndex":8}}` + "\n"}, r.chunks)
}

func TestWatchClearedHistory(t *testing.T) {
	s := newServer(Options{})
	s.skip(1101)
	r := s.do("GET /v2/keys/foo?wait=true&waitIndex=5")
	assert.Equal(t, 400, r.Status)
	assert.Equal(t, `{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [102/5]","index":1101}`+"\n", string(r.Body))
	assert.Equal(t, "1101", r.header("X-Etcd-Index"))
	assert.False(t, r.More)
	assert.True(t, s.start(t, "GET /v2/keys/foo?wait=true&waitIndex=102").reply.More)
}

func TestWatchTree(t *testing.T) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/d/a/f value=1")
	s.do("PUT /v2/keys/d/_h value=1")
	watch := func(path string) *reader { return s.start(t, "GET /v2/keys"+path+"wait=true&stream=true") }
	rec, flat, inside, hidden, ghost, beside := watch("/d?recursive=true&"), watch("/d?"), watch("/d/a/f?"), watch("/d/_h?"), watch("/d/ghost?"), watch("/dzz?recursive=1&")
	root, rootFlat := watch("?recursive=true&"), watch("?")
	s.do("PUT /v2/keys/d/a/g value=1")
	s.do("PUT /v2/keys/d/_h value=2")
	s.do("PUT /v2/keys/d/a/f refresh=true&ttl=9")
	s.do("DELETE /v2/keys/d?recursive=true")
	count := func(r *reader) int { return len(r.chunks) }
	assert.Equal(t, []int{2, 1, 1, 2, 0, 0, 2, 0},
		[]int{count(rec), count(flat), count(inside), count(hidden), count(ghost), count(beside), count(root), count(rootFlat)})
	assert.Contains(t, inside.chunks[0], `{"action":"delete","node":{"key":"/d","dir":true`, "the event is that of the directory")
}

// TestWatchReaderBehind: a reader that is too far behind loses its connection and
// nothing else.
func TestWatchReaderBehind(t *testing.T) {
	s := newServer(Options{})
	r := newReader()
	r.room = 2
	s.Serve(request("GET /v2/keys/foo?wait=true&stream=true"), r)
	for range 5 {
		s.do("PUT /v2/keys/foo value=x")
	}
	assert.Len(t, r.chunks, 2)
	assert.Equal(t, 1, r.refuse)
	assert.Equal(t, 1, r.ended)
	assert.Zero(t, s.Watches())

	r = newReader()
	r.room = 2
	s.Serve(request("GET /v2/keys/foo?wait=true&stream=true&waitIndex=1"), r)
	assert.Len(t, r.chunks, 2)
	assert.Equal(t, 1, r.ended)
	assert.Zero(t, s.Watches())
}

func TestWatchCancelAndStop(t *testing.T) {
	s := newServer(Options{})
	var rs []*reader
	var cancels []func()
	for range 3 {
		r := newReader()
		rs, cancels = append(rs, r), append(cancels, s.Serve(request("GET /v2/keys/foo?wait=true"), r))
	}
	cancels[1]()
	cancels[1]()
	assert.Equal(t, 2, s.Watches())
	assert.Equal(t, 2, s.watchers.Len())
	s.Stop()
	assert.Equal(t, []int{1, 0, 1}, []int{rs[0].ended, rs[1].ended, rs[2].ended})
	assert.Zero(t, s.Watches())
	assert.Zero(t, s.watchers.Len())
	s.do("PUT /v2/keys/foo value=1")
	assert.Empty(t, rs[0].chunks)
	cancels[0]()
}

// TestWatchRestored: a view that leaps ahead tells watches from its history, or
// ends them when that does not reach back far enough.
func TestWatchRestored(t *testing.T) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/foo value=1")
	stream := s.start(t, "GET /v2/keys/foo?wait=true&stream=true")
	poll := s.start(t, "GET /v2/keys/bar?wait=true")
	other := s.start(t, "GET /v2/keys/other?wait=true")
	leap := func(n int, key string) {
		for range n {
			s.store.Apply(&store.Batch{Wall: wallStart, Commands: []store.Command{{Op: store.OpSet, Key: key, Value: "x"}}}, nil)
		}
		s.Restored()
	}
	leap(3, "/foo")
	assert.Len(t, stream.chunks, 3)
	s.do("PUT /v2/keys/foo value=5")
	assert.Len(t, stream.chunks, 4)
	leap(1, "/bar")
	assert.Len(t, poll.chunks, 1)
	assert.Equal(t, 1, poll.ended)
	s.Restored()
	assert.Len(t, stream.chunks, 4, "catching up twice repeats nothing")
	leap(1200, "/foo")
	assert.Equal(t, 1, stream.ended)
	assert.Equal(t, 1, other.ended)
	assert.Zero(t, s.Watches())
}

func TestEventsAreEncodedOnce(t *testing.T) {
	s := newServer(Options{})
	var first []byte
	share := &sharer{}
	for range 3 {
		s.Serve(request("GET /v2/keys/foo?wait=true"), share)
	}
	first = s.do("PUT /v2/keys/foo value=1").Body
	require.Len(t, share.chunks, 3)
	for _, c := range share.chunks {
		assert.Same(t, &first[0], &c[0])
	}
}

// sharer keeps the chunks it gets as they are.
type sharer struct{ chunks [][]byte }

func (s *sharer) Reply(*Reply)        {}
func (s *sharer) Chunk(p []byte) bool { s.chunks = append(s.chunks, p); return true }
func (s *sharer) End()                {}

// TestBodiesMemoryIsBounded: events whose index share a place do not mix, and big
// ones are not kept.
func TestBodiesMemoryIsBounded(t *testing.T) {
	var b bodies
	event := func(i store.Index, size int) *store.Event {
		return &store.Event{Action: store.ActionSet, Index: i, Node: &store.Node{Key: "/a", Value: strings.Repeat("x", size), Modified: i, Created: i}}
	}
	one, same, big := event(1, 1), event(1+bodiesKept, 2), event(3, bodyBytesMax)
	for _, e := range []*store.Event{one, same, one, big, same, event(1, 9)} {
		assert.Equal(t, string(AppendEvent(nil, e)), string(b.of(e)))
	}
	assert.Nil(t, b.kept[3].event)
}

// TestWatchesAgainstTheLog draws writes, watches with any start, slow readers and
// leaps, and holds what each reader got against the list of all events.
func TestWatchesAgainstTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newServer(Options{})
		var log []logged
		var open []*expected
		keys := rapid.SampledFrom([]string{"/a", "/a/b", "/a/b/c", "/a/_h", "/a/_h/x", "/ab", "/a/b/c/d", "/d"})
		write := func(t *rapid.T, leap bool) {
			c := store.Command{Op: rapid.SampledFrom([]store.Op{store.OpSet, store.OpSet, store.OpCreate, store.OpUpdate, store.OpDelete}).Draw(t, "op"), Key: keys.Draw(t, "key")}
			if c.Op == store.OpDelete {
				c.Recursive = true
			} else {
				c.Dir = rapid.IntRange(0, 3).Draw(t, "dir") == 0
				c.Refresh = !c.Dir && c.Op == store.OpSet && rapid.Bool().Draw(t, "refresh")
				c.HasTTL, c.TTL = c.Refresh, 1e12
			}
			before := s.View()
			if leap {
				s.store.Apply(&store.Batch{Wall: wallStart, Commands: []store.Command{c}}, func(e *store.Event) { log = append(log, logged{e, before}) })
				s.Restored()
				return
			}
			if res := s.apply(c)[0]; res.Event != nil {
				log = append(log, logged{res.Event, before})
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) { write(t, false) },
			"leap":  func(t *rapid.T) { write(t, true) },
			"watch": func(t *rapid.T) {
				e := &expected{key: keys.Draw(t, "key"), recursive: rapid.Bool().Draw(t, "recursive"), stream: rapid.Bool().Draw(t, "stream"), r: newReader()}
				e.from = store.Index(rapid.IntRange(0, int(s.store.Index())+4).Draw(t, "from"))
				e.r.room = rapid.SampledFrom([]int{-1, -1, 0, 1, 3}).Draw(t, "room")
				e.room = e.r.room
				line := fmt.Sprintf("GET /v2/keys%s?wait=1&recursive=%t&stream=%t&waitIndex=%d", e.key, e.recursive, e.stream, e.from)
				if e.from == 0 {
					e.from = s.store.Index() + 1
				}
				s.Serve(request(line), e.r)
				open = append(open, e)
			},
			"": func(t *rapid.T) {
				for _, e := range open {
					e.check(t, log)
				}
			},
		})
	})
}

type logged struct {
	event  *store.Event
	before *store.View
}

type expected struct {
	key               string
	recursive, stream bool
	from              store.Index
	room              int
	r                 *reader
}

func (x *expected) check(t *rapid.T, log []logged) {
	var want []string
	ended := false
	for _, l := range log {
		if ended || l.event.Index < x.from || !x.matches(l) {
			continue
		}
		if x.room >= 0 && len(want) == x.room {
			ended = true
			continue
		}
		want = append(want, string(AppendEvent(nil, l.event)))
		ended = !x.stream
	}
	require.Equal(t, want, x.r.chunks, "%+v", x)
	require.Equal(t, ended, x.r.ended == 1, "%+v", x)
}

// matches is the rule in its plainest form.
func (x *expected) matches(l logged) bool {
	if l.event.Refresh {
		return false
	}
	k := l.event.Node.Key
	if k == x.key {
		return true
	}
	if inside, ok := strings.CutPrefix(k, x.key+"/"); ok {
		return x.recursive && !strings.Contains("/"+inside, "/_")
	}
	if l.event.Action != store.ActionDelete || !strings.HasPrefix(x.key, k+"/") {
		return false
	}
	_, err := l.before.Get(x.key, false)
	return err == nil
}
