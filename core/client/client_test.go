package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/store"
)

// fake answers requests by a function and lets time pass by sleeping only.
type fake struct {
	answer func(r *Request) (*Response, error)
	sent   []Request
	slept  []time.Duration
	now    time.Duration
	chance float64
}

func (f *fake) Do(_ context.Context, r *Request) (*Response, error) {
	f.sent = append(f.sent, *r)
	f.now += time.Millisecond
	return f.answer(r)
}

func (f *fake) Sleep(ctx context.Context, d time.Duration) error {
	f.slept = append(f.slept, d)
	f.now += d
	return ctx.Err()
}

func (f *fake) Now() time.Duration { return f.now }

func (f *fake) Float64() float64 {
	f.chance += 0.37
	if f.chance >= 1 {
		f.chance--
	}
	return f.chance
}

func reply(status int, body string, header ...string) (*Response, error) {
	h := map[string]string{}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return &Response{Status: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
}

const okBody = `{"action":"set","node":{"key":"/a","value":"1","modifiedIndex":7,"createdIndex":7}}`

var (
	errRefused = errors.New("dial tcp 10.0.0.1:1: connect: connection refused")
	errLost    = fmt.Errorf("read: connection reset: %w", ErrUnknown)
)

func eps(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("http://n%d", i))
	}
	return list
}

// cut is a body that ends too early.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (cut) Close() error             { return nil }

// The table of retries, seen from outside: how many requests three endpoints get
// in one round, and what the caller learns.
func TestRetries(t *testing.T) {
	fails := map[string]func() (*Response, error){
		"not sent": func() (*Response, error) { return nil, errRefused },
		"lost":     func() (*Response, error) { return nil, errLost },
		"timeout":  func() (*Response, error) { return nil, ErrTimeout },
		"cut":      func() (*Response, error) { return &Response{Status: 200, Body: cut{}}, nil },
		"500":      func() (*Response, error) { return reply(500, `{"errorCode":300,"message":"Raft Internal Error"}`) },
		"503":      func() (*Response, error) { return reply(503, `nobody here`) },
		"refusal":  func() (*Response, error) { return reply(412, `{"errorCode":101,"message":"Compare failed"}`) },
		"nonsense": func() (*Response, error) { return reply(200, `{}`) },
	}
	calls := map[string]func(k *Keys) error{
		"get":  func(k *Keys) error { _, err := k.Get(t.Context(), "/a", GetOptions{}); return err },
		"set":  func(k *Keys) error { _, err := k.Set(t.Context(), "/a", "1", SetOptions{}); return err },
		"post": func(k *Keys) error { _, err := k.CreateInOrder(t.Context(), "/a", "1", SetOptions{}); return err },
		"cas": func(k *Keys) error {
			_, err := k.CompareAndSwap(t.Context(), "/a", "1", Condition{PrevIndex: 3}, SetOptions{})
			return err
		},
		"delete": func(k *Keys) error { _, err := k.Delete(t.Context(), "/a", DeleteOptions{}); return err },
	}
	once := map[string]bool{"refusal": true, "nonsense": true}
	for how, answer := range fails {
		for name, call := range calls {
			t.Run(how+"/"+name, func(t *testing.T) {
				d := &fake{answer: func(*Request) (*Response, error) { return answer() }}
				err := call(New(d, Options{Endpoints: eps(3), Rounds: 1}).Keys())
				require.Error(t, err)
				write := name != "get"
				again := !once[how] && (how == "not sent" || !write)
				assert.Len(t, d.sent, map[bool]int{true: 3, false: 1}[again])
				unknown := write && how != "not sent" && how != "refusal"
				assert.Equal(t, unknown, errors.Is(err, ErrUnknown), "%v", err)
			})
		}
	}
}

func TestASecondEndpointAnswersAndIsKept(t *testing.T) {
	d := &fake{}
	d.answer = func(r *Request) (*Response, error) {
		if r.Endpoint != "http://n2" {
			return nil, errRefused
		}
		return reply(200, okBody, "X-Etcd-Index", "9")
	}
	k := New(d, Options{Endpoints: eps(3), Ordered: true}).Keys()
	e, err := k.Set(t.Context(), "/a", "1", SetOptions{})
	require.NoError(t, err)
	assert.Equal(t, uint64(9), e.Index)
	assert.Len(t, d.sent, 3)
	_, err = k.Set(t.Context(), "/a", "1", SetOptions{})
	require.NoError(t, err)
	assert.Len(t, d.sent, 4, "the endpoint that answered is asked first")
}

func TestClusterErrorInTheOriginalsWords(t *testing.T) {
	d := &fake{answer: func(r *Request) (*Response, error) {
		if r.Endpoint == "http://n0" {
			return nil, errRefused
		}
		return nil, ErrTimeout
	}}
	_, err := New(d, Options{Endpoints: eps(2), Rounds: 1, Ordered: true}).Keys().Get(t.Context(), "/a", GetOptions{})
	assert.EqualError(t, err, "client: etcd cluster is unavailable or misconfigured"+
		"; error #0: dial tcp 10.0.0.1:1: connect: connection refused\n"+
		"; error #1: client: endpoint http://n1 exceeded header timeout\n")
	assert.NotErrorIs(t, err, ErrUnknown, "a read changes nothing")
}

func TestBackOff(t *testing.T) {
	d := &fake{answer: func(*Request) (*Response, error) { return nil, errRefused }}
	_, err := New(d, Options{Endpoints: eps(2), Total: time.Minute}).Keys().Get(t.Context(), "/a", GetOptions{})
	require.Error(t, err)
	assert.Less(t, len(d.sent), 80, "requests in a minute")
	assert.Greater(t, len(d.sent), 10)
	assert.Less(t, d.slept[0], 2*backoffMin)
	seen := map[time.Duration]bool{}
	for i, s := range d.slept {
		assert.LessOrEqual(t, s, backoffMax*3/2)
		assert.False(t, seen[s], "wait %d is like an earlier one", i)
		seen[s] = true
	}
}

func TestTotalBoundsACall(t *testing.T) {
	d := &fake{}
	d.answer = func(r *Request) (*Response, error) {
		assert.LessOrEqual(t, r.Timeout, 2*time.Second)
		d.now += r.Timeout
		return nil, ErrTimeout
	}
	c := New(d, Options{Endpoints: eps(5), Timeout: 2 * time.Second, Total: 5 * time.Second, Rounds: 1})
	_, err := c.Keys().Get(t.Context(), "/a", GetOptions{})
	assert.EqualError(t, err, "context deadline exceeded")
	assert.NotErrorIs(t, err, ErrUnknown)
	assert.LessOrEqual(t, d.now, 5*time.Second+10*time.Millisecond)
	d.now = 0
	c.o.Total = time.Second
	_, err = c.Keys().Set(t.Context(), "/a", "1", SetOptions{})
	assert.EqualError(t, err, "context deadline exceeded")
	assert.ErrorIs(t, err, ErrUnknown)
}

func TestCancelledWriteIsUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &fake{answer: func(*Request) (*Response, error) { cancel(); return nil, errLost }}
	_, err := New(d, Options{Endpoints: eps(1)}).Keys().Set(ctx, "/a", "1", SetOptions{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, ErrUnknown)
}

func TestRedirectsKeepTheMethod(t *testing.T) {
	for _, status := range []int{301, 302, 307, 308} {
		d := &fake{}
		d.answer = func(r *Request) (*Response, error) {
			if r.Endpoint == "http://n0" {
				return reply(status, "", "Location", "http://other:9/v2/keys/b?x=1")
			}
			return reply(201, okBody)
		}
		c := New(d, Options{Endpoints: eps(1), User: "u", Password: "p"})
		_, err := c.Keys().Set(t.Context(), "/a", "1", SetOptions{})
		require.NoError(t, err)
		to := d.sent[1]
		assert.Equal(t, []string{"http://other:9", "PUT", "/v2/keys/b", "x=1", "value=1", ""},
			[]string{to.Endpoint, to.Method, to.Path, to.Query, to.Body, to.Password})
	}
}

func TestRedirectsEnd(t *testing.T) {
	d := &fake{answer: func(*Request) (*Response, error) { return reply(307, "", "Location", "/v2/keys/again") }}
	_, err := New(d, Options{Endpoints: eps(1), Rounds: 1}).Keys().Get(t.Context(), "/a", GetOptions{})
	assert.ErrorContains(t, err, "redirects more than 10 times")
	d = &fake{answer: func(*Request) (*Response, error) { return reply(307, "") }}
	_, err = New(d, Options{Endpoints: eps(1), Rounds: 1}).Keys().Get(t.Context(), "/a", GetOptions{})
	assert.ErrorContains(t, err, "redirects to nowhere")
}

func TestRefusalsCarryCodes(t *testing.T) {
	d := &fake{answer: func(*Request) (*Response, error) {
		return reply(404, `{"errorCode":100,"message":"Key not found","cause":"/none","index":3}`+"\n")
	}}
	_, err := New(d, Options{Endpoints: eps(1)}).Keys().Get(t.Context(), "/none", GetOptions{})
	assert.EqualError(t, err, "100: Key not found (/none) [3]")
	assert.True(t, HasCode(err, store.CodeKeyNotFound))
	d.answer = func(*Request) (*Response, error) { return reply(404, "404 page not found\n") }
	_, err = New(d, Options{Endpoints: eps(1)}).Keys().Get(t.Context(), "/none", GetOptions{})
	assert.ErrorContains(t, err, "answer 404 is not one of the keys API")
}

func TestRequestsOfTheVerbs(t *testing.T) {
	d := &fake{answer: func(*Request) (*Response, error) { return reply(200, okBody) }}
	k, ctx := New(d, Options{Endpoints: eps(1)}).Keys(), t.Context()
	k.Get(ctx, "/a", GetOptions{Recursive: true, Reading: Local})
	k.Get(ctx, "/", GetOptions{})
	k.Set(ctx, "a", "x y", SetOptions{TTL: 1500 * time.Millisecond})
	k.Create(ctx, "/a/", "", SetOptions{Dir: true})
	k.Update(ctx, "/a", "", SetOptions{Refresh: true, TTL: time.Second})
	k.CompareAndSwap(ctx, "/p%2Fq?", "n", Condition{PrevValue: "o&", PrevIndex: 4}, SetOptions{})
	k.CreateInOrder(ctx, "/q", "j", SetOptions{})
	k.Delete(ctx, "/x/../a", DeleteOptions{Dir: true, Recursive: true})
	k.CompareAndDelete(ctx, "/a b", Condition{PrevIndex: 9})
	var got []string
	for _, r := range d.sent {
		got = append(got, fmt.Sprintf("%s %s?%s %s", r.Method, r.Path, r.Query, r.Body))
	}
	assert.Equal(t, []string{
		"GET /v2/keys/a?quorum=false&recursive=true&sorted=false ",
		"GET /v2/keys/?recursive=false&sorted=false ",
		"PUT /v2/keys/a? ttl=2&value=x+y",
		"PUT /v2/keys/a/?dir=true&prevExist=false ",
		"PUT /v2/keys/a?prevExist=true&refresh=true ttl=1",
		"PUT /v2/keys/p%252Fq%3F?prevIndex=4&prevValue=o%26 value=n",
		"POST /v2/keys/q? value=j",
		"DELETE /v2/keys/a?dir=true&recursive=true ",
		"DELETE /v2/keys/a%20b?prevIndex=9 ",
	}, got)
}

func event1(index uint64) string {
	return fmt.Sprintf(`{"action":"set","node":{"key":"/a","value":"%d","modifiedIndex":%d,"createdIndex":1}}`, index, index)
}

// A watch goes on by index over everything that can happen to its connection.
func TestWatchResumes(t *testing.T) {
	d := &fake{}
	steps := []func() (*Response, error){
		func() (*Response, error) { return reply(200, "", "X-Etcd-Index", "10") }, // let go at once
		func() (*Response, error) { return nil, errLost },
		func() (*Response, error) {
			return &Response{Status: 200, Header: map[string]string{"X-Etcd-Index": "20"}, Body: cut{}}, nil
		},
		func() (*Response, error) { return reply(200, event1(15)+"\n", "X-Etcd-Index", "20") },
		func() (*Response, error) { return nil, errRefused },
		func() (*Response, error) { return reply(200, event1(18)+"\n", "X-Etcd-Index", "20") },
	}
	d.answer = func(*Request) (*Response, error) {
		step := steps[0]
		steps = steps[1:]
		return step()
	}
	w := New(d, Options{Endpoints: eps(2)}).Keys().Watch("/a", WatchOptions{})
	var asked []string
	for _, want := range []uint64{15, 18} {
		e, err := w.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, e.Node.ModifiedIndex)
	}
	for _, r := range d.sent {
		asked = append(asked, strings.TrimPrefix(r.Query, "recursive=false&wait=true"))
		assert.True(t, r.Stream)
	}
	assert.Equal(t, []string{"", "&waitIndex=11", "&waitIndex=11", "&waitIndex=11", "&waitIndex=16", "&waitIndex=16"}, asked)
}

func TestWatchGap(t *testing.T) {
	d := &fake{answer: func(*Request) (*Response, error) {
		return reply(400, `{"errorCode":401,"message":"The event in requested index is outdated and cleared","cause":"the requested history has been cleared [102/5]","index":1101}`)
	}}
	_, err := New(d, Options{Endpoints: eps(1)}).Keys().Watch("/a", WatchOptions{After: 4}).Next(t.Context())
	var gap *GapError
	require.ErrorAs(t, err, &gap)
	assert.Equal(t, uint64(5), gap.Wanted)
	assert.Equal(t, uint64(1101), gap.Refusal.Index)
	assert.EqualError(t, err, "401: The event in requested index is outdated and cleared (the requested history has been cleared [102/5]) [1101]")
}

func TestWatchDoesNotSpin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &fake{}
	d.answer = func(*Request) (*Response, error) {
		if d.now > time.Minute {
			cancel()
		}
		return reply(200, "", "X-Etcd-Index", "10")
	}
	_, err := New(d, Options{Endpoints: eps(1)}).Keys().Watch("/a", WatchOptions{}).Next(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Less(t, len(d.sent), 40)
}

func TestSync(t *testing.T) {
	body := `{"members":[{"id":"1","name":"a","peerURLs":[],"clientURLs":["http://b:1/","http://a:1"]},{"id":"2","name":"","clientURLs":[]}]}`
	d := &fake{answer: func(*Request) (*Response, error) { return reply(200, body) }}
	c := New(d, Options{Endpoints: eps(1)})
	require.NoError(t, c.Sync(t.Context()))
	assert.ElementsMatch(t, []string{"http://a:1", "http://b:1"}, c.Endpoints())
	body = `{"members":[]}`
	assert.ErrorIs(t, c.Sync(t.Context()), ErrNoClientURLs)
	assert.Len(t, c.Endpoints(), 2, "they stay as they were")
}

func TestMembers(t *testing.T) {
	var status int
	var body string
	d := &fake{answer: func(*Request) (*Response, error) { return reply(status, body) }}
	m, ctx := New(d, Options{Endpoints: eps(1)}).Members(), t.Context()
	status, body = 201, `{"id":"78477cda2e1e860f","name":"","peerURLs":["http://10.0.0.10:2380"],"clientURLs":[]}`
	added, err := m.Add(ctx, "http://10.0.0.10:2380")
	require.NoError(t, err)
	assert.Equal(t, "78477cda2e1e860f", added.ID)
	assert.Equal(t, `{"peerURLs":["http://10.0.0.10:2380"]}`, d.sent[0].Body)
	status, body = 204, ""
	require.NoError(t, m.Remove(ctx, "1f"))
	require.NoError(t, m.Update(ctx, "1f", "http://x:1"))
	status, body = 404, `{"message":"No such member: 1f"}`
	assert.EqualError(t, m.Remove(ctx, "1f"), "No such member: 1f")
	status, body = 501, `{"message":"not offered"}`
	assert.EqualError(t, m.Remove(ctx, "1f"), "not offered")
	status, body = 404, `gone`
	assert.ErrorContains(t, m.Remove(ctx, "1f"), "answer 404")
	status, body = 503, `{"message":"During election"}`
	_, err = m.Leader(ctx)
	assert.ErrorContains(t, err, "has no leader")
}

func TestHealth(t *testing.T) {
	for body, want := range map[string]bool{
		`{"health": "true"}`: true, `{"health":true}`: true, `{"health":"false"}`: false, `{"health":false}`: false, `{}`: false,
	} {
		got, err := healthy([]byte(body))
		require.NoError(t, err)
		assert.Equal(t, want, got, body)
	}
	_, err := healthy([]byte("no"))
	assert.Error(t, err)
}

// However many endpoints refuse, time out or answer, a write reaches at most one
// server that could apply it.
func TestWritesReachOneServerAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "endpoints")
		reached := 0
		d := &fake{}
		d.answer = func(*Request) (*Response, error) {
			switch rapid.IntRange(0, 5).Draw(t, "answer") {
			case 0, 1, 2:
				return nil, errRefused
			case 3:
				reached++
				return nil, errLost
			case 4:
				reached++
				return reply(500, `{"errorCode":300}`)
			}
			reached++
			return reply(200, okBody)
		}
		_, err := New(d, Options{Endpoints: eps(n), Rounds: rapid.IntRange(1, 4).Draw(t, "rounds")}).Keys().
			CreateInOrder(context.Background(), "/q", "v", SetOptions{})
		if reached > 1 {
			t.Fatalf("sent %d times", reached)
		}
		if err != nil && errors.Is(err, ErrUnknown) != (reached == 1) {
			t.Fatalf("reached %d servers, error %v", reached, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, okBody)
	f.Add(200, "")
	f.Add(404, `{"errorCode":100}`)
	f.Add(200, `{"action":"get","node":{"nodes":[null]}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		d := &fake{answer: func(*Request) (*Response, error) { return reply(status, body, "X-Etcd-Index", "1") }}
		c := New(d, Options{Endpoints: eps(1), Rounds: 1})
		e, err := c.Keys().Get(context.Background(), "/a", GetOptions{})
		if err == nil && e.Node == nil {
			t.Fatal("neither node nor error")
		}
		c.Members().List(context.Background())
	})
}

func TestARemovedMemberIsPassedOver(t *testing.T) {
	f := &fake{}
	f.answer = func(r *Request) (*Response, error) {
		if r.Endpoint == "http://gone:1" {
			return reply(503, `{"message":"etcdserver: the member has been permanently removed from the cluster"}`, "X-Keelson-Outcome", "unsent")
		}
		return reply(201, okBody)
	}
	c := New(f, Options{Endpoints: []string{"http://gone:1", "http://b:1"}, Ordered: true})
	_, err := c.Keys().Set(context.Background(), "/a", "1", SetOptions{})
	require.NoError(t, err, "nobody acted on it")
	_, err = New(f, Options{Endpoints: []string{"http://gone:1"}, Rounds: 1}).Members().List(context.Background())
	assert.ErrorContains(t, err, "client: etcd member http://gone:1: etcdserver: the member has been permanently removed from the cluster")
}
