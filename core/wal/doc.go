// Package wal is what a node remembers: a log of checked frames, and one snapshot.
//
// The log is a row of segments, files named wal- and the sequence of their first
// frame in 16 hexadecimal digits. It only grows at its end; a life of the node
// never writes to a segment of an earlier one. Snapshots replace the file
// "snapshot" as a whole; after that, segments that hold only older entries go.
//
// # Frame
//
// One Append, or several that waited together, is one frame. Numbers are
// little-endian.
//
//	offset  size  field
//	0       4     length of the whole frame, 0 where the segment ends
//	4       4     CRC-32C of all bytes behind it
//	8       8     sequence: rises by one within a segment
//	16      8     synced: highest sequence known durable when this was written
//	24      4     chain: the checksum of the frame before
//	28      …     records: kind (1), length of payload (uvarint), payload
//
// The first frame of a segment starts with a header record that says whose log
// this is and where exactly the log before ends: file, sequence and chain. The
// state that older segments would be needed for (hard state, last entry, mark)
// stands behind it. The checksum of later frames is seeded with the identity of
// their segment, so that bytes which only look like a frame are not one.
//
// The records are
//
//	1  header     magic "keelwal\n", version (2), then 8 bytes each: cluster, node,
//	              incarnation, file and sequence where the log before ends, index
//	              and term of the last entry before
//	2  hard state opaque
//	3  entry      index (uvarint), term (uvarint), opaque data
//	4  mark       index (8), term (8): a snapshot of the log up to here is durable
//	5  reset      index (8), term (8): a snapshot replaced the log
//
// # Torn or rotten
//
// Power loss keeps any subset of the sectors that were not synced. So a bad
// frame may be the honest end of the log, and whole frames behind it mean
// nothing: they were never acknowledged. But a frame that says "synced up to n"
// proves that all frames up to n were durable. Recovery follows the chain of
// frames from the oldest segment as far as it goes. If any whole frame on the disk
// claims more than was reached, something durable is damaged: Open refuses.
// Otherwise the rest is cut. What this cannot see is damage to the very last
// frames, which no later one vouches for: it looks like a torn tail.
//
// # Cutting
//
// The new segment that Open begins says that the log before ends at the last
// frame that is proven durable, and carries the records of the unproven frames
// that were recovered in the same frame as its header. Either that frame is there
// as a whole, and everything behind the stated end is void for ever; or it is
// not, and the next Open decides from the same files again. Sequences are
// never used twice, so a void frame cannot be taken for a new one. After a full
// disk the log continues in the same way.
//
// # Read is not durable
//
// What Open reads may come from the page cache, where a killed process left it;
// power loss takes it back. So nothing that Open writes may rely on it. Frames
// that no later one proves are repeated, as said above. A snapshot that no mark
// proves is written again, and the first frame, with the mark, only after that.
// Removals may be taken back too: a segment that returns is either void, or lies
// before the start of a longer chain, and is removed again.
//
// Always true:
//
//   - Completions run in the order of the calls, across segments.
//   - What a completion reported is recovered by every later Open, or Open fails.
//   - Open twice, with power loss between, gives the same twice.
//   - A segment is removed only after the snapshot that covers it and the mark
//     that says so are durable, the oldest first.
package wal
