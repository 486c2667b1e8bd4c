package store

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/format"
)

// A batch is the same in every format, and an older reader refuses a newer one.
func TestBatchFormats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Batch{Time: Time(rapid.Int64Range(0, 1<<60).Draw(t, "time")), Wall: rapid.Int64().Draw(t, "wall")}
		for i := range rapid.IntRange(0, 4).Draw(t, "commands") {
			b.Commands = append(b.Commands, Command{
				Op: OpSet, Key: "/" + rapid.StringMatching(`[a-z]{1,5}`).Draw(t, "key"), Value: rapid.String().Draw(t, "value"),
				ID: ID{Node: 7, Incarnation: 2, Number: uint64(i + 1)}, Settled: 1,
				Guarded: true, Guard: Index(rapid.IntRange(0, 2).Draw(t, "guard")),
			})
		}
		for number := 1; number <= NextBatch; number++ {
			p := AppendBatchAs(nil, b, number)
			require.Equal(t, number, BatchFormat(p))
			got, err := DecodeBatchUpTo(p, NextBatch)
			require.NoError(t, err)
			want := *b
			if number < GuardedFormat {
				want.Commands = unguarded(b.Commands)
			}
			require.Equal(t, &want, got)
			_, err = DecodeBatchUpTo(p, format.Batch)
			if number > format.Batch {
				require.EqualError(t, err, "batch format 3 is not known here, this program reads 1 to 2: use the version of the program that wrote it, or a later one")
			} else {
				require.NoError(t, err)
			}
			if cut := rapid.IntRange(0, len(p)-1).Draw(t, "cut"); number == NextBatch {
				_, err = DecodeBatchUpTo(p[:cut], NextBatch)
				require.Error(t, err)
			}
		}
	})
}

func unguarded(commands []Command) (out []Command) {
	for _, c := range commands {
		c.Guarded, c.Guard, c.Fence = false, 0, Fence{}
		out = append(out, c)
	}
	return out
}

// A guard is unknown to the first format: nobody takes it for another operation.
func TestGuardsInTheFirstFormat(t *testing.T) {
	p := AppendCommands(nil, []Command{{Op: OpSet, Key: "/a", Guarded: true}}, 2)
	commands, err := DecodeCommands(p)
	require.NoError(t, err)
	require.True(t, commands[0].Guarded)
	p[0] = 1
	_, err = DecodeCommands(p)
	require.EqualError(t, err, "decode commands: unknown operation 65")
	p[0] = 3
	_, err = DecodeCommands(p)
	require.EqualError(t, err, "decode commands: commands format 3 is not known here, this program reads 1 to 2: use the version of the program that wrote it, or a later one")
}

func FuzzDecodeBatchUpTo(f *testing.F) {
	f.Add(AppendBatchAs(nil, &Batch{Time: 1, Commands: []Command{{Op: OpSet, Key: "/a", Value: "b"}}}, NextBatch))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBatchUpTo(p, NextBatch)
		if err != nil {
			return
		}
		again, err := DecodeBatchUpTo(AppendBatchAs(nil, b, NextBatch), NextBatch)
		require.NoError(t, err)
		require.Equal(t, b, again)
	})
}
