package sim

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Deterministic()
	os.Exit(m.Run())
}
