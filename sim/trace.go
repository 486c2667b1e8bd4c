package sim

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Kind says what an event of the trace is.
type Kind uint8

// The kinds. Those of the first group are a node's inputs; those of the second
// what it did; the others happened around it.
const (
	KindTimer Kind = iota
	KindFrame
	KindDone
	KindRequest
	KindCancel
	KindStop

	KindSend
	KindDisk
	KindReply
	KindChunk
	KindFlush
	KindLog

	KindCall
	KindNote
	KindDrop
	KindStart
	KindExit
	KindPause
	KindResume
	KindClock
	KindNet
	KindHurt
	KindProc
	KindClient
	KindFail
	KindUnit
)

// String gives the word that the trace shows.
func (k Kind) String() string {
	switch k {
	case KindTimer:
		return "timer"
	case KindFrame:
		return "frame"
	case KindDone:
		return "done"
	case KindRequest:
		return "request"
	case KindCancel:
		return "cancel"
	case KindStop:
		return "stop"
	case KindSend:
		return "send"
	case KindDisk:
		return "disk"
	case KindReply:
		return "reply"
	case KindChunk:
		return "chunk"
	case KindFlush:
		return "flush"
	case KindLog:
		return "log"
	case KindCall:
		return "call"
	case KindNote:
		return "note"
	case KindDrop:
		return "drop"
	case KindStart:
		return "start"
	case KindExit:
		return "exit"
	case KindPause:
		return "pause"
	case KindResume:
		return "resume"
	case KindClock:
		return "clock"
	case KindNet:
		return "net"
	case KindHurt:
		return "hurt"
	case KindProc:
		return "proc"
	case KindClient:
		return "client"
	case KindFail:
		return "fail"
	case KindUnit:
		return "unit"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Event is one line of the trace.
type Event struct {
	ID    uint64        // of the event that ran; IDs rise with the order in which events were asked for
	Cause uint64        // the event during which this one was asked for; 0: the test itself
	At    time.Duration // virtual time
	Node  env.NodeID    // where it happened; 0: nowhere
	Peer  env.NodeID    // the other end; 0: none
	Kind  Kind
	Size  int    // of the payload, in bytes
	Hash  uint64 // of the payload
	Text  string // for people; may be empty
}

// String gives the event as one line.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%8d %8d %15.9f", e.ID, e.Cause, e.At.Seconds())
	if e.Node != 0 {
		b.WriteString(" " + hostName(e.Node))
	} else {
		b.WriteString(" -")
	}
	fmt.Fprintf(&b, " %v", e.Kind)
	if e.Peer != 0 {
		b.WriteString(" " + hostName(e.Peer))
	}
	if e.Size != 0 {
		fmt.Fprintf(&b, " %d B", e.Size)
	}
	if e.Hash != 0 {
		fmt.Fprintf(&b, " %016x", e.Hash)
	}
	if e.Text != "" {
		b.WriteByte(' ')
		b.WriteString(e.Text)
	}
	return b.String()
}

func hostName(id env.NodeID) string {
	if isClient(id) {
		return fmt.Sprintf("client%d", uint64(id-clientBase))
	}
	return "n" + id.String()
}

// record puts what happens into the hash, the ring and wherever else it is
// wanted. Nothing that depends on who is watching may reach the hash.
func (w *World) record(k Kind, node, peer env.NodeID, size int, payload uint64, text string) {
	h := fold(w.hash^uint64(w.now), w.cur^uint64(k)<<56)
	h = fold(h^uint64(node), uint64(peer)^payload)
	if text != "" {
		h = hashString(h, text)
	}
	w.hash = h
	if len(w.ring) < w.opts.TraceRing {
		w.ring = append(w.ring, Event{})
	}
	e := &w.ring[w.ringed%uint64(len(w.ring))]
	w.ringed++
	*e = Event{ID: w.cur, Cause: w.cause, At: w.now, Node: node, Peer: peer, Kind: k, Size: size, Hash: payload, Text: text}
	if w.opts.Trace != nil || len(w.onEvent) > 0 {
		w.show(*e)
	}
}

func (w *World) show(e Event) {
	if w.opts.Trace != nil {
		_, _ = io.WriteString(w.opts.Trace, e.String()+"\n") // a broken sink must not change the run
	}
	for _, fn := range w.onEvent {
		fn(e)
	}
}

// Note puts a line of text into the trace, for instance a fault that strikes.
func (w *World) Note(format string, args ...any) {
	w.record(KindNote, 0, 0, 0, 0, fmt.Sprintf(format, args...))
}

// Recent gives the last events, oldest first.
func (w *World) Recent() []Event {
	n := uint64(len(w.ring))
	if w.ringed <= n {
		return append([]Event(nil), w.ring[:w.ringed]...)
	}
	first := w.ringed % n
	return append(append([]Event(nil), w.ring[first:]...), w.ring[:first]...)
}

// Failure is why a run failed: an oracle spoke, or something panicked.
type Failure struct {
	Oracle  string // "panic" or the name given to Fail
	Message string
	Node    env.NodeID // 0: none
	At      time.Duration
	Event   uint64
	Stack   string // of a panic, without addresses
}

// Error gives oracle, place and message.
func (f *Failure) Error() string {
	where := ""
	if f.Node != 0 {
		where = " on " + hostName(f.Node)
	}
	return fmt.Sprintf("%s%s at %v, event %d: %s", f.Oracle, where, f.At, f.Event, f.Message)
}

// Signature is equal for two failures that are probably the same: the oracle and
// the top of the stack, or the message without digits.
func (f *Failure) Signature() string {
	if f.Stack == "" {
		return f.Oracle + ": " + strings.Join(strings.FieldsFunc(f.Message, isDigit), "#")
	}
	return f.Oracle + ": " + top(f.Stack, 4)
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// top gives the first functions of a stack that are ours to look at.
func top(stack string, n int) string {
	var names []string
	for line := range strings.Lines(stack) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "/") || strings.HasPrefix(line, "goroutine") ||
			strings.HasPrefix(line, "panic(") || strings.HasPrefix(line, "runtime") {
			continue
		}
		if !strings.HasSuffix(line, ")") {
			continue
		}
		if names = append(names, line[strings.LastIndexByte(line[:strings.LastIndexByte(line, '(')], '/')+1:]); len(names) == n {
			break
		}
	}
	return strings.Join(names, " < ")
}

// plainStack takes out of a stack what differs from run to run.
func plainStack(stack []byte) string {
	s := regexp.MustCompile(`\(0x[^)]*\)|\([^()]*\.\.\.\)`).ReplaceAllString(string(stack), "()")
	s = regexp.MustCompile(` \+0x[0-9a-f]+|0x[0-9a-f]+\??|in goroutine \d+|goroutine \d+ \[[^]]*\]:\n`).ReplaceAllString(s, "")
	// The frames of the recovery itself say nothing.
	if _, after, ok := strings.Cut(s, "panic("); ok {
		s = "panic(" + after
	}
	return s
}
