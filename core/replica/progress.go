package replica

import (
	"io"

	"github.com/keelson/keelson/core/env"
)

// How much work passes between two lines for people. Less than that leaves no line.
const (
	progressBytes   = 8 << 20
	progressEntries = 10_000
)

// progress tells people how far something long has come.
type progress struct {
	log  env.Log
	id   env.NodeID
	what string
	done int64
	of   int64 // 0: not known
	told int64
	step int64
}

func (p *progress) add(n int64) {
	p.done += n
	if p.done-p.told < p.step {
		return
	}
	p.told = p.done
	if p.of > 0 {
		p.log.Log(env.Info, p.what, "id", p.id, "done", p.done, "of", p.of, "percent", p.done*100/p.of)
		return
	}
	p.log.Log(env.Info, p.what, "id", p.id, "done", p.done)
}

// through is a reader whose progress is told.
type through struct {
	r io.Reader
	p *progress
}

// Read reads on.
func (t through) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	t.p.add(int64(n))
	return n, err
}

// watched gives r with lines about how much of size bytes was loaded.
func (r *Replica) watched(from io.Reader, size int64) io.Reader {
	if size < progressBytes {
		return from
	}
	r.env.Log.Log(env.Info, "loading the state", "id", r.cfg.ID, "bytes", size)
	return through{from, &progress{log: r.env.Log, id: r.cfg.ID, what: "loading the state", of: size, step: progressBytes}}
}

// applying tells how far the log was applied, where it is long: after a restart, or
// when this member was away.
func (r *Replica) applying() {
	if r.applied >= r.toldAt+progressEntries {
		r.toldAt = r.applied
		if behind := max(r.commit, r.raft.BasicStatus().GetCommit()) - r.applied; behind > 0 {
			r.env.Log.Log(env.Info, "applying the log", "id", r.cfg.ID, "applied", r.applied, "behind", behind)
		}
	}
}

// receiving tells how much of a state has arrived.
func (r *Replica) receiving(n int) {
	in := &r.in
	in.bytes += int64(n)
	if in.bytes-in.told >= progressBytes {
		in.told = in.bytes
		r.env.Log.Log(env.Info, "receiving the state", "id", r.cfg.ID, "from", in.from, "bytes", in.bytes)
	}
}
