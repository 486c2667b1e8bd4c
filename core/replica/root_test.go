package replica

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestRoot(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 3, 4, 1 << 62, math.MaxUint64} {
		checkRoot(t, n)
	}
	rapid.Check(t, func(t *rapid.T) { checkRoot(t, rapid.Uint64().Draw(t, "n")) })
}

func checkRoot(t assert.TestingT, n uint64) {
	x := root(n)
	assert.LessOrEqual(t, x, uint64(math.MaxUint32), "%d", n)
	assert.LessOrEqual(t, x*x, n)
	if x < math.MaxUint32 {
		assert.Greater(t, (x+1)*(x+1), n)
	}
}

// The running figures agree with those computed from all latencies at once.
func TestLatencyFigures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Int64Range(0, int64(2*time.Second)), 1, 50).Draw(t, "latencies")
		var a appends
		var sum, squares float64
		least, most := list[0], list[0]
		for _, d := range list {
			a.measured(time.Duration(d))
			sum += float64(d)
			least, most = min(least, d), max(most, d)
		}
		n := float64(len(list))
		for _, d := range list {
			squares += (float64(d) - sum/n) * (float64(d) - sum/n)
		}
		got := a.latency(3)
		assert.Equal(t, time.Duration(list[len(list)-1]), got.Current)
		assert.Equal(t, time.Duration(least), got.Minimum)
		assert.Equal(t, time.Duration(most), got.Maximum)
		assert.InDelta(t, sum/n, float64(got.Average), 2)
		assert.InDelta(t, math.Sqrt(squares/n), float64(got.Deviation), float64(50*time.Microsecond))
	})
}
