package fleetapi

import (
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
)

// eventText is one line of the event stream: names of units, of units whose states have
// changed, and IDs of machines. All says that anything may have.
type eventText struct {
	All      bool        `json:"all,omitempty"`
	Index    store.Index `json:"index"`
	Machines []string    `json:"machines,omitempty"`
	States   []string    `json:"states,omitempty"`
	Units    []string    `json:"units,omitempty"`
}

// events are the streams that are open.
type events struct {
	streams []*stream
	beat    env.Timer
}

// stream is one reader of events.
type stream struct {
	c    *call
	over bool
}

// beatPeriod is how often an empty line shows that a stream is alive, and finds out that
// its reader is not.
const beatPeriod = 20 * time.Second

// stream begins to tell of changes, from those on that the answer's head comes before.
func (c *call) stream() {
	c.fresh(func() {
		st := &stream{c: c}
		c.s.events.streams = append(c.s.events.streams, st)
		c.begin("application/json")
		c.stop = func() { c.s.drop(st) }
		c.s.beat()
	})
}

// begin sends the head of an answer that goes on in chunks.
func (c *call) begin(contentType string, more ...gateway.Header) {
	header := []gateway.Header{{Name: "Server", Value: "fleetd/" + c.s.o.Version}, {Name: "Content-Type", Value: contentType}}
	c.more = true
	c.r.Reply(&gateway.Reply{Status: 200, Header: append(header, more...), More: true})
}

func (s *Server) drop(st *stream) {
	st.over = true
	s.events.streams = slices.DeleteFunc(slices.Clone(s.events.streams), func(o *stream) bool { return o == st })
	if len(s.events.streams) == 0 && s.events.beat != nil {
		s.events.beat.Stop()
		s.events.beat = nil
	}
}

// beat shows all readers, now and then, that their streams are alive.
func (s *Server) beat() {
	if s.events.beat != nil {
		return
	}
	s.events.beat = s.env.Clock.After(beatPeriod, func() {
		s.events.beat = nil
		s.tell([]byte("\n"))
		if len(s.events.streams) > 0 {
			s.beat()
		}
	})
}

// changed takes what the model has to say.
func (s *Server) changed(change registry.Change) {
	s.picture.changed(change)
	if change.All || len(change.Machines)+len(change.States) > 0 {
		s.stated = nil
	}
	if len(s.events.streams) == 0 {
		return
	}
	t := eventText{All: change.All, Index: s.model.Index(), Machines: change.Machines, Units: change.Units}
	for _, p := range change.States {
		if n := len(t.States); n == 0 || t.States[n-1] != p.Unit {
			t.States = append(t.States, p.Unit)
		}
	}
	if t.All || len(t.Machines)+len(t.Units)+len(t.States) > 0 {
		s.tell(append(encode(t), '\n'))
	}
}

// tell hands a line to every reader who may still see it.
func (s *Server) tell(line []byte) {
	for _, st := range s.events.streams {
		s.allowed(st, func() {
			if !st.over && !st.c.r.Chunk(line) {
				s.end(st)
			}
		})
	}
}

// allowed calls then if the reader may still see what happens: rights may have changed
// since the stream began.
func (s *Server) allowed(st *stream, then func()) {
	if s.gate == nil {
		then()
		return
	}
	s.gate.Admit(&gateway.Admission{
		Request: st.c.req, May: st.c.may,
		Then:    func(gateway.Ticket) { then() },
		Refused: func(string) { s.end(st) },
	})
}

func (s *Server) end(st *stream) {
	if st.over {
		return
	}
	s.drop(st)
	st.c.over, st.c.stop = true, nil
	st.c.r.End()
}

// Stop ends the streams. Requests that wait are not answered any more.
func (s *Server) Stop() {
	for _, st := range s.events.streams {
		s.end(st)
	}
}
