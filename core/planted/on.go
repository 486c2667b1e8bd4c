//go:build planted

package planted

// Active is the one bug that is switched on. It is set once, before any world
// or node exists, and only in builds with the tag.
var Active Bug

// On reports whether b is switched on.
func On(b Bug) bool { return Active == b }

// Built says whether this build can switch bugs on.
const Built = true

// Plant switches b on, and every other bug off. It is called before any world or
// node exists, never beside one.
func Plant(b Bug) bool {
	//lint:global the one switch of a mutation build
	Active = b
	return true
}
