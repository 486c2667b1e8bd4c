package node

// NewHears gives what takes the hashes of another member, of a node that has none of
// its own.
func NewHears() func(p []byte) error {
	c := &comparer{n: &Node{}}
	return func(p []byte) error { return c.hear(2, p) }
}
