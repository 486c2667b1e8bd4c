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
//   - A key past its deadline is gone after the first batch that carries a later
//     time, and not before.
package store
