// Package peer is one link between two nodes: messages in, checked frames out, and back.
//
// It is a codec with a memory. A Link packs the messages of one turn into one
// frame and takes the frames of the other side apart again; it sends nothing and
// reads no clock. The network below may lose, repeat, delay, reorder and damage
// frames. A Link turns that into: each message at most once, whole, from the
// newest life of the other side that was heard of.
//
// # Frame
//
// Numbers are little-endian.
//
//	offset  size  field
//	0       1     version of this layout, 1
//	1       8     cluster id
//	9       8     sender
//	17      8     receiver
//	25      8     incarnation of the sender: rises at each of its starts
//	33      8     sequence within link and incarnation: 1, 2, 3…
//	41      …     messages, one after the other until the trailer:
//	              kind (1), length of payload (uvarint), payload
//	end-4   4     CRC-32C of all bytes before
//
// # Stream
//
// On a byte stream each side first sends a Hello of HelloSize bytes, and then the
// caller sends frames, each behind its length (4 bytes). Where the highest bit of the
// length is set, a note follows in the place of a frame: only where the other side's
// Hello says that it reads stream format 2. See AppendStream, AppendNote and Split.
//
//	offset  size  field of a Hello
//	0       8     keelpeer
//	8       2     version of the Hello, 1
//	10      8     cluster id
//	18      8     sender
//	26      8     receiver
//	34      8     newest stream format that the sender reads; 0 is 1
//	42      4     CRC-32C of all bytes before
package peer
