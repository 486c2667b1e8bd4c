package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapSlack is how much garbage may lie about before it is worth collecting, in
// bytes: a small store would otherwise be walked many times a second.
const heapSlack = 64 << 20

// tuneCollector keeps the garbage collector from running more often than once for
// each heapSlack bytes, and never lets the heap grow beyond twice what lives.
func tuneCollector(stop <-chan struct{}) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(live)
		debug.SetGCPercent(collectorPercent(live[0].Value.Uint64()))
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// collectorPercent is what GOGC should be where so many bytes live.
func collectorPercent(live uint64) int {
	const least, most = 100, 1600
	return int(min(max(heapSlack*100/max(live, 1), least), most))
}
