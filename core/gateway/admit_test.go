package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// Another API is judged by the same users and roles, and its commands are tied to them.
func TestAdmit(t *testing.T) {
	g := enabled(t)
	ask := func(user, password, key string) (ticket *Ticket, cause string) {
		req := &Request{User: user, Password: password}
		g.mux.Admit(&Admission{
			Request: req, May: func(r auth.Rights) bool { return r.Write(key) },
			Then: func(t Ticket) { ticket = &t }, Refused: func(why string) { cause = why },
		})
		g.work()
		return ticket, cause
	}
	ticket, cause := ask("", "", "/team/w")
	assert.Nil(t, ticket)
	assert.Equal(t, insufficient, cause)
	ticket, _ = ask("ann", "wrong", "/team/w")
	assert.Nil(t, ticket)
	ticket, _ = ask("ann", "a", "/team/w")
	require.NotNil(t, ticket)

	command := ticket.Stamp(store.Command{Op: store.OpSet, Key: "/team/w", Value: "1"})
	assert.Nil(t, g.apply(command)[0].Err)
	g.as("root:r", `DELETE /v2/auth/users/bob`)
	assert.True(t, g.apply(command)[0].Stale, "users have changed since")

	ticket, _ = ask("", "", "/pub")
	assert.Nil(t, ticket)
	plain := newGuarded()
	plain.mux.Admit(&Admission{Request: &Request{}, May: func(auth.Rights) bool { return false }, Then: func(t Ticket) { ticket = &t }})
	assert.NotNil(t, ticket, "nobody is judged before auth is enabled")
}
