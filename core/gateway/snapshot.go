package gateway

import (
	"net/url"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/archive"
	"github.com/keelson/keelson/core/store"
)

// Dated is what a Backend may offer besides, so that backups say when they were taken.
type Dated interface{ Wall() time.Time }

// Headers of an answer with a backup beside those of the keys API.
const (
	// HeaderKeys is how many keys the backup holds, to show progress by.
	HeaderKeys = "X-Keelson-Keys"
)

// parseSnapshot reads the one field that a backup may carry.
func parseSnapshot(req *Request, op Operation) (Operation, error) {
	q, err := url.ParseQuery(req.Query)
	if err != nil {
		return Operation{}, &store.Error{Code: store.CodeInvalidForm, Cause: err.Error()}
	}
	op.Freshness = FreshLinearizable
	if v := q.Get("quorum"); v != "" {
		yes, err := strconv.ParseBool(v)
		if err != nil {
			return Operation{}, &store.Error{Code: store.CodeInvalidField, Cause: `invalid value for "quorum"`}
		}
		if !yes {
			op.Freshness = FreshLocal
		}
	}
	op.TimeoutMS = req.TimeoutMS
	return op, nil
}

// snapshot answers with the state at one moment. By default it holds every write that
// was acknowledged anywhere before; a local one needs nobody else.
func (m *Mux) snapshot(op *Operation, r Responder) (cancel func()) {
	c := &call{r: r, head: op.Head}
	if op.Freshness == FreshLocal {
		c.reply(m.archived())
		return c.end
	}
	m.b.ReadIndex(func(err *store.Error) {
		if err != nil {
			c.reply(failure(m.b.Info(), err))
			return
		}
		c.reply(m.archived())
	})
	m.limit(op, c)
	return c.end
}

func (m *Mux) archived() *Reply {
	info, view := m.b.Info(), m.b.View()
	meta := archive.Meta{
		Cluster: strconv.FormatUint(info.ClusterID, 16), Member: info.Self.String(), Name: info.Name,
		Program: m.o.Version, RaftIndex: info.RaftIndex, Term: info.Term,
	}
	if d, ok := m.b.(Dated); ok {
		meta.Taken = d.Wall()
	}
	h := keysHeaders(info, view.Index())
	h[0].Value = "application/octet-stream"
	h = append(h, Header{HeaderKeys, strconv.Itoa(view.Len())})
	return &Reply{Status: 200, Header: h, Content: archive.New(meta, view)}
}
