// Package invariant holds assertions that are always on.
//
// A failed check means that this program is wrong, not that its input is: it
// panics with a *Violation. On a real machine the process stops before it can do
// harm; in the simulator the seed fails with the message.
package invariant

import "fmt"

// Violation is what a failed Check panics with.
type Violation struct{ Message string }

// Error gives the message.
func (v *Violation) Error() string { return "invariant: " + v.Message }

// Check panics with a *Violation unless ok holds. The message is formatted only
// when it is needed; keep costly arguments out of hot paths.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic(&Violation{Message: fmt.Sprintf(format, args...)})
	}
}
