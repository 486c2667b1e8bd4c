//go:build planted

package replica_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/keelson/keelson/core/planted"
)

// TestMain switches on the bug that PLANTED names by number, so that one can see
// which tests of this package find it.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("PLANTED")); err == nil {
		planted.Active = planted.Bug(n)
	}
	os.Exit(m.Run())
}
