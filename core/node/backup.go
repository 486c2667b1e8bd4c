package node

import "time"

// Wall implements gateway.Dated.
func (n *Node) Wall() time.Time { return n.env.Clock.Wall() }
