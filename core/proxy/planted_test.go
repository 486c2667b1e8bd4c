//go:build planted

package proxy

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

// Each planted bug must change behaviour, or the mutation run proves nothing.
func TestPlantedBugBites(t *testing.T) {
	defer func() { planted.Active = planted.None }()
	planted.Active = planted.ProxyResendsWrite
	w := newWorld()
	p := w.open(t, Config{})
	w.everywhere(func(_ *env.WebRequest, r env.WebReceiver) { r.End(errors.New("connection reset")) })
	w.ask(p, "POST", "/v2/keys/a")
	assert.Len(t, w.asked, 3)
}
