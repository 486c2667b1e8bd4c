// Package discovery is the service at which machines that do not know each other meet: tokens over a store of keys.
//
// A token is a directory of the store, below a hidden key. Whoever has its URL may
// register in it; the members of a cluster are the first that did. All but the
// making of tokens is the keys API under another path:
//
//	/new?size=3            a new token: its URL
//	/TOKEN                 /v2/keys/_etcd/registry/TOKEN
//	/TOKEN/MACHINE         /v2/keys/_etcd/registry/TOKEN/MACHINE
//	/TOKEN/_config/size    the same, to be read only
//
// Always true: a token is made once, and its size never changes.
package discovery

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/gateway"
)

// Keys answers requests of the keys API: a member, or a store elsewhere.
type Keys interface {
	Serve(req *gateway.Request, r gateway.Responder) (cancel func())
}

// Options are the choices of one service.
type Options struct {
	// Host is what the URLs of tokens begin with: http://host:port.
	Host string
	// TTL is how long a token lives that does not ask for a time itself; 0 is for
	// ever.
	TTL time.Duration
	// Alone says that there is nothing else on this server, so that its own pages
	// are here, too.
	Alone bool
}

// Service answers requests. Its methods are called on the loop.
type Service struct {
	keys Keys
	rand *rand.Rand
	o    Options
}

// New makes a service over keys.
func New(keys Keys, r *rand.Rand, o Options) *Service { return &Service{keys: keys, rand: r, o: o} }

// registry is where tokens are kept.
const registry = "/v2/keys/_etcd/registry"

// docs is where a person is sent who opens the service.
const docs = "https://github.com/keelson/keelson/blob/main/docs/discovery.md"

// route is what a path asks for.
type route uint8

const (
	elsewhere route = iota
	newToken
	token
	machine
	size
	health
	robots
	root
)

// methods of the routes that do not take all.
var methods = map[route]string{token: "GET,HEAD,PUT", machine: "GET,HEAD,PUT,DELETE", size: "GET,HEAD"}

// find tells what a path asks for.
func find(path string) route {
	switch path {
	case "/new":
		return newToken
	case "/health":
		return health
	case "/robots.txt":
		return robots
	case "/":
		return root
	}
	name, rest, deep := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case !IsToken(name):
		return elsewhere
	case !deep || rest == "":
		return token
	case rest == "_config/size":
		return size
	case !strings.ContainsAny(rest, "/%") && !strings.HasPrefix(rest, "_") && rest != "." && rest != "..":
		return machine
	}
	return elsewhere
}

// IsToken tells whether s looks like a token: 32 hex digits, or 40 as in the oldest.
func IsToken(s string) bool {
	if len(s) != 32 && len(s) != 40 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// Handles tells whether a request is for this service. On a server of its own every
// request is.
func (s *Service) Handles(req *gateway.Request) bool {
	switch find(req.Path) {
	case newToken, token, machine, size:
		return !req.Peer
	default:
		return s.o.Alone && !req.Peer
	}
}

// Serve answers a request, as gateway.Mux.Serve does.
func (s *Service) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	to := find(req.Path)
	if allowed := methods[to]; allowed != "" && !strings.Contains(","+allowed+",", ","+req.Method+",") {
		r.Reply(text(405, "Method Not Allowed\n", gateway.Header{Name: "Allow", Value: allowed}))
		return func() {}
	}
	switch to {
	case newToken:
		return s.make(req, r)
	case token, machine, size:
		pass := *req
		pass.Path = registry + strings.TrimSuffix(req.Path, "/")
		return s.keys.Serve(&pass, r)
	case health:
		return s.health(req, r)
	case robots:
		r.Reply(text(200, "User-agent: *\nDisallow: /\n"))
	case root:
		r.Reply(text(302, "", gateway.Header{Name: "Location", Value: docs}))
	default:
		r.Reply(text(404, "404 page not found\n"))
	}
	return func() {}
}

func text(status int, body string, more ...gateway.Header) *gateway.Reply {
	h := append([]gateway.Header{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}, more...)
	return &gateway.Reply{Status: status, Header: h, Body: []byte(body)}
}

// wish is what somebody asks of a new token.
type wish struct {
	size int
	ttl  time.Duration
}

// sizeDefault is the size of a token that asks for none.
const sizeDefault = 3

// parse reads a wish from the query and, of a form, the body.
func (s *Service) parse(req *gateway.Request) (w wish, err error) {
	values, err := url.ParseQuery(req.Query)
	if err != nil {
		return w, err
	}
	if kind, _, _ := strings.Cut(req.ContentType, ";"); strings.TrimSpace(kind) == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(req.Body))
		if err != nil {
			return w, err
		}
		for _, name := range []string{"size", "ttl"} {
			if form.Has(name) {
				values.Set(name, form.Get(name))
			}
		}
	}
	w = wish{size: sizeDefault, ttl: s.o.TTL}
	if v := values.Get("size"); v != "" {
		if w.size, err = strconv.Atoi(v); err != nil {
			return w, err
		}
	}
	if v := values.Get("ttl"); v != "" {
		w.ttl, err = ParseTTL(v)
	}
	return w, err
}

// ParseTTL reads how long a token shall live: seconds, or a time such as 24h.
func ParseTTL(v string) (time.Duration, error) {
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second {
		return 0, fmt.Errorf("ttl=%s: want seconds, or a time of a second or more such as 24h", v)
	}
	return d, nil
}
