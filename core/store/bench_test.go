package store

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keysOf makes batches of 64 puts of n keys in 20 directories, encoded as the
// log holds them.
func keysOf(n, valueBytes int) [][]byte {
	value := strings.Repeat("v", valueBytes)
	var batches [][]byte
	var b Batch
	for i := range n {
		// A stride that visits every key once, out of order.
		k := i * 7919 % n
		b.Commands = append(b.Commands, Command{
			Op: OpSet, Key: fmt.Sprintf("/dir-%02d/key-%07d", k%20, k), Value: value,
			ID: ID{Node: 1, Incarnation: 1, Number: uint64(i) + 1}, Settled: uint64(i) + 1,
		})
		if len(b.Commands) == 64 || i == n-1 {
			batches = append(batches, AppendBatch(nil, &b))
			b.Commands = b.Commands[:0]
		}
	}
	return batches
}

func fill(n, valueBytes int) *Store {
	s := New()
	for _, p := range keysOf(n, valueBytes) {
		b, _ := DecodeBatch(p)
		s.Apply(b, nil)
	}
	return s
}

// benchSizes are the sizes of stores; a run of the tests makes the small one.
func benchSizes(b *testing.B) map[string]int {
	if testing.Short() {
		return map[string]int{"keys=2k": 2000}
	}
	return map[string]int{"keys=2k": 2000, "keys=1M": 1_000_000}
}

// BenchmarkApplyPut applies one put of 256 bytes to a store of 2,000 keys: "calm"
// without views in between, "viewed" with one taken after every batch.
func BenchmarkApplyPut(b *testing.B) {
	for _, c := range []struct {
		name  string
		batch int
		view  bool
	}{{"calm/batch=1", 1, false}, {"calm/batch=64", 64, false}, {"viewed/batch=1", 1, true}, {"viewed/batch=64", 64, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := fill(2000, 256)
			var batch Batch
			for i := range c.batch {
				k := i * 31
				batch.Commands = append(batch.Commands, Command{
					Op: OpSet, Key: fmt.Sprintf("/dir-%02d/key-%07d", k%20, k), Value: strings.Repeat("w", 256),
				})
			}
			number := uint64(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch.Commands {
					number++
					batch.Commands[i].ID = ID{Node: 1, Incarnation: 1, Number: number}
					batch.Commands[i].Settled = number - 64
				}
				batch.Time++
				s.Apply(&batch, nil)
				if c.view {
					s.View()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.batch), "ns/put")
		})
	}
}

// BenchmarkDecodeBatch decodes 64 puts of 256 bytes.
func BenchmarkDecodeBatch(b *testing.B) {
	p := keysOf(64, 256)[0]
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = DecodeBatch(p)
	}
}

// BenchmarkAppendBatch encodes them into a buffer that is used again.
func BenchmarkAppendBatch(b *testing.B) {
	batch, _ := DecodeBatch(keysOf(64, 256)[0])
	var p []byte
	b.ReportAllocs()
	for b.Loop() {
		p = AppendBatch(p[:0], batch)
	}
}

// BenchmarkMemory fills a store with keys of 16 bytes and says what each costs
// beside the key's directory, history and all.
func BenchmarkMemory(b *testing.B) {
	for name, n := range benchSizes(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				batches := keysOf(n, 16)
				before := heapBytes()
				s := New()
				for _, p := range batches {
					batch, _ := DecodeBatch(p)
					s.Apply(batch, nil)
					s.View()
				}
				b.ReportMetric(float64(heapBytes()-before)/float64(n), "bytes/key")
				runtime.KeepAlive(batches)
				runtime.KeepAlive(s)
			}
		})
	}
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkSnapshot reads the snapshot of a store from end to end.
func BenchmarkSnapshot(b *testing.B) {
	for name, n := range benchSizes(b) {
		b.Run(name, func(b *testing.B) {
			v := fill(n, 16).View()
			for b.Loop() {
				size, err := io.Copy(io.Discard, v.NewReader())
				require.NoError(b, err)
				b.ReportMetric(float64(size)/float64(n), "bytes/key")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/key")
		})
	}
}

// BenchmarkLoad makes a store of a snapshot.
func BenchmarkLoad(b *testing.B) {
	for name, n := range benchSizes(b) {
		b.Run(name, func(b *testing.B) {
			p := snapshot(b, fill(n, 16).View())
			b.ReportAllocs()
			for b.Loop() {
				_, err := Load(bytes.NewReader(p))
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/key")
		})
	}
}

// BenchmarkGet reads one key of a view.
func BenchmarkGet(b *testing.B) {
	v := fill(2000, 256).View()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = v.Get("/dir-07/key-0000007", false)
	}
}

// BenchmarkNotify wakes watches: a thousand on the directory of the event, or
// one among a thousand elsewhere.
func BenchmarkNotify(b *testing.B) {
	s := New()
	e := one(s, Command{Op: OpSet, Key: "/dir/key", Value: "v"}).Event
	b.Run("woken=1000", func(b *testing.B) {
		ws, woken := NewWatchers(), 0
		for range 1000 {
			ws.Add("/dir", true, func(*Event) { woken++ })
		}
		b.ReportAllocs()
		for b.Loop() {
			ws.Notify(e)
		}
		require.Equal(b, 1000*b.N, woken)
	})
	b.Run("asleep=1000", func(b *testing.B) {
		ws := NewWatchers()
		for i := range 1000 {
			ws.Add(fmt.Sprintf("/other-%d", i), true, func(*Event) {})
		}
		b.ReportAllocs()
		for b.Loop() {
			ws.Notify(e)
		}
	})
	b.Run("polls=1000", func(b *testing.B) { // each is asked once and comes back
		ws := NewWatchers()
		var again func(*Event)
		watches := map[int]*Watch{}
		next := 0
		again = func(*Event) {
			watches[next%1000].Cancel()
			watches[next%1000] = ws.Add("/dir", true, again)
			next++
		}
		for i := range 1000 {
			watches[i] = ws.Add("/dir", true, again)
		}
		b.ReportAllocs()
		for b.Loop() {
			ws.Notify(e)
		}
	})
}

// BenchmarkExpire sets keys that live for a moment, and lets them go.
func BenchmarkExpire(b *testing.B) {
	s := New()
	var batch Batch
	for i := range 64 {
		batch.Commands = append(batch.Commands, Command{
			Op: OpSet, Key: fmt.Sprintf("/k%d", i), HasTTL: true, TTL: time.Duration(i % 7),
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		batch.Time += 10
		s.Apply(&batch, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/key")
}
