package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
)

func anyCommand(t *rapid.T) Command {
	c := Command{
		Op: Op(rapid.IntRange(1, 7).Draw(t, "op")), Key: drawKey(t),
		Value: rapid.StringN(0, 20, -1).Draw(t, "value"),
		Dir:   rapid.Bool().Draw(t, "dir"), Recursive: rapid.Bool().Draw(t, "recursive"),
		Refresh: rapid.Bool().Draw(t, "refresh"), HasTTL: rapid.Bool().Draw(t, "hasTTL"),
		PrevValue: rapid.StringN(0, 5, -1).Draw(t, "prevValue"),
		PrevIndex: Index(rapid.Uint64().Draw(t, "prevIndex")),
		Settled:   rapid.Uint64Range(0, 3).Draw(t, "settled"),
		Guarded:   rapid.Bool().Draw(t, "guarded"),
	}
	if c.Guarded {
		c.Guard = Index(rapid.Uint64().Draw(t, "guard"))
	}
	if rapid.Bool().Draw(t, "fenced") {
		c.Fence = Fence{drawKey(t), Index(rapid.Uint64().Draw(t, "fence"))}
	}
	if c.HasTTL {
		c.TTL = time.Duration(rapid.Int64().Draw(t, "ttl"))
	}
	if rapid.Bool().Draw(t, "named") {
		c.ID = ID{
			Node:        env.NodeID(rapid.SampledFrom([]uint64{0, 1, 1 << 63}).Draw(t, "node")),
			Incarnation: rapid.Uint64Range(0, 2).Draw(t, "incarnation"), Number: rapid.Uint64().Draw(t, "number"),
		}
	}
	return c
}

func TestCodecIsLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Batch{Time: Time(rapid.Int64().Draw(t, "time")), Wall: rapid.Int64().Draw(t, "wall")}
		for range rapid.IntRange(0, 5).Draw(t, "commands") {
			b.Commands = append(b.Commands, anyCommand(t))
		}
		have, err := DecodeBatch(AppendBatch(nil, b))
		require.NoError(t, err)
		require.Equal(t, b, have)
		commands, err := DecodeCommands(AppendCommands([]byte("x"), b.Commands, format.Commands)[1:])
		require.NoError(t, err)
		require.Equal(t, b.Commands, commands)
	})
}

func TestCodecRefuses(t *testing.T) {
	good := AppendBatch(nil, sample())
	for n := range good {
		_, err := DecodeBatch(good[:n])
		require.Error(t, err, "cut to %d", n)
	}
	_, err := DecodeBatch(append(bytes.Clone(good), 0))
	require.EqualError(t, err, "decode batch: 1 bytes too many")
	_, err = DecodeBatch([]byte{9})
	require.EqualError(t, err, "decode batch: batch format 9 is not known here, this program reads 1 to 2: use the version of the program that wrote it, or a later one")
	_, err = DecodeCommands([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	require.EqualError(t, err, "decode commands: cut short")
	_, err = DecodeCommands([]byte{1, 1, 1, 0, 2, 'a', 'b', 0})
	require.EqualError(t, err, `decode commands: not a clean key: "ab"`)
	_, err = DecodeCommands([]byte{1, 1, 8, 0, 1, '/', 0})
	require.EqualError(t, err, `decode commands: unknown operation 8`)
	require.Panics(t, func() { AppendCommands(nil, []Command{{Op: OpSet, Key: "/a/"}}, 1) })
}

func TestValidKey(t *testing.T) {
	for key, want := range map[string]bool{
		"/": true, "/a": true, "/a/b": true, "/a b/\x00": true, "/...": true, "/.a": true,
		"": false, "a": false, "//": false, "/a/": false, "/a//b": false, "/.": false, "/a/..": false, "/./a": false,
	} {
		require.Equal(t, want, ValidKey(key), "%q", key)
	}
}

// sample is a batch in which every field is used.
func sample() *Batch {
	return &Batch{Time: 5, Wall: wall0, Commands: []Command{
		{
			Op: OpSet, Key: "/a/b", Value: "hello", HasTTL: true, TTL: time.Second, Settled: 3,
			ID: ID{Node: 77, Incarnation: 2, Number: 4},
		},
		{Op: OpCompareAndSwap, Key: "/a/b", PrevValue: "x", PrevIndex: 9, ID: ID{Node: 77, Incarnation: 2, Number: 5}},
		{Op: OpDelete, Key: "/a", Dir: true, Recursive: true},
		{Op: OpCreateInOrder, Key: "/", Refresh: true},
	}}
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(AppendBatch(nil, sample()))
	f.Add(AppendBatch(nil, &Batch{}))
	f.Add([]byte{1, 2, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBatch(p)
		if err != nil {
			return
		}
		again, err := DecodeBatch(AppendBatch(nil, b))
		require.NoError(t, err)
		require.Equal(t, b, again)
		New().Apply(b, nil)
	})
}

func FuzzDecodeCommands(f *testing.F) {
	f.Add(AppendCommands(nil, sample().Commands, 1))
	f.Add(AppendCommands(nil, nil, format.Commands))
	f.Fuzz(func(t *testing.T, p []byte) {
		commands, err := DecodeCommands(p)
		if err != nil {
			return
		}
		again, err := DecodeCommands(AppendCommands(nil, commands, format.Commands))
		require.NoError(t, err)
		require.Equal(t, commands, again)
	})
}

// framed wraps a body as NewReader does.
func framed(body []byte) []byte {
	out := append([]byte(snapshotMagic), snapshotVersion)
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	for _, part := range [][]byte{body, nil} {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(part)))
		out = binary.LittleEndian.AppendUint32(out, sum)
		out = append(out, part...)
	}
	return out
}

// eventful is a store whose snapshot has records of every kind.
func eventful() *Store {
	s := New()
	s.Apply(sample(), nil)
	s.Apply(&Batch{Time: 7, Wall: wall0, Commands: []Command{
		{Op: OpSet, Key: "/d/e/f", Value: "v"},
		{Op: OpUpdate, Key: "/d", HasTTL: true, TTL: 9},
		{Op: OpSet, Key: "/t", Value: "v", HasTTL: true, TTL: 9},
		{Op: OpSet, Key: "/t", Refresh: true, HasTTL: true, TTL: 9},
		{Op: OpDelete, Key: "/d/e", Recursive: true},
	}}, nil)
	return s
}

// FuzzLoad tries whole snapshots, and bodies in frames whose sums are right.
func FuzzLoad(f *testing.F) {
	whole := snapshot(f, eventful().View())
	f.Add(whole)
	f.Add(snapshot(f, New().View()))
	f.Add(whole[len(snapshotMagic)+1+frameHead : len(whole)-frameHead])
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, p := range [][]byte{p, framed(p)} {
			s, err := Load(bytes.NewReader(p))
			if err != nil {
				continue
			}
			checkInvariants(t, s)
			require.Equal(t, s.View().Hash(), reload(t, s).View().Hash())
			s.Apply(&Batch{Time: s.Time() + 1, Commands: sample().Commands}, nil)
			s.View().Since("/d/e/f", true, s.Index())
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	whole := snapshot(t, eventful().View())
	body := whole[len(snapshotMagic)+1+frameHead : len(whole)-frameHead]
	s, err := Load(bytes.NewReader(framed(body)))
	require.NoError(t, err)
	require.Equal(t, eventful().View().Hash(), s.View().Hash())
	for n := range whole {
		_, err := Load(bytes.NewReader(whole[:n]))
		require.Error(t, err, "cut to %d", n)
		broken := bytes.Clone(whole)
		broken[n] ^= 0x10
		_, err = Load(bytes.NewReader(broken))
		require.Error(t, err, "bit of byte %d", n)
	}
	for n := range body {
		_, err := Load(bytes.NewReader(framed(body[:n])))
		require.Error(t, err, "body cut to %d", n)
	}
	_, err = Load(bytes.NewReader(append(bytes.Clone(whole), 0)))
	require.ErrorContains(t, err, "bytes after the end")
	_, err = Load(bytes.NewReader([]byte("PNG and so on")))
	require.ErrorContains(t, err, "not a snapshot of a store")
	_, err = Load(bytes.NewReader([]byte("KLSN\x07")))
	require.ErrorContains(t, err, "state format 7 is not known here, this program reads 1")
}

// TestFormatsStayTheSame fails when what a log or a snapshot on disk holds would
// not be read any more: then the version has to rise.
func TestFormatsStayTheSame(t *testing.T) {
	first := AppendBatchAs(nil, sample(), 1)
	require.Equal(t, "010a8080d0e2c6bfce972f040148042f612f620568656c6c6f80a8d6b907000000000000004d02040204b0042f612f6200017809050a0603022f61000504012f00", hex.EncodeToString(first))
	b := &Batch{Commands: []Command{{Op: OpSet, Key: "/a", Guarded: true}, {Op: OpSet, Key: "/a", Guarded: true, Guard: 7}, {Op: OpSet, Key: "/a", Fence: Fence{"/b", 5}}}}
	require.Equal(t, "02000003"+"4100022f6100"+"8100022f610007"+"2100022f6100022f6205", hex.EncodeToString(AppendBatchAs(nil, b, 2)))
	s := eventful()
	require.Equal(t, uint64(0x6b48bc8269bddb15), s.Chain())
	require.Equal(t, uint32(0xab07dbe1), crc32.ChecksumIEEE(snapshot(t, s.View())))
}
