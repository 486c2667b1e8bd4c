package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapSlack is how much garbage may lie about before it is worth collecting, in
// bytes: a small store would otherwise be walked many times a second.
const heapSlack = 24 << 20

// tuneCollector keeps the garbage collector from running more often than once for
// each heapSlack bytes, and lets the heap grow beyond what lives by a third at most
// where that is more.
func tuneCollector(stop <-chan struct{}) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := 0; ; {
		metrics.Read(live)
		if p := collectorPercent(live[0].Value.Uint64()); p != last { // setting it stops the world
			debug.SetGCPercent(p)
			last = p
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// collectorPercent is what GOGC should be where so many bytes live.
func collectorPercent(live uint64) int {
	const least, most = 33, 1600
	return int(min(max(heapSlack*100/max(live, 1), least), most))
}
