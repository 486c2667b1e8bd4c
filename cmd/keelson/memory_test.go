package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCollectorLeavesABoundedAmountOfGarbage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ live, garbage uint64 }{
		{1 << 20, 16 << 20}, // no more than sixteen times what lives
		{8 << 20, 24 << 20},
		{60 << 20, 24 << 20},
		{300 << 20, 100 << 20},
	} {
		got := c.live * uint64(collectorPercent(c.live)) / 100
		assert.InDelta(t, float64(c.garbage), float64(got), 0.02*float64(c.live), "with %d bytes alive", c.live)
	}
	assert.Positive(t, collectorPercent(0))
}
