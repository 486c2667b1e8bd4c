//go:build planted

package chaos

import (
	"testing"
	"time"

	"github.com/keelson/keelson/core/planted"
)

func TestPlantedByHand(t *testing.T) {
	bugs := []planted.Bug{planted.Bug(number("BUG", 1))}
	if number("BUG", 0) == 0 {
		bugs = []planted.Bug{1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 24, 30, 32, 33, 34}
	}
	for _, b := range bugs {
		planted.Active = b
		s := Swarm{Config: Config{Seed: number("SEED", 1)}, Seeds: int(number("SEEDS", 1000)), Jobs: 2, FailuresMax: 3, Time: time.Duration(number("TIME", 20)) * time.Second}
		tally, err := s.Run()
		planted.Active = planted.None
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("bug %d: %d runs, %v busy: %v", b, tally.Runs, tally.Busy.Round(time.Millisecond), tally.Count)
		for sig, v := range tally.First {
			m := v.Failure.Message
			t.Logf("   %s: seed %d %.300s", sig, v.Seed, m)
		}
	}
}
