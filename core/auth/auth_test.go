package auth

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPatterns(t *testing.T) {
	r := Rights{read: []string{"/a/*", "/b", "/c", "/c/*", "/d*", ""}}
	for path, want := range map[string]struct{ one, all bool }{
		"/a":   {false, false},
		"/a/":  {true, true},
		"/a/x": {true, true},
		"/b":   {true, false},
		"/b/":  {false, false},
		"/b/x": {false, false},
		"/c":   {true, true},
		"/d":   {true, true},
		"/dx":  {true, true},
		"/":    {false, false},
		"":     {false, false},
	} {
		assert.Equal(t, want.one, r.Read(path), "read %q", path)
		assert.Equal(t, want.all, r.ReadAll(path), "read all of %q", path)
		assert.False(t, r.Write(path))
	}
	assert.True(t, Everything().WriteAll("/"))
}

// Whoever may read a whole subtree may read each key in it.
func TestAllCoversEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`(/[ab]{1,2}){0,3}\*?`)
		r := Rights{read: rapid.SliceOfN(path, 0, 4).Draw(t, "patterns")}
		top := strings.TrimSuffix(rapid.StringMatching(`(/[ab]{1,2}){1,2}`).Draw(t, "top"), "*")
		below := rapid.StringMatching(`(/[ab]{1,2}){0,2}`).Draw(t, "below")
		if r.ReadAll(top) {
			assert.True(t, r.Read(top+below))
		}
	})
}

func must(t *testing.T, s *State, body string) *State {
	t.Helper()
	next, _, _, err := putUser(s, body, "h")
	require.Nil(t, err)
	return next
}

func putUser(s *State, body, hash string) (*State, []byte, bool, *Error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(body, `{"user":"`), `"`)
	c, err := ParseUser(name, []byte(body))
	if err != nil {
		return nil, nil, false, err
	}
	if c.Password == "" {
		hash = ""
	}
	return s.PutUser(c, hash)
}

func TestEnableNeedsRootAndMakesGuest(t *testing.T) {
	s := &State{}
	_, err := s.Enable()
	assert.Equal(t, refuse(409, "auth: No root user available, please create one"), err)
	s = must(t, s, `{"user":"root","password":"x"}`)
	on, err := s.Enable()
	require.Nil(t, err)
	assert.True(t, on.Guest().Write("/x"))
	assert.False(t, on.Guest().Root())
	_, err = on.RemoveUser("root")
	assert.Equal(t, 403, err.Status)
	_, err = on.Enable()
	assert.Equal(t, 409, err.Status)
	off, err := on.Disable()
	require.Nil(t, err)
	assert.True(t, off.Guest().Root())
	assert.False(t, s.Enabled, "a state is a value")
}

func TestAnUnreadableStateLetsNobodyIn(t *testing.T) {
	s, err := Decode("nonsense")
	require.Error(t, err)
	assert.False(t, s.Guest().Read("/"))
}

func TestLongPasswordsCountInFull(t *testing.T) {
	long := strings.Repeat("x", 100)
	h, err := Bcrypt(CostMin).Hash(long + "a")
	require.NoError(t, err)
	assert.True(t, Bcrypt(CostMin).Check(h, long+"a"))
	assert.False(t, Bcrypt(CostMin).Check(h, long+"b"))
}

func TestProofsAreBoundToTheHash(t *testing.T) {
	var p Proved
	p.Add("h1", "pw")
	assert.True(t, p.Has("h1", "pw"))
	assert.False(t, p.Has("h2", "pw"))
	assert.False(t, p.Has("h1", "other"))
	for i := range provedMax {
		p.Add("h", strings.Repeat("x", i))
	}
	assert.False(t, p.Has("h1", "pw"), "the oldest goes first")
	assert.Len(t, p.known, provedMax)
}

// Whatever bodies are put, a state stays sorted and survives being written down, and
// a refusal leaves no new state.
func TestChangesKeepStatesWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &State{}
		name := rapid.SampledFrom([]string{"root", "a", "b", "guest"})
		names := rapid.SliceOfN(name, 0, 2)
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			var next *State
			var err *Error
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0, 1:
				c := &UserChange{User: name.Draw(t, "user"), Password: rapid.SampledFrom([]string{"", "p"}).Draw(t, "password")}
				if rapid.Bool().Draw(t, "new") {
					c.Roles = names.Draw(t, "roles")
				} else {
					c.Grant, c.Revoke = names.Draw(t, "grant"), names.Draw(t, "revoke")
				}
				next, _, _, err = s.PutUser(c, c.Password)
			case 2:
				c := &RoleChange{Role: name.Draw(t, "role")}
				c.Permissions.KV.Read = names.Draw(t, "read")
				next, _, _, err = s.PutRole(c)
			case 3:
				next, err = s.RemoveUser(name.Draw(t, "user"))
			case 4:
				next, err = s.RemoveRole(name.Draw(t, "role"))
			default:
				if next, err = s.Enable(); err != nil {
					next, err = s.Disable()
				}
			}
			assert.Equal(t, err == nil, next != nil)
			if err != nil {
				continue
			}
			s = next
			sane(t, s)
		}
	})
}

func sane(t assert.TestingT, s *State) {
	byName := func(a, b User) int { return strings.Compare(a.Name, b.Name) }
	assert.True(t, slices.IsSortedFunc(s.Users, byName))
	_, root := s.User(RootUser)
	assert.True(t, root || !s.Enabled)
	assert.False(t, slices.ContainsFunc(s.Roles, func(r Role) bool { return r.Name == RootRole }))
	text, refused := s.Encode()
	assert.Nil(t, refused)
	back, err := Decode(text)
	assert.NoError(t, err)
	assert.Equal(t, s, back)
	s.ShowUsers()
	s.ShowRoles()
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"user":"a","password":"x"}`, `{"user":"a","grant":["r"],"revoke":["q"]}`, `{"role":"a","permissions":{"kv":{"read":["/*"]}}}`,
		`{"role":"a","grant":{"kv":{"write":["/x"]}}}`, `null`, `[]`, `{`, "",
	} {
		f.Add([]byte(body))
	}
	s := &State{Users: []User{{Name: "a", Roles: []string{"r"}}}, Roles: []Role{{Name: "a", Read: []string{"/"}}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := ParseUser("a", body); err == nil {
			if next, text, _, err := s.PutUser(c, c.Password); err == nil {
				assert.NotContains(t, string(text), "password")
				sane(t, next)
			}
		}
		if c, err := ParseRole("a", body); err == nil {
			if next, _, _, err := s.PutRole(c); err == nil {
				sane(t, next)
			}
		}
		if s, err := Decode(string(body)); err != nil {
			assert.False(t, s.Guest().Read("/"))
		}
	})
}
