package env

import "errors"

// Systemd is the service manager of the machine, as far as the units go whose files the
// node has put into its directory. It outlives the node: what runs goes on when the
// process is killed, and is found again by Units.
//
// What is asked for is begun in the order asked: a Job that follows a Change in one turn
// finds the files of it.
//
// An error that wraps ErrUnsent says that the manager saw nothing of the request, one that
// wraps ErrRefused that it did nothing of it, any other that the outcome is unknown: then
// Units tells, once the manager can be reached.
type Systemd interface {
	// Units tells of every unit whose file lies in the node's directory, sorted by name,
	// also of those that an earlier life or boot left there: these are loaded, and after
	// a boot do not run.
	Units(done func(units []UnitStatus, err error))
	// Change first removes units (each disabled, its failure forgotten, its file
	// deleted), then writes files and links them (enabled for this boot where there is
	// an [Install] section), and then has the manager take note of all that, once. One
	// that cannot be removed or written does not keep the others back: failed tells of
	// it, in the order of the request. The file of a failed write is not there
	// afterwards. Nothing is started or stopped. To remove what is not there is no
	// error. A name is checked before anything is touched.
	Change(c UnitChange, done func(failed []UnitError, err error))
	// Job has a unit started or stopped, taking the place of a job of that unit that is
	// under way, and calls done when the job is over, which may take as long as the
	// unit's own timeouts. A job equal to the one under way joins it.
	Job(verb JobVerb, name string, done func(result JobResult, err error))
	// Follow calls fn, from now on and until the node's end, with those units whose
	// status is another than was told last. An error says that the manager cannot be
	// reached; the first call after it that has none, and the first of all, tells of all
	// units, even of none. Nothing is told of a unit whose file is gone. It is called
	// once in a life.
	Follow(fn func(changed []UnitStatus, err error))
}

// ErrRefused is wrapped by the error of a request that the manager does not carry out: no
// such unit, or a file that it cannot use.
var ErrRefused = errors.New("the service manager refuses")

// UnitStatus is what the manager says of one unit, in its own words.
type UnitStatus struct {
	Name   string
	Load   string // loaded, not-found, bad-setting, error, masked
	Active string // active, reloading, inactive, failed, activating, deactivating
	Sub    string // running, exited, dead, start-pre, auto-restart, …
	// Result is why a service failed: success, exit-code, signal, timeout, …; "" where
	// the type of unit has none.
	Result string
	// Hash is that of the file as it lies there: SHA-1, lower-case hex.
	Hash string
	// Job says that a job of the unit is waiting or under way.
	Job bool
}

// UnitChange is what Systemd.Change does.
type UnitChange struct {
	Remove []string
	Write  []UnitText
}

// UnitText is a unit file.
type UnitText struct {
	Name string
	Text string
}

// UnitError is why a unit could not be written or removed.
type UnitError struct {
	Name string
	Err  error
}

// JobVerb is what a job does.
type JobVerb string

// The verbs.
const (
	JobStart   JobVerb = "start"
	JobStop    JobVerb = "stop"
	JobRestart JobVerb = "restart"
)

// JobResult is how a job ended, in systemd's words.
type JobResult string

// The results that matter.
const (
	JobDone       JobResult = "done"
	JobFailed     JobResult = "failed"
	JobTimeout    JobResult = "timeout"
	JobCanceled   JobResult = "canceled" // another job took its place
	JobDependency JobResult = "dependency"
	JobSkipped    JobResult = "skipped"
)

// Journal shows what units have said.
type Journal interface {
	// Read tells r the lines of a unit, in the format asked for, until cancel is called
	// or, unless they are followed, there are no more.
	Read(q JournalQuery, r JournalReceiver) (cancel func())
	// Status gives what `systemctl status -l NAME` prints, and its exit status: 0 for
	// active, 3 for not active, 4 for an unknown unit.
	Status(name string, done func(text []byte, code int, err error))
}

// JournalQuery is which lines, as journalctl takes it.
type JournalQuery struct {
	Unit   string
	Lines  int    // the last so many; 0 is none of the past, below 0 is all
	Follow bool   // and those to come
	Output string // short, cat, json, …
}

// JournalReceiver takes lines: Chunk any number of times, End once. Chunk gives false
// where the reader is too far behind: reading ends.
type JournalReceiver interface {
	Chunk(p []byte) bool
	End(err error)
}
