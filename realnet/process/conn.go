package process

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/keelson/keelson/core/env"
)

// request is what a daemon asks of a host: one JSON value on a line. The first of a
// connection says what it is for.
type request struct {
	ID      uint64            `json:",omitempty"`
	Op      string            // units, change, job, follow, status, journal
	Change  *env.UnitChange   `json:",omitempty"`
	Verb    env.JobVerb       `json:",omitempty"`
	Name    string            `json:",omitempty"`
	Journal *env.JournalQuery `json:",omitempty"`
}

// reply answers a request, or is an event that nobody asked for.
type reply struct {
	ID      uint64           `json:",omitempty"`
	Event   bool             `json:",omitempty"`
	Refused string           `json:",omitempty"`
	Units   []env.UnitStatus `json:",omitempty"`
	Failed  []failure        `json:",omitempty"`
	Result  env.JobResult    `json:",omitempty"`
	Text    []byte           `json:",omitempty"`
	Code    int              `json:",omitempty"`
}

// failure is an env.UnitError as it travels.
type failure struct{ Name, Text string }

func hashOf(text string) string {
	h := sha1.Sum([]byte(text))
	return hex.EncodeToString(h[:])
}

// conn is a daemon that talks to the host.
type conn struct {
	host *host
	net.Conn

	mu   sync.Mutex
	wake sync.Cond
	out  []*reply
	gone bool
}

func (h *host) accept() {
	for {
		c, err := h.socket.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns++
		h.restLocked()
		h.mu.Unlock()
		go h.serve(&conn{host: h, Conn: c})
	}
}

func (h *host) serve(c *conn) {
	c.wake.L = &c.mu
	go c.write()
	in := json.NewDecoder(bufio.NewReader(c.Conn))
	for {
		var q request
		if in.Decode(&q) != nil {
			break
		}
		if q.Op == "journal" {
			c.journal(&q)
			break
		}
		c.answer(&q)
	}
	c.mu.Lock()
	c.gone = true
	c.wake.Signal()
	c.mu.Unlock()
	h.mu.Lock()
	delete(h.watchers, c)
	h.conns--
	h.restLocked()
	h.mu.Unlock()
	c.Close()
}

// push sends a reply when it can be sent. It never blocks.
func (c *conn) push(r *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, r)
	c.wake.Signal()
}

func (c *conn) write() {
	out := json.NewEncoder(c.Conn)
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.gone {
			c.wake.Wait()
		}
		list := c.out
		c.out = nil
		c.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, r := range list {
			if out.Encode(r) != nil {
				c.Close()
				return
			}
		}
	}
}

// answer does one request.
func (c *conn) answer(q *request) {
	h := c.host
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &reply{ID: q.ID}
	switch q.Op {
	case "units":
		r.Units = h.all()
	case "follow":
		h.watchers[c] = true
		r.Units, r.Event = h.all(), true
	case "change":
		r.Failed = h.change(*q.Change)
	case "status":
		r.Text, r.Code = h.status(q.Name)
	case "job":
		if why := h.refuses(q); why != "" {
			r.Refused = why
			break
		}
		h.units[q.Name].ask(q.Verb, func(res env.JobResult) { c.push(&reply{ID: q.ID, Result: res}) })
		return
	default:
		r.Refused = "unknown request " + q.Op
	}
	c.push(r)
}

// refuses says why a job cannot be done, or "".
func (h *host) refuses(q *request) string {
	u := h.units[q.Name]
	switch {
	case u == nil, !u.there && u.run == nil:
		return fmt.Sprintf("Unit %s not found.", q.Name)
	case h.down:
		return "the units are being stopped"
	case q.Verb == env.JobStop:
		return ""
	case q.Verb != env.JobStart && q.Verb != env.JobRestart:
		return fmt.Sprintf("unknown job %s", q.Verb)
	case !u.there:
		return fmt.Sprintf("Unit %s not found.", q.Name)
	case u.settings.bad != nil:
		return fmt.Sprintf("Unit %s has a bad unit file setting: %v", q.Name, u.settings.bad)
	case u.settings.unsupported != nil:
		return fmt.Sprintf("unit %s cannot be started by --units=process: %v", q.Name, u.settings.unsupported)
	}
	return ""
}

// journalLines writes what a unit has said, and what it says if that is followed.
func (c *conn) journal(q *request) {
	h := c.host
	h.mu.Lock()
	var l *log
	if checkName(q.Journal.Unit) == nil {
		l = h.logOf(q.Journal.Unit) // it may be gone
	}
	h.mu.Unlock()
	if l == nil {
		return
	}
	show, err := l.format(q.Journal.Unit, q.Journal.Output)
	if err != nil {
		fmt.Fprintln(c.Conn, err)
		return
	}
	lines, next := l.past(q.Journal.Lines, q.Journal.Follow)
	out := bufio.NewWriter(c.Conn)
	for _, n := range lines {
		out.Write(show(n))
	}
	if out.Flush() != nil || next == nil {
		return
	}
	defer l.leave(next)
	ended := make(chan struct{})
	go func() {
		var p [1]byte
		c.Conn.Read(p[:]) // the reader says nothing: it is gone
		close(ended)
	}()
	for {
		select {
		case n, ok := <-next:
			if !ok {
				return
			}
			c.Conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Conn.Write(show(n)); err != nil {
				return
			}
		case <-ended:
			return
		}
	}
}

// status is a unit as systemctl shows it. The lock is held.
func (h *host) status(name string) (text []byte, code int) {
	u := h.units[name]
	if u == nil || !u.there && u.run == nil {
		return fmt.Appendf(nil, "Unit %s could not be found.\n", name), 4
	}
	s := u.settings
	dot := "○"
	switch u.active {
	case "active":
		dot = "●"
	case "failed":
		dot = "×"
	case "activating", "deactivating":
		dot = "●"
	}
	text = fmt.Appendf(text, "%s %s - %s\n", dot, name, s.description)
	path := h.dir + "/" + name
	switch {
	case s.bad != nil:
		text = fmt.Appendf(text, "     Loaded: bad-setting (Reason: %v)\n", s.bad)
	default:
		text = fmt.Appendf(text, "     Loaded: %s (%s; linked-runtime)\n", u.load(), path)
	}
	active := fmt.Sprintf("%s (%s)", u.active, u.sub)
	if u.active == "failed" {
		active = fmt.Sprintf("failed (Result: %s)", u.result)
	}
	text = fmt.Appendf(text, "     Active: %s since %s; %s ago\n", active, u.since.Format("Mon 2006-01-02 15:04:05 MST"), ago(time.Since(u.since)))
	if u.run != nil && u.run.main != nil {
		p := u.run.main
		text = fmt.Appendf(text, "   Main PID: %d (%s)\n", p.pid, p.ident)
		text = append(text, "     CGroup: none, processes of the unit:\n"...)
		for _, pid := range u.run.members() {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			text = fmt.Appendf(text, "             %d %s\n", pid, commandLine(line))
		}
	}
	if s.unsupported != nil {
		text = fmt.Appendf(text, "       Note: %v\n", s.unsupported)
	}
	lines, _ := u.log.past(10, false)
	if len(lines) > 0 {
		text = append(text, '\n')
	}
	show, _ := u.log.format(name, "short")
	for _, n := range lines {
		text = append(text, show(n)...)
	}
	if u.active == "active" || u.active == "activating" && u.sub != subAgain || u.active == "reloading" {
		return text, 0
	}
	return text, 3
}

func commandLine(p []byte) string {
	for i := range p {
		if p[i] == 0 {
			p[i] = ' '
		}
	}
	return string(p)
}

// ago is a time span as systemctl shows it.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dmin %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dmin", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}
