package ssh

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// machine answers SSH: "exit N" ends so, "fleetctl fd-forward" answers what it is told in
// capitals, "agent" tells how many keys the forwarded agent has, and any other command is
// repeated.
type machine struct {
	address string
	key     ssh.Signer
}

func start(t *testing.T, key ssh.Signer, user ssh.PublicKey) *machine {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() == "core" && bytes.Equal(k.Marshal(), user.Marshal()) {
			return nil, nil
		}
		return nil, io.EOF
	}}
	config.AddHostKey(key)
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			go serve(raw, config)
		}
	}()
	return &machine{l.Addr().String(), key}
}

func serve(raw net.Conn, config *ssh.ServerConfig) {
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		if c.ChannelType() == "direct-tcpip" {
			go forward(c)
			continue
		}
		ch, reqs, err := c.Accept()
		if err == nil {
			go session(conn, ch, reqs)
		}
	}
}

func forward(c ssh.NewChannel) {
	var to struct {
		Host  string
		Port  uint32
		From  string
		FromP uint32
	}
	if ssh.Unmarshal(c.ExtraData(), &to) != nil {
		return
	}
	other, err := net.Dial("tcp", net.JoinHostPort(to.Host, itoa(to.Port)))
	if err != nil {
		c.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, reqs, _ := c.Accept()
	go ssh.DiscardRequests(reqs)
	go func() { io.Copy(ch, other); ch.Close() }()
	io.Copy(other, ch)
	other.Close()
}

func itoa(n uint32) string {
	return strings.TrimLeft(string([]byte{'0' + byte(n/10000), '0' + byte(n/1000%10), '0' + byte(n/100%10), '0' + byte(n/10%10), '0' + byte(n%10)}), "0")
}

func session(conn *ssh.ServerConn, ch ssh.Channel, reqs <-chan *ssh.Request) {
	end := func(status uint32) {
		ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, status))
		ch.Close()
	}
	for r := range reqs {
		r.Reply(true, nil)
		if r.Type != "exec" {
			continue
		}
		command := string(r.Payload[4:])
		switch {
		case command == "agent":
			if _, _, err := conn.OpenChannel("auth-agent@openssh.com", nil); err != nil {
				end(9)
				return
			}
			end(0)
		case strings.HasPrefix(command, "fleetctl fd-forward 'none'"):
			io.WriteString(ch.Stderr(), "no such socket\n")
			end(1)
		case strings.HasPrefix(command, "fleetctl fd-forward"):
			b := make([]byte, 100)
			n, _ := ch.Read(b)
			io.WriteString(ch, strings.ToUpper(string(b[:n])))
			end(0)
		case strings.HasPrefix(command, "exit "):
			end(uint32(command[5] - '0'))
		default:
			io.WriteString(ch, command+"\n")
			end(0)
		}
	}
}

// world is a user with an agent, and files of their own.
type world struct {
	o    Options
	user ssh.PublicKey
	err  *bytes.Buffer
}

func newWorld(t *testing.T, answer string) *world {
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ring := agent.NewKeyring()
	require.NoError(t, ring.Add(agent.AddedKey{PrivateKey: private}))
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(ring, c)
		}
	}()
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	w := &world{user: signer.PublicKey(), err: new(bytes.Buffer)}
	w.o = Options{User: "core", Timeout: 10 * time.Second, AgentSocket: socket, Known: Known{
		File: filepath.Join(dir, "home", "known_hosts"), Strict: true, In: strings.NewReader(answer), Err: w.err,
	}}
	return w
}

func ecdsaKey(t *testing.T) ssh.Signer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return s
}

func ed25519Key(t *testing.T) ssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	s, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return s
}

func (w *world) run(o Options, address, command string) (string, int, error) {
	c, err := Dial(context.Background(), o, address)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	var out bytes.Buffer
	status, err := c.Run(context.Background(), command, Streams{Out: &out, Err: io.Discard})
	return out.String(), status, err
}

func TestUnknownHostIsAskedAboutOnce(t *testing.T) {
	w := newWorld(t, "yes\nrest")
	m := start(t, ecdsaKey(t), w.user)
	host, port, _ := net.SplitHostPort(m.address)
	name := "[" + host + "]:" + port
	out, status, err := w.run(w.o, m.address, "hostname")
	require.NoError(t, err)
	assert.Equal(t, "hostname\n", out)
	assert.Equal(t, 0, status)
	assert.Equal(t, "The authenticity of host '"+name+"' can't be established.\nECDSA key fingerprint is "+ssh.FingerprintLegacyMD5(m.key.PublicKey())+
		".\nAre you sure you want to continue connecting (yes/no)? Warning: Permanently added '"+name+"' (ECDSA) to the list of known hosts.\n", w.err.String())
	rest, _ := io.ReadAll(w.o.Known.In)
	assert.Equal(t, "rest", string(rest), "the command's input is left alone")

	w.err.Reset()
	_, status, err = w.run(w.o, m.address, "exit 7")
	require.NoError(t, err)
	assert.Equal(t, 7, status)
	assert.Empty(t, w.err.String(), "now it is known")
	info, err := os.Stat(w.o.Known.File)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestUnknownHostIsRefused(t *testing.T) {
	w := newWorld(t, "no\n")
	m := start(t, ecdsaKey(t), w.user)
	_, _, err := w.run(w.o, m.address, "hostname")
	assert.EqualError(t, err, "Host key verification failed.")
	_, err = os.Stat(w.o.Known.File)
	assert.ErrorIs(t, err, os.ErrNotExist)

	w.o.Known.Strict = false
	w.err.Reset()
	_, _, err = w.run(w.o, m.address, "hostname")
	require.NoError(t, err, "without strict checking nobody is asked")
	assert.True(t, strings.HasPrefix(w.err.String(), "Warning: Permanently added"))
}

func TestChangedKeyIsRefused(t *testing.T) {
	w := newWorld(t, "yes\nyes\n")
	m := start(t, ed25519Key(t), w.user)
	require.NoError(t, (&w.o.Known).add("[127.0.0.1]:"+m.address[strings.LastIndex(m.address, ":")+1:], ed25519Key(t).PublicKey()))
	_, _, err := w.run(w.o, m.address, "hostname")
	assert.EqualError(t, err, "Host key verification failed.")
	assert.Contains(t, w.err.String(), "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n")
	assert.Contains(t, w.err.String(), "ED25519 key sent by the remote host is\n"+ssh.FingerprintLegacyMD5(m.key.PublicKey()))

	w.o.Known.Strict = false
	_, _, err = w.run(w.o, m.address, "hostname")
	assert.NoError(t, err)
}

// A machine that is known by one of its keys shows that one.
func TestKnownKeyIsAskedFor(t *testing.T) {
	w := newWorld(t, "")
	known := ed25519Key(t)
	m := start(t, ecdsaKey(t), w.user)
	require.NoError(t, (&w.o.Known).add("[127.0.0.1]:"+m.address[strings.LastIndex(m.address, ":")+1:], known.PublicKey()))
	assert.Equal(t, []string{ssh.KeyAlgoED25519}, (&w.o.Known).algorithms(m.address))
}

func TestTunnel(t *testing.T) {
	w := newWorld(t, "yes\nyes\n")
	key := ecdsaKey(t)
	gate, inner := start(t, key, w.user), start(t, key, w.user)
	o := w.o
	o.Tunnel = gate.address
	out, _, err := w.run(o, inner.address, "hostname")
	require.NoError(t, err)
	assert.Equal(t, "hostname\n", out)

	c, err := Through(context.Background(), o)
	require.NoError(t, err)
	defer c.Close()
	conn, err := c.DialContext(context.Background(), "unix", "/var/run/fleet.sock")
	require.NoError(t, err)
	io.WriteString(conn, "hello")
	said, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "HELLO", string(said))
	conn.Close()

	conn, err = c.DialContext(context.Background(), "unix", "none")
	require.NoError(t, err)
	_, err = io.ReadAll(conn)
	assert.EqualError(t, err, "fleetctl fd-forward none: no such socket")

	conn, err = c.DialContext(context.Background(), "tcp", inner.address)
	require.NoError(t, err)
	line := make([]byte, 4)
	_, err = io.ReadFull(conn, line)
	require.NoError(t, err)
	assert.Equal(t, "SSH-", string(line))
	conn.Close()
}

func TestAgent(t *testing.T) {
	w := newWorld(t, "yes\n")
	m := start(t, ecdsaKey(t), w.user)
	o := w.o
	o.ForwardAgent = true
	_, status, err := w.run(o, m.address, "agent")
	require.NoError(t, err)
	assert.Equal(t, 0, status)
	_, status, err = w.run(w.o, m.address, "agent")
	require.NoError(t, err)
	assert.Equal(t, 9, status, "only where it was asked for")

	o.AgentSocket = ""
	_, _, err = w.run(o, m.address, "x")
	assert.ErrorContains(t, err, "SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is running.")
	o = w.o
	o.User = "nobody"
	_, _, err = w.run(o, m.address, "x")
	assert.ErrorContains(t, err, "unable to authenticate")
}

func TestTimeout(t *testing.T) {
	w := newWorld(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	defer l.Close()
	w.o.Timeout = 50 * time.Millisecond
	_, _, err = w.run(w.o, l.Addr().String(), "x")
	assert.EqualError(t, err, "timed out while initiating SSH connection to "+l.Addr().String())
}
