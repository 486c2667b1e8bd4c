package discovery

import (
	"fmt"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/gateway"
)

// errNoToken is the answer where the store did not take a token.
const errNoToken = "Unable to generate token"

// make answers a request for a new token.
func (s *Service) make(req *gateway.Request, r gateway.Responder) (cancel func()) {
	w, err := s.parse(req)
	if err != nil {
		r.Reply(text(400, err.Error()+"\n"))
		return func() {}
	}
	name := s.draw()
	c := &chain{s: s, req: req, r: r}
	c.create(name, w, func() {
		r.Reply(text(200, s.o.Host+"/"+name))
	})
	return c.cancel
}

// draw gives a token that nobody can guess.
func (s *Service) draw() string {
	return fmt.Sprintf("%016x%016x", s.rand.Uint64(), s.rand.Uint64())
}

// health makes a token and removes it.
func (s *Service) health(req *gateway.Request, r gateway.Responder) (cancel func()) {
	name := s.draw()
	c := &chain{s: s, req: req, r: r}
	c.create(name, wish{size: sizeDefault, ttl: time.Minute}, func() {
		c.do("DELETE", "/"+name, "recursive=true", "", func() { r.Reply(text(200, "OK")) })
	})
	return c.cancel
}

// chain is requests of the keys API after each other; the first that fails answers.
type chain struct {
	s    *Service
	req  *gateway.Request // on whose behalf
	r    gateway.Responder
	over bool
	stop func()
}

func (c *chain) cancel() {
	c.over = true
	if c.stop != nil {
		c.stop()
	}
}

// create makes a token. One that expires begins as a directory with that time,
// which takes all that it holds with it.
func (c *chain) create(name string, w wish, then func()) {
	put := func() {
		c.do("PUT", "/"+name+"/_config/size", "prevExist=false", "value="+strconv.Itoa(w.size), then)
	}
	if w.ttl == 0 {
		put()
		return
	}
	c.do("PUT", "/"+name, "prevExist=false", "dir=true&ttl="+strconv.FormatInt(int64(w.ttl/time.Second), 10), put)
}

func (c *chain) do(method, path, query, form string, then func()) {
	if c.over {
		return
	}
	q := &gateway.Request{
		Method: method, Path: registry + path, Query: query, User: c.req.User, Password: c.req.Password,
		Header: c.req.Header, Remote: c.req.Remote,
	}
	if form != "" {
		q.ContentType, q.Body = "application/x-www-form-urlencoded", []byte(form)
	}
	c.stop = c.s.keys.Serve(q, &step{c, then})
}

// step takes the answer to one request of a chain.
type step struct {
	c    *chain
	then func()
}

func (s *step) Reply(p *gateway.Reply) {
	switch {
	case s.c.over:
	case p.Status == 200 || p.Status == 201:
		s.then()
	default:
		s.c.over = true
		s.c.r.Reply(text(400, errNoToken+"\n"))
	}
}

func (s *step) Chunk([]byte) bool { return true }

func (s *step) End() {}
