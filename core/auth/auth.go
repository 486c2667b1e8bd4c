// Package auth says who may read and write which keys: users, roles and the changes an administrator makes to them.
//
// It is pure: a State is a value, a change gives another. Passwords are kept as
// bcrypt hashes only.
//
// Always true of a State made by this package:
//
//   - Users and roles are sorted by name, and no name is there twice.
//   - The role root is built in: it is never stored, changed or removed.
//   - While Enabled, the user root exists.
package auth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The names that mean something by themselves.
const (
	// RootUser has the role root whatever is stored.
	RootUser = "root"
	// RootRole may do everything.
	RootRole = "root"
	// GuestRole is what requests without credentials may do.
	GuestRole = "guest"
)

// State is all users and roles. It must not be changed.
type State struct {
	Enabled bool   `json:"enabled"`
	Users   []User `json:"users"`
	Roles   []Role `json:"roles"` // without root
}

// User is one who can prove who he is.
type User struct {
	Name  string   `json:"name"`
	Hash  string   `json:"hash"` // of the password, by bcrypt
	Roles []string `json:"roles"`
}

// Role is a set of rights.
type Role struct {
	Name  string   `json:"name"`
	Read  []string `json:"read"`
	Write []string `json:"write"`
}

// bytesMax bounds the text of a State, because each change writes all of it.
const bytesMax = 1 << 20

// Encode gives the text of s.
func (s *State) Encode() (string, *Error) {
	text, err := json.Marshal(s)
	if err != nil { // strings, slices and booleans always encode
		panic(err)
	}
	if len(text) > bytesMax {
		return "", refuse(400, "auth: users and roles would take %d bytes, at most %d are kept: remove some", len(text), bytesMax)
	}
	return string(text), nil
}

// Decode reads what Encode wrote. The state given with an error lets nobody do
// anything.
func Decode(text string) (*State, error) {
	var s State
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return &State{Enabled: true}, fmt.Errorf("users and roles: %w", err)
	}
	return &s, nil
}

// User finds a user.
func (s *State) User(name string) (*User, bool) {
	i, ok := slices.BinarySearchFunc(s.Users, name, func(u User, name string) int { return cmp.Compare(u.Name, name) })
	if !ok {
		return nil, false
	}
	return &s.Users[i], true
}

// Role finds a role.
func (s *State) Role(name string) (Role, bool) {
	if name == RootRole {
		return rootRole(), true
	}
	i, ok := slices.BinarySearchFunc(s.Roles, name, func(r Role, name string) int { return cmp.Compare(r.Name, name) })
	if !ok {
		return Role{}, false
	}
	return s.Roles[i], true
}

func rootRole() Role { return Role{Name: RootRole, Read: []string{"/*"}, Write: []string{"/*"}} }

// Rights is what one caller may do. The zero value is nothing.
type Rights struct {
	root        bool
	read, write []string
}

// Everything are the rights of the role root.
func Everything() Rights { return Rights{root: true} }

// Guest is what a request without credentials may do.
func (s *State) Guest() Rights {
	if !s.Enabled {
		return Everything()
	}
	r, _ := s.Role(GuestRole)
	return Rights{read: r.Read, write: r.Write}
}

// Of is what u may do once he has proved who he is. Roles that do not exist give
// nothing.
func (s *State) Of(u *User) Rights {
	if !s.Enabled || u.Name == RootUser || slices.Contains(u.Roles, RootRole) {
		return Everything()
	}
	var sum Rights
	for _, name := range u.Roles {
		r, _ := s.Role(name)
		sum.read = append(sum.read, r.Read...)
		sum.write = append(sum.write, r.Write...)
	}
	return sum
}

// Root says whether the caller may change users, roles and members.
func (r Rights) Root() bool { return r.root }

// Read says whether path may be read. A path is a key; that of a directory may have a
// slash at its end, and then a pattern for what is in it is enough.
func (r Rights) Read(path string) bool { return r.root || one(r.read, path) }

// Write says whether path may be written, as Read does.
func (r Rights) Write(path string) bool { return r.root || one(r.write, path) }

// ReadAll says whether path and all below it may be read.
func (r Rights) ReadAll(path string) bool { return r.root || all(r.read, path) }

// WriteAll says whether path and all below it may be written.
func (r Rights) WriteAll(path string) bool { return r.root || all(r.write, path) }

func one(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// all takes one pattern for the whole subtree, or two: path itself and what is in it.
func all(patterns []string, path string) bool {
	covers := func(path string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return strings.HasSuffix(p, "*") && matches(p, path) })
	}
	return covers(path) || !strings.HasSuffix(path, "/") && one(patterns, path) && covers(path+"/")
}

// matches takes a star at the end of a pattern for any text, and everything else for
// itself.
func matches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path && pattern != ""
}

// Error is a refusal with its HTTP status and the text that clients know.
type Error struct {
	Status  int
	Message string
}

// Error gives the text.
func (e *Error) Error() string { return e.Message }

func refuse(status int, format string, args ...any) *Error {
	return &Error{status, fmt.Sprintf(format, args...)}
}
