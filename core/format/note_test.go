package format

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type example struct {
	Format int      `json:"format"`
	Names  []string `json:"names,omitempty"`
}

// Any change of a sealed note is found, or changes nothing that is said.
func TestSealedNotes(t *testing.T) {
	want := example{2, []string{"a", `,"sum": "`}}
	p, err := Seal(want)
	require.NoError(t, err)
	assert.True(t, json.Valid(p))
	assert.Regexp(t, `,\n\t"sum": "[0-9a-f]{8}"\n}\n$`, string(p))
	var got example
	require.NoError(t, Open(append(bytes.Clone(p), 0, 0), &got), "zeros at the end are room that was not cut")
	assert.Equal(t, want, got)
	for i := range p {
		for bit := range 8 {
			bad := bytes.Clone(p)
			bad[i] ^= 1 << bit
			var got example
			if Open(bad, &got) == nil && (Sealed(bad) || got.Format < 2) {
				require.Equal(t, want, got, "byte %d: %s", i, bad)
			}
		}
	}
	for cut := range len(p) - 1 {
		require.Error(t, Open(p[:cut], &got), "%s", p[:cut])
	}
}

func TestNotesOfBefore(t *testing.T) {
	var got example
	require.NoError(t, Open([]byte(`{"format":1,"names":["a"]}`), &got))
	assert.Equal(t, example{1, []string{"a"}}, got)
	assert.False(t, Sealed([]byte(`{"format":1}`)))
	_, err := Seal(struct{}{})
	assert.Error(t, err)
}

func FuzzOpen(f *testing.F) {
	p, _ := Seal(example{1, []string{"b"}})
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		var got example
		if Open(p, &got) != nil {
			return
		}
		again, err := Seal(got)
		require.NoError(t, err)
		var same example
		require.NoError(t, Open(again, &same))
	})
}
