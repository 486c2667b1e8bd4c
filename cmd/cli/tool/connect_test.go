package tool

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

// The certificates of this machine are used as those of a member are: where TLS is
// spoken and nothing else was said.
func TestCertificatesOfThisMachine(t *testing.T) {
	own := func(dir string) Connection {
		return Connection{CertFile: dir + "/client.crt", KeyFile: dir + "/client.key", CAFile: dir + "/ca.crt"}
	}
	for _, c := range []struct {
		args []string
		env  map[string]string
		read error
		want Connection
		err  string
	}{
		{args: []string{"--endpoints=https://a:1"}, want: own("/etc/keelson/tls")},
		{args: []string{"--endpoints=http://a:1,https://b:1"}, want: own("/etc/keelson/tls")},
		{args: []string{"--endpoints=https://a:1"}, env: map[string]string{"KEELSON_TLS_DIR": "/x"}, want: own("/x")},
		{env: map[string]string{"ETCDCTL_ENDPOINTS": "https://a:1"}, want: own("/etc/keelson/tls")},
		{args: []string{"--endpoints=http://a:1"}},
		{},
		{args: []string{"--endpoints=https://a:1", "--ca-file=/ca"}, want: Connection{CAFile: "/ca"}},
		{args: []string{"--endpoints=https://a:1"}, env: map[string]string{"ETCDCTL_CERT_FILE": "/c"}, want: Connection{CertFile: "/c"}},
		{args: []string{"--endpoints=https://a:1"}, read: fs.ErrNotExist},
		{args: []string{"--endpoints=https://a:1"}, read: fs.ErrPermission, err: "this machine's certificate: open /etc/keelson/tls/client.crt: permission denied: ask as somebody who may read it, or name others with --ca-file, --cert-file and --key-file"},
	} {
		tl, _, _ := bufferTool()
		tl.Getenv = func(name string) string { return c.env[name] }
		tl.ReadFile = func(name string) ([]byte, error) {
			if c.read != nil {
				return nil, &fs.PathError{Op: "open", Path: name, Err: c.read}
			}
			return nil, nil
		}
		var got Connection
		tl.Connect = func(how Connection) (client.Doer, error) { got = how; return nil, assert.AnError }
		cmd := &cli.Command{Name: "x", Flags: ConnectionFlags(), Action: func(ctx context.Context, c *cli.Command) error {
			_, _, err := Dial(ctx, c)
			return err
		}}
		err := cmd.Run(With(context.Background(), tl), append([]string{"x"}, c.args...))
		if c.err != "" {
			require.EqualError(t, err, c.err)
			continue
		}
		require.ErrorIs(t, err, assert.AnError, c.args)
		got.DialTimeout = 0
		assert.Equal(t, c.want, got, "%v %v", c.args, c.env)
	}
}
