// Package wal is what a node remembers: a log of checked frames, and one snapshot.
package wal
