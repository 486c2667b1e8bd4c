package options

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	httpsClient = "--listen-client-urls=https://10.0.0.1:2379 --advertise-client-urls=https://10.0.0.1:2379 "
	httpsPeer   = "--listen-peer-urls=https://10.0.0.1:2380 "
)

// parseWith parses where the files are those named.
func parseWith(line string, files ...string) (*Serve, error) {
	return Parse(Source{Args: strings.Fields(line), ReadFile: func(name string) ([]byte, error) {
		for _, f := range files {
			if f == name {
				return []byte("x"), nil
			}
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}})
}

func TestNoTLSFlagOfTheOriginalIsMissing(t *testing.T) {
	for _, prefix := range []string{"", "peer-"} {
		for _, name := range []string{"cert-file", "key-file", "client-cert-auth", "trusted-ca-file", "ca-file"} {
			assert.Contains(t, Help("serve"), "  --"+prefix+name)
		}
	}
}

func TestTLSByFlags(t *testing.T) {
	s, err := parseWith(httpsClient + "--cert-file=c --key-file=k")
	require.NoError(t, err)
	assert.Equal(t, TLS{CertFile: "c", KeyFile: "k"}, s.ClientTLS)
	assert.Zero(t, s.PeerTLS)

	s, err = parseWith(httpsPeer + "--peer-cert-file=c --peer-key-file=k --peer-trusted-ca-file=a --peer-client-cert-auth")
	require.NoError(t, err)
	assert.Equal(t, TLS{CertFile: "c", KeyFile: "k", TrustedCAFile: "a", ClientCertAuth: true}, s.PeerTLS)

	s, err = parseWith(httpsPeer + "--peer-cert-file=c --peer-key-file=k --peer-ca-file=a")
	require.NoError(t, err)
	assert.Equal(t, TLS{CertFile: "c", KeyFile: "k", TrustedCAFile: "a", ClientCertAuth: true}, s.PeerTLS, "the old flag says both")
}

// What keelson join has put into the directory is found; flags win over it.
func TestTLSByDirectory(t *testing.T) {
	files := []string{"/etc/keelson/tls/server.crt", "/etc/keelson/tls/peer.crt", "/x/server.crt"}
	s, err := parseWith(httpsClient+httpsPeer, files...)
	require.NoError(t, err)
	assert.Equal(t, TLS{"/etc/keelson/tls/server.crt", "/etc/keelson/tls/server.key", "/etc/keelson/tls/ca.crt", true}, s.ClientTLS)
	assert.Equal(t, TLS{"/etc/keelson/tls/peer.crt", "/etc/keelson/tls/peer.key", "/etc/keelson/tls/ca.crt", true}, s.PeerTLS)
	assert.Empty(t, s.Remarks)

	s, err = parseWith("--tls-dir=/x --peer-cert-file=c --peer-key-file=k", files...)
	require.NoError(t, err)
	assert.Equal(t, "/x/server.crt", s.ClientTLS.CertFile)
	assert.Equal(t, TLS{CertFile: "c", KeyFile: "k"}, s.PeerTLS)
	assert.Equal(t, "/x", s.TLSDir)

	s, err = parseWith("-addr=127.0.0.1:4001", files...)
	require.NoError(t, err)
	assert.Equal(t, []string{"http://127.0.0.1:4001"}, s.Daemon.Node.ClientURLs, "a directory does not change what old addresses mean")
}

func TestTLSRefusals(t *testing.T) {
	for _, c := range []struct{ line, text string }{
		{httpsClient, "--listen-client-urls: https://10.0.0.1:2379: TLS needs --cert-file and --key-file, or what keelson ca init or keelson join puts into --tls-dir=/etc/keelson/tls (there is no /etc/keelson/tls/server.crt)"},
		{httpsPeer, "TLS needs --peer-cert-file and --peer-key-file"},
		{"--cert-file=c", "--key-file: required where --cert-file is given"},
		{"--peer-key-file=k", "--peer-cert-file: required where --peer-key-file is given"},
		{"--client-cert-auth", "--trusted-ca-file: required where --client-cert-auth is given"},
		{"--ca-file=a --trusted-ca-file=b", "--ca-file=a: it stands for --trusted-ca-file"},
		{"--cert-file=", "--cert-file=: must not be empty"},
		{httpsPeer + "--peer-cert-file=c --peer-key-file=k", "without --peer-client-cert-auth anybody there may pass for a member"},
		{"--listen-peer-urls=http://10.0.0.1:2380 --peer-cert-file=c --peer-key-file=k --peer-ca-file=a", "without TLS anybody there may read and write"},
	} {
		_, err := parseWith(c.line)
		assert.ErrorContains(t, err, c.text, c.line)
	}
	_, err := parseWith(httpsPeer + "--peer-cert-file=c --peer-key-file=k --insecure")
	assert.NoError(t, err)
}

func TestCertificatesForPlainURLsAreRemarkedOn(t *testing.T) {
	s, err := parseWith("--listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --cert-file=c --key-file=k")
	require.NoError(t, err)
	assert.Equal(t, []string{"--listen-client-urls: http://127.0.0.1:2379 is http, so the certificates of --cert-file and --trusted-ca-file mean nothing there"}, s.Remarks)
}
