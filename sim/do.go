package sim

// Do has fn called with the node inside one of its next turns, as an operator's
// request would be. A node that dies first never hears of it.
func (m *Machine) Do(what string, fn func(Node)) { m.input(&order{what, fn}) }

// order is an input that a test or a fault plan makes.
type order struct {
	what string
	fn   func(Node)
}

func (*order) live() bool    { return true }
func (*order) drop(*Machine) {}

func (o *order) deliver(m *Machine) {
	m.note(KindCall, o.what, 0)
	o.fn(m.node)
}
