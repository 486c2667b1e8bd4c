package realnet

import (
	"runtime"
	"sync"

	"github.com/keelson/keelson/core/env"
)

// Work implements env.Work with as many goroutines as there are processors, which
// end when nothing is left to do.
type Work struct {
	post func(func()) bool

	mu      sync.Mutex
	queue   []job
	running int
}

type job struct{ fn, done func() }

// NewWork makes a Work whose completions are handed to post.
func NewWork(post func(func()) bool) *Work { return &Work{post: post} }

// Run implements env.Work.
func (w *Work) Run(fn func(), done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, job{fn, done})
	if w.running < runtime.GOMAXPROCS(0) {
		w.running++
		go w.drain()
	}
}

func (w *Work) drain() {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.running--
			w.mu.Unlock()
			return
		}
		j := w.queue[0]
		w.queue[0] = job{}
		w.queue = w.queue[1:]
		w.mu.Unlock()
		j.fn()
		w.post(j.done)
	}
}

var _ env.Work = (*Work)(nil)
