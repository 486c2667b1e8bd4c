//go:build planted

package client

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/planted"
)

// Each planted bug must change behaviour, or the mutation run proves nothing.
func TestPlantedBugsBite(t *testing.T) {
	defer func() { planted.Active = planted.None }()
	lost := &fake{answer: func(*Request) (*Response, error) { return nil, ErrTimeout }}
	planted.Active = planted.RetryUnsafe
	_, err := New(lost, Options{Endpoints: eps(3), Rounds: 1}).Keys().CreateInOrder(t.Context(), "/q", "v", SetOptions{})
	assert.Error(t, err)
	assert.False(t, errors.Is(err, ErrUnknown))
	assert.Len(t, lost.sent, 3)

	down := &fake{answer: func(*Request) (*Response, error) { return nil, errRefused }}
	planted.Active = planted.RetryWithoutBackoff
	_, err = New(down, Options{Endpoints: eps(1), Total: time.Minute}).Keys().Get(t.Context(), "/a", GetOptions{})
	assert.Error(t, err)
	assert.Greater(t, len(down.sent), 1000)
}
