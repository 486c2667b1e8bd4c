package store

import "fmt"

// Copy is a part of another store, kept up from what that store tells: a listing by
// View.Whole, and then every event that touches the part (Event.Touches). Its views
// show what the views of the other store show there, at the same index. Only the
// time left of a deadline is told less exactly, and nothing expires by itself.
type Copy struct{ s *Store }

// NewCopy gives a copy of nothing.
func NewCopy() *Copy { return &Copy{New()} }

// Put takes one key of a listing. Now is a reading of any clock that only grows; the
// time left of n counts from it.
func (c *Copy) Put(n *Node, now Time) error {
	c.s.view = nil
	if n.Key == "/" {
		return nil
	}
	old, f := find(c.s.root, n.Key)
	switch {
	case !ValidKey(n.Key) || f.code == CodeNotDir || old != nil:
		return &misfit{"listed", n.Key}
	case n.Created > n.Modified:
		return &misfit{"listed with unsound indexes", n.Key}
	}
	c.put(n, nil, now)
	return nil
}

// misfit says that something told of another store cannot follow what it told before.
type misfit struct{ what, key string }

func (e *misfit) Error() string {
	return fmt.Sprintf("key %.100q cannot be %s: it does not follow from what was told before", e.key, e.what)
}

// Apply takes an event. Events come in the order of their indexes; those that do not
// touch the part are left out.
func (c *Copy) Apply(e *Event, now Time) error {
	c.s.view = nil
	n := e.Node
	if !ValidKey(n.Key) || n.Key == "/" || n.Created > n.Modified {
		return &misfit{string(e.Action), n.Key}
	}
	old, f := find(c.s.root, n.Key)
	switch {
	case removes(e.Action):
		if old != nil {
			c.take(n.Key, old)
		}
		return nil
	case f.code == CodeNotDir, old != nil && old.isDir() && !n.Dir:
		return &misfit{string(e.Action), n.Key}
	case old != nil && old.isDir():
		// An update of a directory changes its deadline alone.
		dir, l := c.s.makeDirs(n.Key, 0), leaseOf(n, now)
		c.s.leases.remove(dir.ext.lease)
		c.s.leases.add(l)
		dir.ext.lease = l
		return nil
	}
	c.put(n, old, now)
	return nil
}

func (c *Copy) put(n *Node, old *node, now Time) {
	parent, name := split(n.Key)
	var fresh *node
	if l := leaseOf(n, now); n.Dir {
		fresh = newDir(name, n.Created, l, c.s.edit)
		fresh.modified = n.Modified
	} else {
		fresh = newFile(name, n.Value, n.Created, n.Modified, l)
	}
	if old == nil {
		c.s.keys++
	}
	c.s.put(c.s.makeDirs(parent, n.Modified), fresh, old)
}

func (c *Copy) take(key string, old *node) {
	c.s.keys -= 1 + c.s.forget(old)
	c.s.leases.remove(old.lease())
	parent, name := split(key)
	dir := c.s.makeDirs(parent, 0)
	dir.ext.root = dir.ext.root.del(name, c.s.edit)
}

func leaseOf(n *Node, now Time) *lease {
	if n.Expires == 0 {
		return nil
	}
	return &lease{deadline: now.Add(n.TTL), expires: n.Expires, key: n.Key}
}

// View shows the copy as the state at index, which no event taken so far exceeds.
func (c *Copy) View(index Index, now Time) *View {
	c.s.view = nil
	c.s.index, c.s.time = index, now
	return c.s.View()
}

// Touches reports whether the event changes what is at prefix or below: hidden keys
// count, and so does the removal of a directory above.
func (e *Event) Touches(prefix string) bool {
	key := e.Node.Key
	return key == prefix || below(key, prefix) != "" || removes(e.Action) && below(prefix, key) != ""
}

// Within reports whether key is strictly below prefix.
func Within(key, prefix string) bool { return below(key, prefix) != "" }

// Whole calls fn with the key and all that is below it, hidden keys too and none with
// its children, each directory before what it holds. Of what does not exist there is
// nothing to tell.
func (v *View) Whole(key string, fn func(*Node)) {
	n, _ := find(v.root, key)
	if n == nil {
		return
	}
	tell := func(n *node, key string) {
		shown := n.show(key, v.time)
		fn(&shown)
	}
	tell(n, key)
	if !n.isDir() {
		return
	}
	path := []string{key}
	var w walk
	for w.enter(n); ; {
		kid, left := w.next()
		switch {
		case kid != nil:
			at := join(path[len(path)-1], kid.name())
			tell(kid, at)
			if kid.isDir() {
				path = append(path, at)
			}
		case left:
			path = path[:len(path)-1]
		default:
			return
		}
	}
}
