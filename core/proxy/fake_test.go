package proxy

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// world is a loop that runs what is due, members that answer as a test says, and a
// disk in memory.
type world struct {
	now   env.Instant
	due   []*timer
	files map[string][]byte
	full  bool
	asked []*env.WebRequest // but for lists of members
	// answer says what a member does; nil is a refused connection.
	answer map[string]func(req *env.WebRequest, r env.WebReceiver)
	lists  string // what /members gives; "" is a refused connection
	of     string // the cluster that says so
	log    []string
	marks  []string
}

type timer struct {
	at      env.Instant
	fn      func()
	stopped bool
}

func (t *timer) Stop() { t.stopped = true }

func (w *world) Now() env.Instant { return w.now }
func (w *world) Wall() time.Time  { return time.Unix(0, 0).UTC() }
func (w *world) After(d time.Duration, fn func()) env.Timer {
	t := &timer{at: w.now.Add(max(d, 0)), fn: fn}
	w.due = append(w.due, t)
	return t
}

func (w *world) Names() ([]string, error) { return nil, nil }
func (w *world) Load(name string) ([]byte, error) {
	if p, ok := w.files[name]; ok {
		return p, nil
	}
	return nil, fs.ErrNotExist
}
func (w *world) Append(string, []byte, func(error)) { panic("not used") }
func (w *world) Remove(string, func(error))         { panic("not used") }
func (w *world) Replace(name string, c io.WriterTo, done func(error)) {
	var b bytes.Buffer
	_, _ = c.WriteTo(&b)
	w.After(time.Millisecond, func() {
		if w.full {
			done(env.ErrFull)
			return
		}
		w.files[name] = b.Bytes()
		done(nil)
	})
}

func (w *world) Log(_ env.Level, msg string, _ ...any) { w.log = append(w.log, msg) }
func (w *world) Chance(string) bool                    { return false }
func (w *world) Mark(name string)                      { w.marks = append(w.marks, name) }

// receiver hears nothing any more once the request was cancelled.
type receiver struct {
	r   env.WebReceiver
	off bool
}

func (c *receiver) Head(status int, header []env.WebHeader) {
	if !c.off {
		c.r.Head(status, header)
	}
}

func (c *receiver) Chunk(p []byte) {
	if !c.off {
		c.r.Chunk(p)
	}
}

func (c *receiver) End(err error) {
	if !c.off {
		c.off = true
		c.r.End(err)
	}
}

func (w *world) Do(req *env.WebRequest, r env.WebReceiver) func() {
	rc := &receiver{r: r}
	w.After(time.Millisecond, func() {
		if rc.off {
			return
		}
		if strings.HasSuffix(req.URL, "/members") && !strings.Contains(req.URL, "/v2/") {
			if w.lists == "" {
				rc.End(env.ErrUnsent)
				return
			}
			rc.Head(200, []env.WebHeader{{Name: "X-Etcd-Cluster-Id", Value: w.of}})
			rc.Chunk([]byte(w.lists))
			rc.End(nil)
			return
		}
		w.asked = append(w.asked, req)
		for base, fn := range w.answer {
			if strings.HasPrefix(req.URL, base+"/") && fn != nil {
				fn(req, rc)
				return
			}
		}
		rc.End(env.ErrUnsent)
	})
	return func() { rc.off = true }
}

// run lets d pass, turn by turn.
func (w *world) run(p *Proxy, d time.Duration) {
	end := w.now.Add(d)
	for {
		var next *timer
		for _, t := range w.due {
			if !t.stopped && t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		if next == nil {
			w.now = end
			return
		}
		next.stopped = true
		w.now = max(w.now, next.at)
		next.fn()
		p.Flush()
	}
}

const three = `[{"id":1,"name":"a","peerURLs":["http://a:2380"],"clientURLs":["http://a:2379"]},
{"id":2,"name":"b","peerURLs":["http://b:2380"],"clientURLs":["http://b:2379"]},
{"id":3,"name":"c","peerURLs":["http://c:2380"],"clientURLs":["http://c:2379"]}]`

func newWorld() *world {
	return &world{files: map[string][]byte{}, answer: map[string]func(*env.WebRequest, env.WebReceiver){}, lists: three, of: "cafe"}
}

func (w *world) open(t *testing.T, cfg Config) *Proxy {
	t.Helper()
	if cfg.PeerURLs == nil {
		cfg.PeerURLs = []string{"http://a:2380"}
	}
	p, err := Open(cfg, w.env())
	require.NoError(t, err)
	p.Flush()
	w.run(p, 10*time.Millisecond)
	return p
}

func (w *world) env() *env.Env {
	return &env.Env{Clock: w, Disk: w, Web: w, Log: w, Rare: w, Rand: rand.New(rand.NewPCG(1, 2))}
}

// everywhere has all members answer alike.
func (w *world) everywhere(fn func(*env.WebRequest, env.WebReceiver)) {
	for _, m := range []string{"http://a:2379", "http://b:2379", "http://c:2379"} {
		w.answer[m] = fn
	}
}

// caller is a client.
type caller struct {
	reply  *gateway.Reply
	stream string
	ended  bool
	broken bool
	slow   bool
}

func (c *caller) Reply(r *gateway.Reply) { c.reply = r }
func (c *caller) Chunk(p []byte) bool {
	if c.slow {
		return false
	}
	c.stream += string(p)
	return true
}
func (c *caller) End()   { c.ended = true }
func (c *caller) Break() { c.broken = true }

func says(status int, body string, header ...env.WebHeader) func(*env.WebRequest, env.WebReceiver) {
	return func(_ *env.WebRequest, r env.WebReceiver) {
		r.Head(status, header)
		if body != "" {
			r.Chunk([]byte(body))
		}
		r.End(nil)
	}
}

func (w *world) ask(p *Proxy, method, target string) *caller {
	path, query, _ := strings.Cut(target, "?")
	c := &caller{}
	p.Serve(&gateway.Request{Method: method, Path: path, Query: query}, c)
	w.run(p, 50*time.Millisecond)
	return c
}
