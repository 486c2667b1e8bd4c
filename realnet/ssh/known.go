package ssh

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Known is the file of known host keys, and who is asked about others.
type Known struct {
	File   string
	Strict bool // refuse a key that is another than the known one
	In     io.Reader
	Err    io.Writer
}

// errNotTrusted ends a connection to a machine that nobody vouches for.
var errNotTrusted = errors.New("Host key verification failed.") //nolint:staticcheck // the original's words

// check judges the key of a machine.
func (k *Known) check(host string, remote net.Addr, key ssh.PublicKey) error {
	known, err := k.load()
	if err != nil {
		return err
	}
	err = known(host, remote, key)
	var other *knownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &other):
		return err
	case len(other.Want) == 0:
		return k.unknown(host, key)
	}
	return k.changed(host, key)
}

// load reads the file; one that is not there knows nobody.
func (k *Known) load() (ssh.HostKeyCallback, error) {
	_, err := os.Stat(k.File)
	if errors.Is(err, fs.ErrNotExist) {
		return knownhosts.New()
	}
	if err != nil {
		return nil, err
	}
	known, err := knownhosts.New(k.File)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	return known, nil
}

// unknown asks about a machine that is seen for the first time.
func (k *Known) unknown(host string, key ssh.PublicKey) error {
	name := knownhosts.Normalize(host)
	if k.Strict {
		fmt.Fprintf(k.Err, "The authenticity of host '%s' can't be established.\n%s key fingerprint is %s.\nAre you sure you want to continue connecting (yes/no)? ",
			name, kindOf(key), ssh.FingerprintLegacyMD5(key))
		if answer := strings.TrimSpace(k.line()); answer != "yes" && answer != "y" {
			return errNotTrusted
		}
	}
	if err := k.add(name, key); err != nil {
		return fmt.Errorf("known hosts: %w", err)
	}
	fmt.Fprintf(k.Err, "Warning: Permanently added '%s' (%s) to the list of known hosts.\n", name, kindOf(key))
	return nil
}

// line reads what a person answers, and not a byte more: the rest is the command's.
func (k *Known) line() string {
	if k.In == nil {
		return ""
	}
	var text []byte
	for b := make([]byte, 1); ; {
		n, err := k.In.Read(b)
		if n > 0 && b[0] == '\n' || err != nil {
			return string(text)
		}
		text = append(text, b[:n]...)
	}
}

func (k *Known) add(name string, key ssh.PublicKey) error {
	if err := os.MkdirAll(filepath.Dir(k.File), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(k.File, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	line := knownhosts.Line([]string{name}, key) + "\n"
	if broken(f) {
		line = "\n" + line
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// broken tells whether the last line of a file has no end.
func broken(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// changed warns of a machine that shows another key than before.
func (k *Known) changed(host string, key ssh.PublicKey) error {
	name := knownhosts.Normalize(host)
	bar := strings.Repeat("@", 59)
	w := bufio.NewWriter(k.Err)
	defer w.Flush()
	fmt.Fprintf(w, "%s\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n%[1]s\n", bar)
	fmt.Fprint(w, "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n")
	fmt.Fprint(w, "Somebody may be listening between you and that machine, or its host key was changed.\n")
	fmt.Fprintf(w, "The fingerprint for the %s key sent by the remote host is\n%s.\n", kindOf(key), ssh.FingerprintLegacyMD5(key))
	fmt.Fprintf(w, "If the change is meant, remove the lines of '%s' from %s and connect again.\n", name, k.File)
	if !k.Strict {
		return nil
	}
	fmt.Fprintf(w, "Host key for %s has changed and you have requested strict checking.\n", name)
	return errNotTrusted
}

// algorithms are those of the keys that a machine is known by, so that it shows one of
// these and not another that nobody knows; nil is any.
func (k *Known) algorithms(address string) (list []string) {
	known, err := k.load()
	if err != nil {
		return nil
	}
	var other *knownhosts.KeyError
	if !errors.As(known(address, noAddress{}, noKey{}), &other) {
		return nil
	}
	for _, w := range other.Want {
		if w.Key.Type() == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		}
		list = append(list, w.Key.Type())
	}
	return list
}

// noAddress and noKey are nobody's, to ask what a machine is known by.
type (
	noAddress struct{}
	noKey     struct{}
)

func (noAddress) Network() string                     { return "tcp" }
func (noAddress) String() string                      { return "0.0.0.0:0" }
func (noKey) Type() string                            { return "none" }
func (noKey) Marshal() []byte                         { return []byte("none") }
func (noKey) Verify(_ []byte, _ *ssh.Signature) error { return errNotTrusted }

// kindOf is how people call a type of key.
func kindOf(key ssh.PublicKey) string {
	switch t := key.Type(); {
	case strings.HasPrefix(t, "ecdsa-"):
		return "ECDSA"
	case t == ssh.KeyAlgoRSA:
		return "RSA"
	case t == ssh.KeyAlgoED25519:
		return "ED25519"
	default:
		return strings.ToUpper(strings.TrimPrefix(t, "ssh-"))
	}
}
