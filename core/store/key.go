package store

import "strings"

// ValidKey reports whether key is clean, as Command.Key must be: it begins with
// "/", has no empty, "." or ".." element and no slash at the end; "/" is the root.
func ValidKey(key string) bool {
	if key == "/" {
		return true
	}
	if key == "" || key[0] != '/' {
		return false
	}
	for rest := key[1:]; ; {
		name, after, more := strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." {
			return false
		}
		if !more {
			return true
		}
		rest = after
	}
}

// segments walks over the elements of a key.
type segments struct {
	key string
	pos int // where the next element begins
}

func segmentsOf(key string) segments { return segments{key: key, pos: 1} }

// next gives the next element; false after the last.
func (s *segments) next() (string, bool) {
	if s.pos >= len(s.key) {
		return "", false
	}
	name := s.key[s.pos:]
	if i := strings.IndexByte(name, '/'); i >= 0 {
		name = name[:i]
	}
	s.pos += len(name) + 1
	return name, true
}

// done is the key up to and with the element that next gave last.
func (s *segments) done() string {
	if s.pos <= 1 {
		return "/"
	}
	return s.key[:s.pos-1]
}

// split gives the last element of a key other than the root, and its parent.
func split(key string) (parent, name string) {
	i := strings.LastIndexByte(key, '/')
	if i == 0 {
		return "/", key[1:]
	}
	return key[:i], key[i+1:]
}

func join(parent, name string) string {
	if parent == "/" {
		return "/" + name
	}
	return parent + "/" + name
}

// below is the part of key under dir, beginning with a slash; "" if key is not
// strictly under dir.
func below(key, dir string) string {
	if dir == "/" {
		dir = ""
	}
	if len(key) <= len(dir)+1 || key[len(dir)] != '/' || key[:len(dir)] != dir {
		return ""
	}
	return key[len(dir):]
}

func hidden(name string) bool { return name != "" && name[0] == '_' }
