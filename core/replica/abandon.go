package replica

// Abandon ends this replica's part at once, without a word to others or to Fatal, and
// gives the names of the files that its log may have. It is for a member whose state
// must not be used any more.
func (r *Replica) Abandon() []string {
	r.dead = true
	r.stopTick()
	return r.journal.log.Abandon()
}
