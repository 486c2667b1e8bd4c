package store

// Rot damages the value of a file behind the store's back, as bad memory does: no
// index moves and nobody is told. Views share the damage. False says that there is no
// such file with a value. It is for simulators.
func (s *Store) Rot(key string) bool {
	n, f := find(s.root, key)
	if f.code != 0 || n.isDir() || n.value() == "" {
		return false
	}
	at := int(n.nameLen)
	n.data = n.data[:at] + string([]byte{n.data[at] ^ 1}) + n.data[at+1:]
	return true
}

// AnyFile gives the key of some file with a value, "" where there is none. Pick
// chooses among so many.
func (v *View) AnyFile(pick func(n int) int) string {
	var keys []string
	var path []string
	var w walk
	for w.enter(v.root); ; {
		n, left := w.next()
		switch {
		case n != nil && n.isDir():
			path = append(path, n.name())
		case n != nil:
			if n.value() != "" {
				key := ""
				for _, p := range path {
					key += "/" + p
				}
				keys = append(keys, key+"/"+n.name())
			}
		case left:
			if len(path) > 0 {
				path = path[:len(path)-1]
			}
		default:
			if len(keys) == 0 {
				return ""
			}
			return keys[pick(len(keys))]
		}
	}
}
