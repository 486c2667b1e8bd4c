package discovery

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Backing is a store elsewhere.
type Backing struct {
	web  env.Web
	base string
}

// NewBacking makes Keys of the server at base, http://host:port.
func NewBacking(web env.Web, base string) (*Backing, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("%q: want the URL of a store, http://host:port", base)
	}
	return &Backing{web, strings.TrimSuffix(base, "/")}, nil
}

// backingTimeout bounds a request that is no watch.
const backingTimeout = 10 * time.Second

// passed are the headers that go on to the store, and back from it.
var passed = []string{"Content-Type", "Authorization", "Accept"}

// Serve passes req on to the store.
func (b *Backing) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	q, _ := url.ParseQuery(req.Query)
	out := &env.WebRequest{
		Method: req.Method, URL: b.base + req.Path, Body: req.Body, Timeout: backingTimeout, Stream: q.Get("wait") == "true",
	}
	if req.Query != "" {
		out.URL += "?" + req.Query
	}
	typed := false
	for _, h := range req.Header {
		for _, name := range passed {
			if strings.EqualFold(h.Name, name) {
				out.Header = append(out.Header, env.WebHeader(h))
				typed = typed || name == "Content-Type"
			}
		}
	}
	if req.ContentType != "" && !typed {
		out.Header = append(out.Header, env.WebHeader{Name: "Content-Type", Value: req.ContentType})
	}
	return b.web.Do(out, &passage{r: r, stream: out.Stream})
}

// passage hands an answer over: whole, or that of a watch as it comes.
type passage struct {
	r      gateway.Responder
	stream bool
	reply  *gateway.Reply
	behind bool // the reader took no more
}

func (p *passage) Head(status int, header []env.WebHeader) {
	p.reply = &gateway.Reply{Status: status, More: p.stream}
	for _, h := range header {
		switch strings.ToLower(h.Name) {
		case "connection", "transfer-encoding", "content-length", "keep-alive", "date":
		default:
			p.reply.Header = append(p.reply.Header, gateway.Header(h))
		}
	}
	if p.stream {
		p.r.Reply(p.reply)
	}
}

func (p *passage) Chunk(c []byte) {
	switch {
	case p.behind:
	case p.stream:
		if p.behind = !p.r.Chunk(c); p.behind {
			p.r.End()
		}
	default:
		p.reply.Body = append(p.reply.Body, c...)
	}
}

func (p *passage) End(err error) {
	switch {
	case p.reply != nil && p.stream:
		if !p.behind {
			p.r.End()
		}
	case p.reply == nil || err != nil:
		body, _ := json.Marshal(map[string]string{"message": fmt.Sprintf("the store behind this service gave no answer: %v", err)})
		p.r.Reply(&gateway.Reply{Status: 502, Header: []gateway.Header{{Name: "Content-Type", Value: "application/json"}}, Body: body})
	default:
		p.r.Reply(p.reply)
	}
}
