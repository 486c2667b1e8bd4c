package auth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// Permissions is how requests and answers write the rights of a role.
type Permissions struct {
	KV struct {
		Read  []string `json:"read"`
		Write []string `json:"write"`
	} `json:"kv"`
}

func (p *Permissions) empty() bool {
	return p == nil || len(p.KV.Read) == 0 && len(p.KV.Write) == 0
}

// UserChange is the body of a PUT of a user: a new one, a password, or roles to grant
// and revoke.
type UserChange struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"`
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

// RoleChange is the body of a PUT of a role: a new one, or patterns to grant and
// revoke.
type RoleChange struct {
	Role        string       `json:"role"`
	Permissions Permissions  `json:"permissions"`
	Grant       *Permissions `json:"grant,omitempty"`
	Revoke      *Permissions `json:"revoke,omitempty"`
}

// decode reads the first JSON value of body, and nothing behind it, as the original.
func decode(body []byte, into any) *Error {
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return refuse(400, "Invalid JSON in request body.")
	}
	return nil
}

// ParseUser reads the body of a PUT of the user name.
func ParseUser(name string, body []byte) (*UserChange, *Error) {
	var c UserChange
	if err := decode(body, &c); err != nil {
		return nil, err
	}
	switch {
	case c.User != name:
		return nil, refuse(400, "User JSON name does not match the name in the URL")
	case strings.Contains(name, ":"):
		return nil, refuse(400, "auth: User %s could not log in: basic authentication ends a name at its first colon", name)
	case len(c.Roles) > 0 && len(c.Grant)+len(c.Revoke) > 0:
		return nil, refuse(400, "User JSON contains both roles and grant/revoke")
	}
	return &c, nil
}

// ParseRole reads the body of a PUT of the role name.
func ParseRole(name string, body []byte) (*RoleChange, *Error) {
	var c RoleChange
	if err := decode(body, &c); err != nil {
		return nil, err
	}
	switch {
	case c.Role != name:
		return nil, refuse(400, "Role JSON name does not match the name in the URL")
	case !c.updates():
	case !c.Permissions.empty():
		return nil, refuse(400, "Role JSON contains both permissions and grant/revoke")
	}
	return &c, nil
}

func (c *RoleChange) updates() bool { return !c.Grant.empty() || !c.Revoke.empty() }

// PutUser makes a user or changes one. hash is that of the password in c, empty where
// there is none. The body is the answer.
func (s *State) PutUser(c *UserChange, hash string) (next *State, body []byte, created bool, err *Error) {
	old, exists := s.User(c.User)
	u := User{Name: c.User, Hash: hash}
	switch {
	case len(c.Grant)+len(c.Revoke) > 0 || len(c.Roles) == 0 && exists:
		if !exists {
			return nil, nil, false, refuse(404, "auth: User %s does not exist.", c.User)
		}
		if u, err = old.merge(c, hash); err != nil {
			return nil, nil, false, err
		}
	case c.Password == "":
		return nil, nil, false, refuse(400, "auth: Cannot create user %s with an empty password", c.User)
	case exists:
		return nil, nil, false, refuse(409, "auth: User %s already exists.", c.User)
	default:
		u.Roles = slices.Clone(c.Roles)
		u.Roles = u.attached()
		created = len(c.Roles) == 0 // the original says 201 only then
	}
	next = s.copy()
	next.Users = put(s.Users, u, func(u User) string { return u.Name })
	body = line(struct {
		User  string   `json:"user"`
		Roles []string `json:"roles"`
	}{u.Name, u.Roles})
	return next, body, created, nil
}

// attached gives the roles of u, with the one that root has whatever is stored.
func (u *User) attached() []string {
	if u.Name == RootUser && !slices.Contains(u.Roles, RootRole) {
		return append(u.Roles[:len(u.Roles):len(u.Roles)], RootRole)
	}
	return u.Roles
}

func (u *User) merge(c *UserChange, hash string) (User, *Error) {
	out := User{Name: u.Name, Hash: cmp.Or(hash, u.Hash)}
	roles := append([]string{}, u.attached()...)
	for _, r := range c.Grant {
		if slices.Contains(roles, r) {
			return out, refuse(409, "auth: Granting duplicate role %s for user %s", r, u.Name)
		}
		roles = append(roles, r)
	}
	for _, r := range c.Revoke {
		at := slices.Index(roles, r)
		if at < 0 {
			return out, refuse(409, "auth: Revoking ungranted role %s for user %s", r, u.Name)
		}
		roles = slices.Delete(roles, at, at+1)
	}
	slices.Sort(roles)
	out.Roles = slices.Compact(roles)
	if hash == "" && same(u.attached(), out.Roles) {
		return out, refuse(400, "auth: User not updated. Use grant/revoke/password to update the user.")
	}
	return out, nil
}

// same tells that nothing changed, as the original: no list at all and an empty one
// differ, and so do two orders.
func same(before, after []string) bool { return before != nil && slices.Equal(before, after) }

// RemoveUser removes a user.
func (s *State) RemoveUser(name string) (*State, *Error) {
	switch _, exists := s.User(name); {
	case s.Enabled && name == RootUser:
		return nil, refuse(403, "auth: Cannot delete root user while auth is enabled.")
	case !exists:
		return nil, refuse(404, "auth: User %s does not exist", name)
	}
	next := s.copy()
	next.Users = slices.DeleteFunc(slices.Clone(s.Users), func(u User) bool { return u.Name == name })
	return next, nil
}

// PutRole makes a role or changes one.
func (s *State) PutRole(c *RoleChange) (next *State, body []byte, created bool, err *Error) {
	old, exists := s.Role(c.Role)
	var r Role
	switch {
	case c.Role == RootRole:
		return nil, nil, false, refuse(403, "auth: Cannot modify role root: is root role.")
	case !c.updates() && exists:
		return nil, nil, false, refuse(409, "auth: Role %s already exists.", c.Role)
	case !c.updates():
		r, created = Role{c.Role, c.Permissions.KV.Read, c.Permissions.KV.Write}, true
	case !exists:
		return nil, nil, false, refuse(404, "auth: Role %s does not exist.", c.Role)
	default:
		if r, err = old.merge(c); err != nil {
			return nil, nil, false, err
		}
	}
	next = s.copy()
	next.Roles = put(s.Roles, r, func(r Role) string { return r.Name })
	return next, line(r.shown()), created, nil
}

func (r *Role) merge(c *RoleChange) (out Role, err *Error) {
	grant, revoke := orNone(c.Grant), orNone(c.Revoke)
	out.Name = r.Name
	if out.Read, err = regrant(r.Read, grant.KV.Read, revoke.KV.Read, "read"); err != nil {
		return out, err
	}
	if out.Write, err = regrant(r.Write, grant.KV.Write, revoke.KV.Write, "write"); err != nil {
		return out, err
	}
	if same(r.Read, out.Read) && same(r.Write, out.Write) {
		return out, refuse(400, "auth: Role not updated. Use grant/revoke to update the role.")
	}
	return out, nil
}

func orNone(p *Permissions) Permissions {
	if p == nil {
		return Permissions{}
	}
	return *p
}

func regrant(have, grant, revoke []string, kind string) ([]string, *Error) {
	out := append([]string{}, have...)
	for _, p := range grant {
		if slices.Contains(out, p) {
			return nil, refuse(409, "auth: Granting duplicate %s permission %s", kind, p)
		}
		out = append(out, p)
	}
	out = slices.DeleteFunc(out, func(p string) bool { return slices.Contains(revoke, p) })
	return sorted(out), nil
}

func sorted(list []string) []string {
	return slices.Compact(append([]string{}, slices.Sorted(slices.Values(list))...))
}

// RemoveRole removes a role. Users keep its name: it gives nothing until a role of
// that name is made again.
func (s *State) RemoveRole(name string) (*State, *Error) {
	switch _, exists := s.Role(name); {
	case name == RootRole:
		return nil, refuse(403, "auth: Cannot modify role root: is root role.")
	case !exists:
		return nil, refuse(404, "auth: Role %s doesn't exist.", name)
	}
	next := s.copy()
	next.Roles = slices.DeleteFunc(slices.Clone(s.Roles), func(r Role) bool { return r.Name == name })
	return next, nil
}

// Enable begins to judge requests. There must be somebody who can change things
// afterwards, and requests without credentials go on as before until the role guest
// is narrowed.
func (s *State) Enable() (*State, *Error) {
	if s.Enabled {
		return nil, refuse(409, "auth: already enabled")
	}
	if _, ok := s.User(RootUser); !ok {
		return nil, refuse(409, "auth: No root user available, please create one")
	}
	next := s.copy()
	next.Enabled = true
	if _, ok := s.Role(GuestRole); !ok {
		guest := Role{Name: GuestRole, Read: []string{"/*"}, Write: []string{"/*"}}
		next.Roles = put(s.Roles, guest, func(r Role) string { return r.Name })
	}
	return next, nil
}

// Disable lets everybody do everything. Users and roles stay.
func (s *State) Disable() (*State, *Error) {
	if !s.Enabled {
		return nil, refuse(409, "auth: already disabled")
	}
	next := s.copy()
	next.Enabled = false
	return next, nil
}

func (s *State) copy() *State {
	next := *s
	return &next
}

// put gives list with v in its place by name.
func put[T any](list []T, v T, name func(T) string) []T {
	at, found := slices.BinarySearchFunc(list, name(v), func(have T, want string) int { return cmp.Compare(name(have), want) })
	list = slices.Clone(list)
	if found {
		list[at] = v
		return list
	}
	return slices.Insert(list, at, v)
}
