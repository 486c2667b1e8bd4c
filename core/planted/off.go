//go:build !planted

package planted

// On reports whether b is switched on: never, in this build.
func On(Bug) bool { return false }

// Built says whether this build can switch bugs on.
const Built = false

// Plant switches b on, and reports whether this build can: it cannot.
func Plant(Bug) bool { return false }
