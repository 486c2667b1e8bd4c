package process

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func TestBoot(t *testing.T) {
	dir := t.TempDir()
	boot := func() string {
		t.Helper()
		id, err := Boot(dir)
		require.NoError(t, err)
		return id
	}
	first := boot()
	assert.NotEmpty(t, first)
	assert.Equal(t, first, boot(), "a daemon comes and goes")
	require.NoError(t, Shutdown(dir))
	second := boot()
	assert.NotEqual(t, first, second, "units were stopped, or would have been")
	require.NoError(t, PowerOff(dir))
	assert.NotEqual(t, second, boot())
}

func TestBootOfAHost(t *testing.T) {
	m := newMachine(t)
	boot := func() string {
		t.Helper()
		id, err := Boot(m.dir)
		require.NoError(t, err)
		return id
	}
	m.write("a.service", "[Service]\nExecStart=/bin/sleep 1000\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	first := boot()
	require.NoError(t, Shutdown(m.dir))
	assert.NotEqual(t, first, boot(), "a host that ends its units ends the boot")
}
