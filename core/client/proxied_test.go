package client

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A proxy that could reach nobody says so, and then a write may go elsewhere.
func TestWriteGoesOnAfterAnAnswerThatNobodyActedOnIt(t *testing.T) {
	var said []string
	f := &fake{answer: func(r *Request) (*Response, error) {
		if r.Endpoint == eps(2)[0] {
			return reply(503, `{"message":"proxy: zero endpoints currently available"}`, said...)
		}
		return reply(201, okBody)
	}}
	c := New(f, Options{Endpoints: eps(2), Ordered: true, Rounds: 1})
	_, err := c.Keys().CreateInOrder(t.Context(), "/q", "v", SetOptions{})
	require.Error(t, err)
	assert.True(t, errors.Is(err, ErrUnknown), "another server's 503 says nothing about the write")

	said = []string{"X-Keelson-Outcome", "unsent"}
	f.sent = nil
	_, err = c.Keys().CreateInOrder(t.Context(), "/q", "v", SetOptions{})
	require.NoError(t, err)
	assert.Len(t, f.sent, 2)
}
