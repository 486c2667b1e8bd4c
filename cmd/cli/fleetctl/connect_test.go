package fleetctl

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEndpoints(t *testing.T) {
	for text, want := range map[string][2]string{
		"unix:///var/run/fleet.sock":    {"unix:///var/run/fleet.sock", ""},
		"file:///var/run/fleet.sock":    {"unix:///var/run/fleet.sock", ""},
		"http://10.0.0.1:2379/":         {"http://10.0.0.1:2379", ""},
		"https://me:s%3At@core-01:2379": {"https://core-01:2379", "me:s:t"},
	} {
		address, user, err := endpoint(text)
		require.NoError(t, err)
		assert.Equal(t, want, [2]string{address, user})
	}
	for text, want := range map[string]string{
		"":                          "URL scheme undefined",
		"unix://var/run/fleet.sock": `unable to connect to host "var" with scheme "unix"`,
		"ftp://x":                   `URL scheme "ftp": want unix, file, http or https`,
	} {
		_, _, err := endpoint(text)
		assert.EqualError(t, err, want)
	}
}
