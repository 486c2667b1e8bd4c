package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/store"
)

// noteName is where the agent keeps what it must know after its process has ended.
const noteName = "units/agent"

const noteFormat = format.Agent

// noteAgain is how long a note waits for room on the disk.
const noteAgain = 5 * time.Second

// mark is what the note holds of one unit. A unit has one from before its first trace in
// the store until after the last.
type mark struct {
	Since    store.Index `json:",omitempty"` // of the decision that was carried out last
	Launched bool        `json:",omitempty"` // see Have.Launched
	Begun    bool        `json:",omitempty"` // it may have been started, and was not stopped since
	Fenced   bool        `json:",omitempty"` // there may be a claim in our name
	Rules    []string    `json:",omitempty"` // what may not run beside it, as its file said
}

// noteText is the document.
type noteText struct {
	Format   int
	Instance string // of the data directory, drawn when it was new
	Boot     string // in which the marks were made
	Unsure   bool   `json:",omitempty"` // that life did not hear whether the machine's lease is alive
	Units    map[string]mark
}

// note keeps the document on disk: one write at a time, the newest content.
type note struct {
	env      *env.Env
	content  func() noteText
	saved    func() // something is durable that was not
	instance string
	// Of the former life: marks, unless the note was missing, and whether they are of
	// this boot.
	former   map[string]mark
	found    bool
	sameBoot bool
	unsure   bool

	asked, durable uint64 // count the contents
	last           string // what was written last
	flying         bool
	full           bool // there is no room for it
	broken         bool // a write failed: the file must not be written again in this life
}

// openNote reads the note of a former life. One that cannot be read counts as missing: to
// run units is worth more than to know which have been run.
func openNote(e *env.Env, boot string) *note {
	n := &note{env: e}
	var text noteText
	raw, err := e.Disk.Load(noteName)
	if err == nil {
		err = format.Open(raw, &text)
	}
	if err == nil {
		err = format.Check("agent", text.Format, 1, noteFormat)
	}
	switch {
	case err == nil && text.Instance != "":
		n.instance, n.former, n.found = text.Instance, text.Units, true
		n.sameBoot, n.unsure = text.Boot == boot, text.Unsure
	default:
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			e.Log.Log(env.Warn, "units: the agent's note cannot be used, this machine counts as a new one", "file", noteName, "reason", err)
		}
		n.instance = draw(e)
	}
	return n
}

// draw gives a number that nobody else has.
func draw(e *env.Env) string {
	var p [16]byte
	for i := range p {
		p[i] = byte(e.Rand.Uint32())
	}
	return hex.EncodeToString(p[:])
}

// save has the present content written, and gives the number by which has knows it.
func (n *note) save() uint64 {
	n.soon()
	n.write()
	return n.asked
}

// soon is save where more is to come in this turn: write must follow.
func (n *note) soon() uint64 {
	n.asked++
	return n.asked
}

// has says that content is durable, or that nobody knows when it will be.
func (n *note) has(number uint64) bool { return n.broken || n.full || n.durable >= number }

func (n *note) write() {
	if n.flying || n.broken || n.durable >= n.asked {
		return
	}
	raw, err := format.Seal(n.content())
	if err != nil { // a struct of plain values always encodes
		panic(err)
	}
	number := n.asked
	if string(raw) == n.last {
		n.durable = number
		return
	}
	n.flying, n.last = true, string(raw)
	n.env.Disk.Replace(noteName, bytes.NewReader(raw), func(err error) { n.written(number, err) })
}

func (n *note) written(number uint64, err error) {
	n.flying = false
	switch {
	case err == nil:
		n.durable, n.full = number, false
		n.write()
	case errors.Is(err, env.ErrFull):
		n.full, n.flying, n.last = true, true, "" // so that it is written
		n.env.Clock.After(noteAgain, func() {
			n.flying = false
			n.write()
		})
	default:
		n.broken = true
		n.env.Log.Log(env.Error, "units: the agent's note cannot be written: a restart of the daemon may start units again that have ended",
			"file", noteName, "reason", fmt.Sprint(err))
	}
	n.saved()
}
