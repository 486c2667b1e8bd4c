package chaos

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

// access is what the clients of the workload know of users. Each user is given rights
// once and loses them once, so that a request whose outcome nobody knows gives nobody
// back what was taken from him.
type access struct {
	user string // who may read and write below accessDir now
	// revoked holds, for each user that surely lost his rights, an index of the store
	// by which he had.
	revoked map[string]uint64
	cycle   int
}

const (
	accessDir      = "/_access/" // hidden, so that nobody else is told of it
	accessRole     = "team"
	accessPassword = "sesame"
)

// accesses is administrators who give and take rights, and users who try what they
// can.
func accesses(c *caller) {
	if c.access == nil {
		c.access = &access{revoked: map[string]uint64{}}
	}
	if c.clients == 1 {
		c.procs = append(c.procs, c.c.Spawn(c.Name()+"-user", func(p *sim.Proc) {
			other := *c
			other.Proc = p
			other.useAccess()
		}))
	}
	if c.at%2 == 0 {
		c.administer()
	} else {
		c.useAccess()
	}
}

// administer is one administrator; the first is who gives and takes rights.
func (c *caller) administer() {
	o := c.patient()
	o.User, o.Password = "root", accessPassword
	lib := client.New(c.Proc, o)
	first := c.at == 0
	if !c.until(func() error { return openAccess(c, lib) }) {
		return
	}
	for c.next() {
		if first {
			c.rotate(lib)
		} else {
			c.addsUser(lib)
		}
	}
}

// until tries again until fn succeeds or is refused; false when it is time to end.
func (c *caller) until(fn func() error) bool {
	for !c.stop {
		var refused *client.AuthError
		if err := fn(); err == nil || errors.As(err, &refused) && refused.Status != 401 && refused.Status < 500 {
			return true
		}
		c.Pause(300 * time.Millisecond)
	}
	return false
}

// openAccess has requests judged; who has no name may go on as before.
func openAccess(c *caller, lib *client.Client) error {
	ctx, a := c.Context(), lib.Auth()
	if on, err := a.Enabled(ctx); err != nil || on {
		return err
	}
	if _, err := a.PutUser(ctx, "root", accessPassword); err != nil {
		return err
	}
	var already *client.AuthError
	if err := a.AddRole(ctx, accessRole); err != nil && !errors.As(err, &already) {
		return err
	}
	var p client.Permissions
	p.KV.Read, p.KV.Write = []string{accessDir + "*"}, []string{accessDir + "*"}
	if _, err := a.GrantRole(ctx, accessRole, p); err != nil && !errors.As(err, &already) {
		return err
	}
	return a.Enable(ctx)
}

// rotate gives a new user rights, lets him work, takes them away, and writes what he
// must not see.
func (c *caller) rotate(lib *client.Client) {
	ctx, a := c.Context(), lib.Auth()
	c.access.cycle++
	name := fmt.Sprintf("user-%d-%d", c.id, c.access.cycle)
	if _, err := a.PutUser(ctx, name, accessPassword); err != nil {
		return
	}
	if err := a.GrantUser(ctx, name, accessRole); err != nil {
		return
	}
	c.access.user = name
	c.secret(lib)
	c.Pause(time.Duration(c.Float64() * float64(2*time.Second)))
	done := false
	how := c.draw(3)
	for try := 0; try < 20 && !done && !c.stop; try++ {
		switch how {
		case 0:
			done = settled(a.RemoveUser(ctx, name))
		case 1:
			done = settled(a.RevokeUser(ctx, name, accessRole))
		default:
			_, err := a.PutUser(ctx, name, accessPassword+"2")
			done = err == nil
		}
	}
	if !done {
		return
	}
	if e, err := lib.Keys().Get(ctx, accessDir, client.GetOptions{Reading: client.Linearizable}); err == nil && e.Index > 0 {
		c.access.revoked[name] = e.Index
		c.c.Mark("client: rights taken away")
	}
	c.secret(lib)
	c.Pause(time.Duration(c.Float64() * float64(time.Second)))
	c.secret(lib)
}

// settled says that a right is surely gone: it was taken away now or before.
func settled(err error) bool {
	var refused *client.AuthError
	return err == nil || errors.As(err, &refused) && (refused.Status == 404 || refused.Status == 409)
}

func (c *caller) secret(lib *client.Client) {
	_, _ = lib.Keys().Set(c.Context(), accessDir+strconv.Itoa(c.draw(2)), c.value(), client.SetOptions{})
}

// addsUser is another administrator at work: what he was told is done stays done.
func (c *caller) addsUser(lib *client.Client) {
	ctx, a := c.Context(), lib.Auth()
	name := fmt.Sprintf("other-%d-%s", c.id, c.value())
	if created, err := a.PutUser(ctx, name, "x"); err != nil || !created {
		return
	}
	c.Pause(time.Duration(c.Float64() * float64(time.Second)))
	users, err := a.Users(ctx)
	if err != nil {
		return
	}
	if !slices.ContainsFunc(users, func(u client.User) bool { return u.User == name }) {
		c.c.Fail(check.Access, "user %s was made and is not there", name)
	}
	_ = a.RemoveUser(ctx, name)
}

// useAccess is a user who reads, writes and watches below the directory, for as long
// as he may and longer.
func (c *caller) useAccess() {
	next := uint64(0)
	for !c.stop {
		c.Pause(time.Duration(c.Float64() * float64(300*time.Millisecond)))
		user := c.access.user
		if user == "" || c.draw(8) == 0 && c.access.cycle > 1 {
			continue
		}
		c.at = c.draw(c.Machines)
		switch c.draw(6) {
		case 0:
			c.tries(user, "GET", "quorum=true")
		case 1:
			c.tries(user, "PUT", "value="+c.value())
		default:
			q := url.Values{"wait": {"true"}, "recursive": {"true"}}
			if next > 0 && c.draw(2) == 0 {
				q.Set("waitIndex", strconv.FormatUint(next, 10))
			}
			next = max(next, c.tries(user, "GET", q.Encode()))
		}
	}
}

// tries makes one request and judges the answer. It gives the index to watch on from.
func (c *caller) tries(user, method, query string) uint64 {
	_, before := c.access.revoked[user]
	req := &client.Request{
		Endpoint: c.endpoint(), Method: method, Path: "/v2/keys" + accessDir, Query: query,
		User: user, Password: accessPassword, Timeout: c.patience,
	}
	if method == "PUT" {
		req.Path += strconv.Itoa(c.draw(2))
	}
	resp, err := c.Do(c.Context(), req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Status >= 300 || len(body) == 0 {
		return 0
	}
	out, err := linearizability.Decode(body, linearizability.IndexOf(resp))
	if err != nil || out.Code != 0 {
		return 0
	}
	watch := method == "GET" && out.Action != "get"
	switch {
	case before && !watch:
		c.c.Fail(check.Access, "%s %s by %s, who had lost his rights by index %d before he asked, was answered: %.100s", method, req.Path, user, c.access.revoked[user], body)
	case out.Node != nil && out.Action != "get":
		if by, lost := c.access.revoked[user]; lost && out.Node.Modified > by {
			c.c.Fail(check.Access, "%s had lost his rights by index %d, and %s %s?%s showed him index %d: %.100s", user, by, method, req.Path, query, out.Node.Modified, body)
		}
		return out.Node.Modified + 1
	}
	return 0
}
