package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keelson/keelson/core/store"
)

func BenchmarkParse(b *testing.B) {
	value := strings.Repeat("x", 256)
	for name, line := range map[string]string{
		"put":  "PUT /v2/keys/dir07/key1234 value=" + value,
		"get":  "GET /v2/keys/dir07/key1234",
		"wait": "GET /v2/keys/dir07?wait=true&recursive=true&waitIndex=123456",
	} {
		b.Run(name, func(b *testing.B) {
			req := request(line)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	n := &store.Node{Key: "/dir07/key1234", Value: strings.Repeat("x", 256), Modified: 123456, Created: 123456}
	short := *n
	short.Value = "hello"
	for _, c := range []struct {
		name string
		e    *store.Event
	}{
		{"value=5", &store.Event{Action: store.ActionSet, Node: &short}},
		{"value=256", &store.Event{Action: store.ActionSet, Node: n}},
		{"value=256,prev", &store.Event{Action: store.ActionSet, Node: n, Prev: n}},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendEvent(buf[:0], c.e)
			}
		})
	}
}

// nobody is a reader that throws everything away.
type nobody struct{}

func (nobody) Reply(*Reply)      {}
func (nobody) Chunk([]byte) bool { return true }
func (nobody) End()              {}

func BenchmarkGet(b *testing.B) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/dir07/key1234 value=" + strings.Repeat("x", 256))
	req := request("GET /v2/keys/dir07/key1234")
	b.ReportAllocs()
	for b.Loop() {
		s.Serve(req, nobody{})
	}
}

func BenchmarkWatchDeliver(b *testing.B) {
	for _, readers := range []int{1, 1000} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			s := newServer(Options{})
			for range readers {
				s.Serve(request("GET /v2/keys/dir?wait=true&recursive=true&stream=true"), nobody{})
			}
			c := store.Command{Op: store.OpSet, Key: "/dir/a", Value: strings.Repeat("x", 256)}
			b.ReportAllocs()
			for b.Loop() {
				s.apply(c)
			}
		})
	}
}
