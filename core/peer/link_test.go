package peer

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/format"
)

func pair(incarnation uint64) (a, b *Link) {
	return NewLink(Config{Cluster: 9, Self: 1, Peer: 2, Incarnation: incarnation}),
		NewLink(Config{Cluster: 9, Self: 2, Peer: 1, Incarnation: 1})
}

func frame(l *Link, payloads ...string) []byte {
	for i, p := range payloads {
		if !l.Add(byte(i), []byte(p)) {
			panic("no room")
		}
	}
	return l.Frame()
}

func TestMessagesArrive(t *testing.T) {
	a, b := pair(1)
	require.Nil(t, a.Frame())
	f := frame(a, "one", "", "three")
	got, err := b.Open(f)
	require.NoError(t, err)
	require.Equal(t, []Message{{0, []byte("one")}, {1, []byte{}}, {2, []byte("three")}}, got)
	require.Zero(t, a.Pending())

	got, err = b.Open(f)
	require.NoError(t, err)
	require.Empty(t, got, "came before")
	require.Equal(t, Stats{Delivered: 1, Repeated: 1}, b.Stats())
}

func TestReserveFillsInPlace(t *testing.T) {
	a, b := pair(1)
	p, ok := a.Reserve(7, 5)
	require.True(t, ok)
	copy(p, "hello")
	size := a.Size()
	f := a.Frame()
	require.Len(t, f, size)
	got, err := b.Open(f)
	require.NoError(t, err)
	require.Equal(t, []Message{{7, []byte("hello")}}, got)
}

func TestFramesHaveLimits(t *testing.T) {
	a, b := pair(1)
	require.False(t, a.Add(1, make([]byte, MaxPayload+1)))
	require.True(t, a.Add(1, make([]byte, MaxPayload)))
	require.False(t, a.Add(1, make([]byte, 100)))
	f := a.Frame()
	require.LessOrEqual(t, len(f), MaxFrame)
	_, err := b.Open(f)
	require.NoError(t, err)
	for range MaxMessages {
		require.True(t, a.Add(1, nil))
	}
	require.False(t, a.Add(1, nil))
	got, err := b.Open(a.Frame())
	require.NoError(t, err)
	require.Len(t, got, MaxMessages)
}

func TestForeignFramesAreErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want error
	}{
		{Config{Cluster: 8, Self: 1, Peer: 2, Incarnation: 1}, ErrCluster},
		{Config{Cluster: 9, Self: 3, Peer: 2, Incarnation: 1}, ErrSender},
		{Config{Cluster: 9, Self: 1, Peer: 3, Incarnation: 1}, ErrReceiver},
	} {
		_, b := pair(1)
		_, err := b.Open(frame(NewLink(c.cfg), "x"))
		require.ErrorIs(t, err, c.want)
	}
	a, b := pair(1)
	f := frame(a, "x")
	f[0] = 2
	_, err := b.Open(f)
	require.ErrorIs(t, err, ErrVersion)
	require.EqualError(t, err, "peer: open frame: unknown version: got 2, want 1")
	_, err = b.Open(f[:20])
	require.ErrorIs(t, err, ErrMalformed)
}

func TestOlderLivesAreDropped(t *testing.T) {
	old, b := pair(4)
	late := frame(old, "late")
	_, err := b.Open(frame(old, "first"))
	require.NoError(t, err)
	next, _ := pair(5)
	got, err := b.Open(frame(next, "again"))
	require.NoError(t, err)
	require.Len(t, got, 1, "sequences start anew")
	got, err = b.Open(late)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, uint64(5), b.Heard())
	require.Equal(t, uint64(1), b.Stats().Stale)
}

// Whatever a network does, a message arrives at most once and only as it was
// sent; within the window, it arrives unless it was lost.
func TestAnyNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, b := pair(1)
		type parcel struct {
			frame       []byte
			incarnation uint64
			n           int
		}
		var wire []parcel
		sent := map[string]bool{}
		seen := map[string]bool{}
		var a *Link
		incarnation := uint64(0)
		restart := func(*rapid.T) {
			incarnation++
			a, _ = pair(incarnation)
		}
		restart(t)
		send := func(t *rapid.T) {
			for range rapid.SampledFrom([]int{1, 3, 700, 1100}).Draw(t, "frames") {
				var texts []string
				for i := range rapid.IntRange(1, 2).Draw(t, "messages") {
					s := fmt.Sprintf("%d.%d.%d", incarnation, len(sent), i)
					texts = append(texts, s)
				}
				for _, s := range texts {
					sent[s] = true
				}
				wire = append(wire, parcel{frame(a, texts...), incarnation, len(texts)})
			}
		}
		open := func(t *rapid.T, f []byte) int {
			got, err := b.Open(f)
			require.NoError(t, err)
			for _, m := range got {
				s := string(m.Payload)
				require.True(t, sent[s])
				require.False(t, seen[s], "delivered twice: %s", s)
				require.True(t, bytes.HasPrefix(m.Payload, fmt.Appendf(nil, "%d.", b.Heard())), "from an older life")
				seen[s] = true
			}
			return len(got)
		}
		t.Repeat(map[string]func(*rapid.T){
			"restart": restart,
			"send":    send,
			"in order": func(t *rapid.T) {
				for i := range min(len(wire), rapid.IntRange(0, 900).Draw(t, "n")) {
					open(t, wire[i].frame)
				}
			},
			"any": func(t *rapid.T) {
				if len(wire) > 0 {
					open(t, rapid.SampledFrom(wire).Draw(t, "parcel").frame)
				}
			},
			"newest": func(t *rapid.T) {
				if len(wire) == 0 || wire[len(wire)-1].incarnation < b.Heard() {
					return
				}
				p := wire[len(wire)-1]
				wire = wire[:len(wire)-1]
				before := b.Stats().Repeated
				if n := open(t, p.frame); n == 0 {
					require.Equal(t, before+1, b.Stats().Repeated, "the newest frame can only be a repeat")
				}
			},
			"damaged": func(t *rapid.T) {
				if len(wire) == 0 {
					return
				}
				f := slices.Clone(rapid.SampledFrom(wire).Draw(t, "parcel").frame)
				f[rapid.IntRange(0, len(f)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
				before := *b
				got, err := b.Open(f)
				require.Error(t, err)
				require.Empty(t, got)
				require.Equal(t, before.in, b.in)
			},
		})
	})
}

func TestStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := pair(1)
		var want [][]byte
		var wire []byte
		for i := range rapid.IntRange(0, 5).Draw(t, "frames") {
			f := frame(a, fmt.Sprint("payload ", i))
			want = append(want, f)
			wire = AppendStream(wire, f)
		}
		var got [][]byte
		var buf []byte
		for len(wire) > 0 {
			n := rapid.IntRange(1, len(wire)).Draw(t, "read")
			buf, wire = append(buf, wire[:n]...), wire[n:]
			for {
				f, rest, err := Split(buf)
				require.NoError(t, err)
				if buf = rest; f == nil {
					break
				}
				got = append(got, bytes.Clone(f))
			}
		}
		require.Equal(t, want, got)
	})
	_, _, err := Split([]byte("GET / HTTP/1.1"))
	require.ErrorIs(t, err, ErrTooLong)
	_, _, err = Split([]byte{1, 0, 0, 0})
	require.ErrorIs(t, err, ErrMalformed)
}

func TestHello(t *testing.T) {
	h := Hello{Cluster: 9, From: 1, To: 2, Reads: format.Stream}
	p := AppendHello(nil, h)
	require.Len(t, p, HelloSize)
	got, err := ParseHello(p)
	require.NoError(t, err)
	require.Equal(t, h, got)
	require.NoError(t, got.Check(9, 2))
	require.ErrorIs(t, got.Check(8, 2), ErrCluster)
	require.ErrorIs(t, got.Check(9, 3), ErrReceiver)
	for i := range p {
		bad := bytes.Clone(p)
		bad[i] ^= 1
		_, err := ParseHello(bad)
		require.Error(t, err)
	}
	_, err = ParseHello(p[:HelloSize-1])
	require.ErrorIs(t, err, ErrMalformed)
	require.True(t, got.TakesNotes())
	require.False(t, Hello{}.TakesNotes(), "a program of the first format says 0")
	require.Equal(t, []byte{1, 0}, p[8:10], "the version before refuses any other number")
}

// FuzzOpen: no bytes from the network panic. The checksum is set right, or the
// fuzzer would never get past it.
func FuzzOpen(f *testing.F) {
	a, _ := pair(1)
	f.Add(frame(a, "one", "two"))
	f.Add(frame(a, ""))
	f.Add(append(frame(a, "x"), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		_, b := pair(1)
		if got, err := b.Open(p); err != nil {
			require.Empty(t, got)
		}
		if len(p) >= headerSize+trailerSize {
			p = seal(p[:len(p)-trailerSize])
		}
		before := *b
		got, err := b.Open(p)
		if err != nil {
			require.Empty(t, got)
			require.Equal(t, before.in, b.in)
			return
		}
		total := headerSize + trailerSize
		for _, m := range got {
			total += 1 + len(m.Payload)
		}
		require.LessOrEqual(t, total, max(len(p), headerSize+trailerSize))
		_, _, _ = Split(p)
		_, _ = ParseHello(p)
		if len(p) >= LengthSize {
			n, isNote, err := NoteLength([LengthSize]byte(p))
			require.True(t, !isNote || err != nil || n <= NoteMax)
			ParseNote(p[LengthSize:])
		}
	})
}

// One frame of 64 messages of 256 bytes, built and opened.
func BenchmarkLink(b *testing.B) {
	l, r := pair(1)
	payload := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		for range 64 {
			l.Add(1, payload)
		}
		got, err := r.Open(l.Frame())
		if err != nil || len(got) != 64 {
			b.Fatal(err)
		}
	}
}
