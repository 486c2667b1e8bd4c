package proxy

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The pages name the limits and answers as the code has them.
func TestPages(t *testing.T) {
	proxies, err := os.ReadFile("../../docs/proxies.md")
	require.NoError(t, err)
	clients, err := os.ReadFile("../../docs/clients.md")
	require.NoError(t, err)
	var c Config
	require.NoError(t, c.fill())
	assert.Contains(t, string(clients), fmt.Sprintf("%v to connect (`--proxy-dial-timeout`), %v for the head of an answer (`--proxy-write-timeout` and %v)",
		c.DialTimeout, c.WriteTimeout+answerMax, answerMax))
	assert.Contains(t, string(proxies), fmt.Sprintf("more than %d MiB", keepMax>>20))
	assert.Contains(t, string(proxies), loopText[:40])
}
