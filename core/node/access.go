package node

import (
	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// access keeps users and roles as the store has them.
type access struct {
	state   *auth.State
	index   store.Index
	stale   bool // the store has others
	changed bool // and watches were not judged by them yet
}

// Auth implements gateway.Guard.
func (n *Node) Auth() (*auth.State, store.Index) {
	a := &n.access
	if !a.stale {
		return a.state, a.index
	}
	a.stale = false
	a.state, a.index = &auth.State{}, 0
	if node, missing := n.View().Get(store.SecretKey, false); missing == nil {
		var err error
		if a.state, err = auth.Decode(node.Value); err != nil {
			n.env.Log.Log(env.Error, "access is refused to everybody", "error", err)
		}
		a.index = node.Modified
	}
	return a.state, a.index
}

// Work implements gateway.Guard.
func (n *Node) Work(fn, done func()) {
	n.env.Work.Run(fn, func() {
		if !n.inert() {
			done()
		}
	})
}
