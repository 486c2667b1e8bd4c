// Package format numbers everything that is kept on disks or sent between machines, in one table.
//
// Each format carries its number where a reader of any version finds it. A program
// refuses numbers that it does not know, and says which it has met and what to do: it
// never guesses. A number is raised when a reader of the former one would misread
// what is written; a field that old readers may pass over does not raise it.
package format

import "fmt"

// The formats that this program writes. The packages that encode them use these
// numbers, so that the table below cannot be wrong about them.
const (
	Log        = 1 // segments of the log
	Image      = 1 // the file of the last snapshot
	State      = 1 // what a snapshot holds of the store, on disk and on its way to others
	GroupState = 2 // what a snapshot holds of the members; since 2 with removals that are not settled
	Batch      = 2 // entries of the log; since 2 with the guards and fences of commands
	Commands   = 2 // commands that a member forwards to the leader; since 2 with their guards and fences
	Frame      = 1 // what members send to each other
	Stream     = 2 // connections between members; since 2 with notes
	Hashes     = 1 // what members tell each other of their states
	Change     = 1 // changes of the members that one forwards to the leader
	Archive    = 1 // backups
	Agent      = 1 // what a machine's agent has done with its units
	Identity   = 2 // who a member is, and other notes beside its log; since 2 with a checksum
)

// Row is one format.
type Row struct {
	Name   string
	Place  string // where it is met
	Oldest int    // that is read
	Newest int    // that is read
	Writes string // which is written
}

// Table lists every format.
func Table() []Row {
	const own, agreed, least = "the newest", "the newest that every member reads", "the oldest that can say it"
	return []Row{
		{"log", "`member/wal-…`, header of each file", 1, Log, own},
		{"image", "`member/snapshot`, header", 1, Image, own},
		{"state", "body of `member/snapshot`; snapshots between members; backups", 1, State, own},
		{"group", "header of snapshots: who votes", 1, GroupState, least},
		{"batch", "each entry of the log, on disk and between members", 1, Batch, agreed},
		{"commands", "writes on their way to the leader", 1, Commands, agreed},
		{"stream", "connections between members: greeting, frames, notes", 1, Stream, "the newest that both ends read"},
		{"frame", "everything on them", 1, Frame, own},
		{"hashes", "comparison of states, between members", 1, Hashes, own},
		{"change", "changes of members, on their way to the leader", 1, Change, own},
		{"archive", "files of `keelson snapshot save`", 1, Archive, own},
		{"agent", "`units/agent`", 1, Agent, own},
		{"identity", "`identity`, and the notes `admitted` and `healing`", 1, Identity, own},
	}
}

// UnknownError is met where something is of a format that this program does not know.
type UnknownError struct {
	Name           string
	Got            int
	Oldest, Newest int // that are read here
}

// Error names the format, and what to do.
func (e *UnknownError) Error() string {
	reads := fmt.Sprint(e.Newest)
	if e.Oldest != e.Newest {
		reads = fmt.Sprintf("%d to %d", e.Oldest, e.Newest)
	}
	return fmt.Sprintf("%s format %d is not known here, this program reads %s: use the version of the program that wrote it, or a later one", e.Name, e.Got, reads)
}

// Check refuses a number outside of what is read.
func Check(name string, got, oldest, newest int) error {
	if got < oldest || got > newest {
		return &UnknownError{name, got, oldest, newest}
	}
	return nil
}
