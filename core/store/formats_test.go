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
			})
		}
		for number := 1; number <= NextBatch; number++ {
			p := AppendBatchAs(nil, b, number)
			require.Equal(t, number, BatchFormat(p))
			got, err := DecodeBatchUpTo(p, NextBatch)
			require.NoError(t, err)
			require.Equal(t, b, got)
			_, err = DecodeBatchUpTo(p, format.Batch)
			if number > format.Batch {
				require.EqualError(t, err, "batch format 2 is not known here, this program reads 1: use the version of the program that wrote it, or a later one")
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
