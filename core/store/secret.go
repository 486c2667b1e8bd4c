package store

// SecretKey holds what decides who may do what. It is an ordinary key of the tree, in
// hashes and snapshots, but events do not show its value, so that it is in no history
// and no watch; the keys API does not know it at all.
const SecretKey = "/_keelson.auth"

// conceal takes the values out of an event before anybody sees it.
func (e *Event) conceal() {
	e.Node.Value = ""
	if e.Prev != nil {
		e.Prev.Value = ""
	}
}

// guardOf is when SecretKey last changed, as the tree tells.
func guardOf(root *node) Index {
	n, f := find(root, SecretKey)
	if f.code != 0 {
		return 0
	}
	return n.modified
}
