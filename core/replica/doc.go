// Package replica is raft turned into events: proposals, reads, ticks, messages
// and disk completions go in; entries to apply and frames to send come out.
//
// It wraps the RawNode of go.etcd.io/raft/v3 with asynchronous storage writes and
// knows nothing of what the entries mean: the Machine does. Everything happens in
// calls of its methods and in completions of env, all on one loop. A driver
// calls any number of inputs and then Flush, which ends the turn.
//
// Always true:
//
//   - A response that speaks for the disk (a vote, an append acknowledged) leaves
//     only after everything it speaks for is durable.
//   - The writes of a turn are one append to the log and the messages of a turn
//     to one peer are one frame.
//   - Entries reach the Machine once each, in order of their index, and only
//     after they are committed and durable here.
//   - A read completes when the Machine has applied everything that was
//     committed anywhere when the read was asked for.
//   - Every queue has a bound: raft's windows for entries, a window of chunks for
//     a snapshot, one transfer for a follower, one round for waiting reads.
//   - No node uses an incarnation before the record that claims it is durable.
package replica
