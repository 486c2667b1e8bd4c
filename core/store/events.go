package store

// Events gives every event kept in the history with an index of at least from,
// in order: refreshes and hidden keys too. A from before the oldest event kept
// gives all there are. The result is shared and must not be changed.
//
// It is for whoever compares replicas; watches use Since.
func (v *View) Events(from Index) []*Event {
	oldest := v.index + 1 - Index(len(v.history))
	if from > v.index {
		return nil
	}
	return v.history[max(from, oldest)-oldest:]
}
