package replica_test

import (
	"fmt"
	"os"
	"testing"
)

func init() {
	if os.Getenv("DBG") != "" {
		dbg = func(f string, a ...any) { fmt.Printf(f+"\n", a...) }
	}
}
func TestDummy(t *testing.T) {}
