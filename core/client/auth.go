package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
)

// Auth is the side of a cluster that says who may do what. All errors are an
// *AuthError where the server refused, a *ClusterError where none answered, or the
// context's. After an error of a change, errors.Is(err, ErrUnknown) says that it may
// have happened all the same.
type Auth struct{ c *Client }

// Auth gives the users and roles of the cluster.
func (c *Client) Auth() *Auth { return &Auth{c} }

// AuthError is a server's refusal of a request about users and roles.
type AuthError struct {
	Status  int
	Message string
}

func (e *AuthError) Error() string { return e.Message }

// Permissions are the keys that a role may read and write: patterns, of which a star
// at the end stands for any text.
type Permissions struct {
	KV struct {
		Read  []string `json:"read"`
		Write []string `json:"write"`
	} `json:"kv"`
}

// Role is a named set of permissions.
type Role struct {
	Role        string       `json:"role"`
	Permissions Permissions  `json:"permissions"`
	Grant       *Permissions `json:"grant,omitempty"`
	Revoke      *Permissions `json:"revoke,omitempty"`
}

// User is one who can prove who he is, with the roles that exist.
type User struct {
	User  string `json:"user"`
	Roles []Role `json:"roles"`
}

// userBody is what a user is made and changed by.
type userBody struct {
	User     string   `json:"user"`
	Password string   `json:"password,omitempty"`
	Roles    []string `json:"roles"`
	Grant    []string `json:"grant,omitempty"`
	Revoke   []string `json:"revoke,omitempty"`
}

// Enabled says whether requests are judged.
func (a *Auth) Enabled(ctx context.Context) (bool, error) {
	var is struct {
		Enabled bool `json:"enabled"`
	}
	_, err := a.do(ctx, "GET", "/v2/auth/enable", nil, &is)
	return is.Enabled, err
}

// Enable begins to judge requests. The user root must exist.
func (a *Auth) Enable(ctx context.Context) error {
	_, err := a.do(ctx, "PUT", "/v2/auth/enable", nil, nil)
	return err
}

// Disable lets everybody do everything again.
func (a *Auth) Disable(ctx context.Context) error {
	_, err := a.do(ctx, "DELETE", "/v2/auth/enable", nil, nil)
	return err
}

// Users lists all users by name.
func (a *Auth) Users(ctx context.Context) ([]User, error) {
	var list struct {
		Users []User `json:"users"`
	}
	_, err := a.do(ctx, "GET", "/v2/auth/users", nil, &list)
	return list.Users, err
}

// User gives one user.
func (a *Auth) User(ctx context.Context, name string) (*User, error) {
	var u User
	if _, err := a.do(ctx, "GET", userPath(name), nil, &u); err != nil {
		return nil, err
	}
	return &u, nil
}

// PutUser makes a user, or gives one another password; created says which.
func (a *Auth) PutUser(ctx context.Context, name, password string) (created bool, err error) {
	status, err := a.do(ctx, "PUT", userPath(name), userBody{User: name, Password: password}, nil)
	return status == 201, err
}

// GrantUser gives a user more roles.
func (a *Auth) GrantUser(ctx context.Context, name string, roles ...string) error {
	_, err := a.do(ctx, "PUT", userPath(name), userBody{User: name, Grant: roles}, nil)
	return err
}

// RevokeUser takes roles away from a user.
func (a *Auth) RevokeUser(ctx context.Context, name string, roles ...string) error {
	_, err := a.do(ctx, "PUT", userPath(name), userBody{User: name, Revoke: roles}, nil)
	return err
}

// RemoveUser removes a user.
func (a *Auth) RemoveUser(ctx context.Context, name string) error {
	_, err := a.do(ctx, "DELETE", userPath(name), nil, nil)
	return err
}

// Roles lists all roles by name.
func (a *Auth) Roles(ctx context.Context) ([]Role, error) {
	var list struct {
		Roles []Role `json:"roles"`
	}
	_, err := a.do(ctx, "GET", "/v2/auth/roles", nil, &list)
	return list.Roles, err
}

// Role gives one role.
func (a *Auth) Role(ctx context.Context, name string) (*Role, error) {
	var r Role
	if _, err := a.do(ctx, "GET", rolePath(name), nil, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// AddRole makes a role that may do nothing yet.
func (a *Auth) AddRole(ctx context.Context, name string) error {
	_, err := a.do(ctx, "PUT", rolePath(name), Role{Role: name}, nil)
	return err
}

// GrantRole gives a role more permissions.
func (a *Auth) GrantRole(ctx context.Context, name string, p Permissions) (*Role, error) {
	return a.changeRole(ctx, Role{Role: name, Grant: &p})
}

// RevokeRole takes permissions away from a role.
func (a *Auth) RevokeRole(ctx context.Context, name string, p Permissions) (*Role, error) {
	return a.changeRole(ctx, Role{Role: name, Revoke: &p})
}

func (a *Auth) changeRole(ctx context.Context, change Role) (*Role, error) {
	var r Role
	if _, err := a.do(ctx, "PUT", rolePath(change.Role), change, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// RemoveRole removes a role.
func (a *Auth) RemoveRole(ctx context.Context, name string) error {
	_, err := a.do(ctx, "DELETE", rolePath(name), nil, nil)
	return err
}

func userPath(name string) string { return (&url.URL{Path: "/v2/auth/users/" + name}).EscapedPath() }

func rolePath(name string) string { return (&url.URL{Path: "/v2/auth/roles/" + name}).EscapedPath() }

func (a *Auth) do(ctx context.Context, method, path string, body, into any) (status int, err error) {
	q := &call{method: method, path: path}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err) // strings and slices always encode
		}
		q.contentType, q.body = contentJSON, string(text)
	}
	answer, err := a.c.do(ctx, q)
	if err != nil {
		return 0, err
	}
	if answer.status != 200 && answer.status != 201 {
		return answer.status, authRefusal(answer)
	}
	if into == nil {
		return answer.status, nil
	}
	if err := json.Unmarshal(answer.text, into); err != nil {
		return answer.status, fmt.Errorf("client: answer is not JSON of the auth API: %w", err)
	}
	return answer.status, nil
}

func authRefusal(a *answer) error {
	var body struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(a.text, &body); err != nil {
		return err
	}
	return &AuthError{a.status, body.Message}
}
