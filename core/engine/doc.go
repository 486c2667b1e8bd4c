// Package engine is the leader's controller: it runs the scheduler and writes its decisions.
//
// One engine decides at a time: the one that holds the lease lease/engine-leader. The
// raft leader's takes it; where that one is not to decide, any other takes it once nobody
// has held it for a while. An engine of a newer version, or of a cluster that has seen
// one, is left in charge.
//
//	           leads, or nobody decides           a fenced write was done
//	Waiting ───────────────────────────▶ Taking ───────────────────────────▶ Deciding
//	   ▲                                   │ refused                            │
//	   ├───────────────────────────────────┘                                    │
//	   └────────────── the lease is another's, or an outcome is unknown ────────┘
//
// Always true:
//
//   - Every decision is written under a fence: it is done only while the lease is the
//     one under which it was made. Taking the lease makes all late writes of former
//     holders, and of this one before, do nothing.
//   - The first pass sees everything that was written before the lease was taken. Each
//     further one sees the outcomes of the one before.
//   - What is written of a unit has a condition on what was read of it.
//   - A pass looks at what has changed since the last, and at nothing else.
//   - A pass that changes nothing writes nothing.
package engine
