package gateway

import (
	"strings"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// The paths of users and roles. Only enable can be asked by anybody.
const (
	authPath   = "/v2/auth"
	enablePath = authPath + "/enable"
	usersPath  = authPath + "/users"
	rolesPath  = authPath + "/roles"
)

const (
	enableMethods   = "GET,PUT,DELETE"
	authListMethods = "GET"
	authItemMethods = "GET,PUT,DELETE"
)

// AuthRequest is a question about users and roles, or a change of them.
type AuthRequest struct {
	path   string // one of the paths above
	method string
	name   string // of one user or role
	user   *auth.UserChange
	role   *auth.RoleChange
	bad    *auth.Error // what is wrong with the body
	hash   string      // of the password in user, once it is made
}

func parseAuth(req *Request, p string) (Operation, error) {
	if p == enablePath {
		return authOperation(req, AuthRequest{path: enablePath}, enableMethods)
	}
	for _, list := range [...]string{usersPath, rolesPath} {
		sub, ok := below(p, list)
		if !ok {
			continue
		}
		name := strings.Trim(sub, "/")
		switch {
		case strings.Contains(name, "/"):
			return Operation{}, &Refusal{bare(jsonReply(400, message("Invalid path")), req.Method == "HEAD")}
		case name == "":
			return authOperation(req, AuthRequest{path: list}, authListMethods)
		default:
			return authOperation(req, AuthRequest{path: list, name: name}, authItemMethods)
		}
	}
	return Operation{}, refuse(req.Method, 404, "404 page not found\n")
}

func authOperation(req *Request, a AuthRequest, methods string) (Operation, error) {
	if !allows(methods, req.Method) {
		return Operation{}, notAllowed(req.Method, methods)
	}
	a.method = req.Method
	switch {
	case a.method != "PUT" || a.name == "":
	case req.BodyTooBig:
		a.bad = &auth.Error{Status: 400, Message: errTooBig.Error()}
	case a.path == usersPath:
		a.user, a.bad = auth.ParseUser(a.name, req.Body)
	default:
		a.role, a.bad = auth.ParseRole(a.name, req.Body)
	}
	return Operation{Kind: KindAuth, Auth: &a, TimeoutMS: req.TimeoutMS}, nil
}

// serveAuth answers from a state that holds every change acknowledged before. A change
// is made by a command that is guarded by the state it was made of: two
// administrators cannot overwrite each other, and nobody changes anything whose right
// to was taken away a moment before.
func (m *Mux) serveAuth(op *Operation, c *call) {
	if m.guard == nil {
		c.reply(jsonReply(501, message("this server keeps no users and roles")))
		return
	}
	m.b.ReadIndex(func(err *store.Error) {
		switch {
		case c.over:
		case err != nil:
			c.reply(m.authReply(500, message(err.Cause)))
		default:
			m.administer(op, c)
		}
	})
}

func (m *Mux) administer(op *Operation, c *call) {
	if op.Auth.path == enablePath && op.Auth.method == "GET" {
		state, _ := m.guard.Auth()
		c.reply(m.authReply(200, state.ShowEnabled()))
		return
	}
	m.admit(&admission{op: op, c: c, fresh: true, then: func(*auth.Rights) {
		switch q := op.Auth; {
		case q.bad != nil:
			c.reply(m.authReply(q.bad.Status, message(q.bad.Message)))
		case q.method == "GET":
			c.reply(m.shown(q))
		case q.user != nil && q.user.Password != "" && q.hash == "":
			m.hash(op, c)
		default:
			m.change(op, c)
		}
	}})
}

// hash makes the hash of a new password and goes on.
func (m *Mux) hash(op *Operation, c *call) {
	var text string
	var err error
	password := op.Auth.user.Password
	m.guard.Work(func() { text, err = m.o.Passwords.Hash(password) }, func() {
		switch {
		case c.over:
		case err != nil:
			c.reply(m.authReply(500, message(err.Error())))
		default:
			op.Auth.hash = text
			m.administer(op, c)
		}
	})
}

func (m *Mux) shown(q *AuthRequest) *Reply {
	state, _ := m.guard.Auth()
	var body []byte
	var err *auth.Error
	switch {
	case q.path == usersPath && q.name == "":
		body = state.ShowUsers()
	case q.path == usersPath:
		body, err = state.ShowUser(q.name)
	case q.name == "":
		body = state.ShowRoles()
	default:
		body, err = state.ShowRole(q.name)
	}
	if err != nil {
		return m.authReply(err.Status, message(err.Message))
	}
	return m.authReply(200, body)
}

// change proposes the state that q makes of the present one.
func (m *Mux) change(op *Operation, c *call) {
	state, index := m.guard.Auth()
	next, body, created, err := op.Auth.apply(state)
	var text string
	if err == nil {
		text, err = next.Encode()
	}
	if err != nil {
		c.reply(m.authReply(err.Status, message(err.Message)))
		return
	}
	status := 200
	if created {
		status = 201
	}
	command := store.Command{Op: store.OpSet, Key: store.SecretKey, Value: text, Guarded: true, Guard: index}
	m.b.Propose(command, func(res store.Result) {
		switch {
		case c.over:
		case res.Stale:
			m.administer(op, c)
		case res.Err != nil:
			c.reply(m.authReply(500, message(res.Err.Cause)))
		default:
			c.reply(m.authReply(status, body))
		}
	})
}

func (q *AuthRequest) apply(s *auth.State) (next *auth.State, body []byte, created bool, err *auth.Error) {
	put := q.method == "PUT"
	switch {
	case q.path == enablePath && put:
		next, err = s.Enable()
	case q.path == enablePath:
		next, err = s.Disable()
	case q.path == usersPath && put:
		return s.PutUser(q.user, q.hash)
	case q.path == usersPath:
		next, err = s.RemoveUser(q.name)
	case put:
		return s.PutRole(q.role)
	default:
		next, err = s.RemoveRole(q.name)
	}
	return next, nil, false, err
}

func (m *Mux) authReply(status int, body []byte) *Reply {
	return membersReply(m.b.Info(), status, body)
}
