// Package store is the replicated tree of keys: the state that log entries change.
//
// It is a function of the log. Apply takes one batch and returns its results; it
// reads no clock, makes no random choice and never fails for a reason that
// another replica would not see. Time in the store is the time the log carries.
//
// Always true, and checked in tests after every command:
//
//   - Index grows by one with each change and with nothing else.
//   - A key's parent exists and is a directory.
//   - created <= modified <= Index, for every node.
//   - In-order keys sort in the order they were made, whatever their width.
//   - A key is gone after the first batch whose time is not before its deadline,
//     and not sooner. With a directory goes all that is below, as one change.
//
// The tree is copy-on-write: each directory is a B+tree of small pages, each page
// belongs to the edit that made it, and taking a View begins a new edit. So a View
// is a pointer, a write after one copies the few pages on its path, writes
// without a View in between change pages in place, and no write costs more for
// being made in a large directory. A file of 16 bytes takes about 100 bytes.
//
// What differs from the classic v2 store, because it only surprises there:
//
//   - Deadlines live in log time, so no clock that jumps can expire a key. The
//     expiration that people read is still wall time.
//   - An expire event of a directory says that it was one (as in 3.4, not 2.3).
//   - Children are always sorted.
//   - Watches match in the history just as they match live: see View.Since.
//   - A watch gets the removal of its key once: see Watchers.
package store
