package auth

import "encoding/json"

type shownRole struct {
	Role        string      `json:"role"`
	Permissions Permissions `json:"permissions"`
}

type shownUser struct {
	User  string      `json:"user"`
	Roles []shownRole `json:"roles,omitempty"`
}

func (r Role) shown() shownRole {
	s := shownRole{Role: r.Name}
	s.Permissions.KV.Read, s.Permissions.KV.Write = r.Read, r.Write
	return s
}

// line gives v as JSON with a newline.
func line(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings and slices always encode
		panic(err)
	}
	return append(text, '\n')
}

// ShowEnabled is the answer to whether requests are judged.
func (s *State) ShowEnabled() []byte {
	return line(struct {
		Enabled bool `json:"enabled"`
	}{s.Enabled})
}

// ShowUser is the answer to a question about one user.
func (s *State) ShowUser(name string) ([]byte, *Error) {
	u, ok := s.User(name)
	if !ok {
		return nil, refuse(404, "auth: User %s does not exist.", name)
	}
	shown, missing := s.shown(u)
	if missing != "" {
		return nil, refuse(404, "auth: Role %s does not exist.", missing)
	}
	return line(shown), nil
}

// shown gives u with the roles that exist, and the name of the first that does not.
func (s *State) shown(u *User) (shown shownUser, missing string) {
	shown.User = u.Name
	for _, name := range u.attached() {
		r, ok := s.Role(name)
		switch {
		case ok:
			shown.Roles = append(shown.Roles, r.shown())
		case missing == "":
			missing = name
		}
	}
	return shown, missing
}

// ShowUsers is the answer with all users.
func (s *State) ShowUsers() []byte {
	var list struct {
		Users []shownUser `json:"users"`
	}
	for i := range s.Users {
		u, _ := s.shown(&s.Users[i])
		list.Users = append(list.Users, u)
	}
	return line(list)
}

// ShowRole is the answer to a question about one role.
func (s *State) ShowRole(name string) ([]byte, *Error) {
	r, ok := s.Role(name)
	if !ok {
		return nil, refuse(404, "auth: Role %s does not exist.", name)
	}
	return line(r.shown()), nil
}

// ShowRoles is the answer with all roles, the one built in among them.
func (s *State) ShowRoles() []byte {
	var list struct {
		Roles []shownRole `json:"roles"`
	}
	for _, r := range put(s.Roles, rootRole(), func(r Role) string { return r.Name }) {
		list.Roles = append(list.Roles, r.shown())
	}
	return line(list)
}
