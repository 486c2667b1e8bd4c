package fleetapi

import (
	"encoding/base64"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Elsewhere is the Gate of a machine that is no member and so knows neither users nor
// roles: it asks a member, with the credentials of the request, whether they are enough.
type Elsewhere struct {
	Web     env.Web
	Members func() []string // base URLs, tried in turn
}

// elsewhereTimeout bounds the wait for one member.
const elsewhereTimeout = 5 * time.Second

// Admit asks the members in turn until one says yes or no. Nobody is let in where none
// answers.
func (e *Elsewhere) Admit(a *gateway.Admission) (cancel func()) {
	q := &question{a: a, e: e, left: e.Members()}
	q.next()
	return q.cancel
}

// question is one Admission on its way around the members.
type question struct {
	a      *gateway.Admission
	e      *Elsewhere
	left   []string
	status int
	stop   func()
	over   bool
}

func (q *question) cancel() {
	q.over = true
	if q.stop != nil {
		q.stop()
	}
}

// next asks the next member something that changes nothing and that needs the same right.
func (q *question) next() {
	if len(q.left) == 0 {
		q.over = true
		q.a.Refused("no member of the cluster says whether this is allowed")
		return
	}
	base := q.left[0]
	q.left = q.left[1:]
	out := &env.WebRequest{
		Method: "PATCH", URL: base + bases[0] + "/machines", Body: []byte("[]"),
		Header: []env.WebHeader{{Name: "Content-Type", Value: contentJSON}}, Timeout: elsewhereTimeout,
	}
	if q.a.Request.Method == "GET" {
		out = &env.WebRequest{Method: "GET", URL: base + bases[0] + "/state/none", Timeout: elsewhereTimeout}
	}
	out.Header = append(out.Header, authorization(q.a.Request)...)
	q.status = 0
	q.stop = q.e.Web.Do(out, (*verdict)(q))
}

// authorization gives the credentials of a request, to be passed on.
func authorization(req *gateway.Request) []env.WebHeader {
	if req.User == "" {
		return nil
	}
	proof := base64.StdEncoding.EncodeToString([]byte(req.User + ":" + req.Password))
	return []env.WebHeader{{Name: "Authorization", Value: "Basic " + proof}}
}

// verdict takes what a member answers.
type verdict question

func (v *verdict) Head(status int, _ []env.WebHeader) { v.status = status }
func (v *verdict) Chunk([]byte)                       {}

func (v *verdict) End(err error) {
	q := (*question)(v)
	switch {
	case q.over:
	case q.status == 401:
		q.over = true
		q.a.Refused("Insufficient credentials")
	case err == nil && (q.status < 300 || q.status == 404):
		q.over = true
		q.a.Then(gateway.Ticket{})
	default:
		q.next()
	}
}
