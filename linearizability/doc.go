// Package linearizability checks what clients were promised against what they saw.
//
// A History is everything that clients asked and were told, taken down by a
// Recorder in the simulator or against a live cluster. Checkers read it and name
// every broken promise:
//
//   - index: every change carries the index of the store, so the order of writes
//     is known and the whole history, directories and listings included, is
//     replayed on a plain second model of the tree in O(n log n).
//   - register: porcupine searches an order for each key on its own, without
//     trusting a single index: the second opinion.
//   - watch: each watch delivered what matched, all of it, once, in order.
//   - ttl: no key went early, none stayed long after its time, each went once.
//   - durability: what was acknowledged is there at the end.
//
// Order in time is told by event sequence numbers, which are unique, and never
// by clocks: two events at one virtual instant still have an order. Clock
// readings serve the TTL checks alone.
//
// The index-ordered check follows the idea of checking with a known write order
// (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26, 1997); the
// register check is porcupine's (Wing and Gong's search with Lowe's cache).
package linearizability
