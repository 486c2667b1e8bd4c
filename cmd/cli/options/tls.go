package options

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
)

// DefaultTLSDir is where keelson ca and keelson join put what they make.
const DefaultTLSDir = tool.DefaultTLSDir

// TLS names the files of one side, clients' or peers'.
type TLS struct {
	CertFile, KeyFile string
	TrustedCAFile     string
	ClientCertAuth    bool
}

// Enabled says whether there is a certificate to be shown.
func (t *TLS) Enabled() bool { return t.CertFile != "" }

// tlsOptions are those of both sides, and the directory that stands for them.
var tlsOptions = append(append([]option{{
	name: "tls-dir", ours: true, def: DefaultTLSDir, kind: "DIR",
	doc: "Where keelson ca init and keelson join have put this machine's certificates. What is there is used where no flag names other files: certificates are then asked of clients and members alike.",
	set: func(r *reading, v string) error { r.TLSDir = v; return nonEmpty(v) },
}}, sideOptions("", "clients", func(r *reading) *tlsReading { return &r.clientTLS })...),
	sideOptions("peer-", "other members", func(r *reading) *tlsReading { return &r.peerTLS })...)

// tlsReading is what the flags of one side say.
type tlsReading struct {
	TLS
	oldCAFile string
}

func sideOptions(prefix, who string, of func(*reading) *tlsReading) []option {
	file := func(name, doc string, into func(*tlsReading) *string) option {
		return option{name: prefix + name, kind: "FILE", doc: doc, set: func(r *reading, v string) error {
			*into(of(r)) = v
			return nonEmpty(v)
		}}
	}
	return []option{
		file("cert-file", "The certificate that "+who+" are shown at https:// URLs, in PEM form. It is read again when it changes.", func(t *tlsReading) *string { return &t.CertFile }),
		file("key-file", "Its key.", func(t *tlsReading) *string { return &t.KeyFile }),
		{
			name: prefix + "client-cert-auth", def: "false", doc: "Refuse " + who + " that show no certificate of " + prefix + "trusted-ca-file.",
			set: func(r *reading, v string) (err error) { of(r).ClientCertAuth, err = boolean(v); return err },
		},
		file("trusted-ca-file", "The authorities whose certificates count for "+who+". It is read again when it changes.", func(t *tlsReading) *string { return &t.TrustedCAFile }),
		file("ca-file", "The old way to say "+prefix+"trusted-ca-file and "+prefix+"client-cert-auth.", func(t *tlsReading) *string { return &t.oldCAFile }),
	}
}

// readTLS judges the flags of both sides.
func (r *reading) readTLS() (err error) {
	if r.ClientTLS, err = r.clientTLS.judge(""); err != nil {
		return err
	}
	r.PeerTLS, err = r.peerTLS.judge("peer-")
	return err
}

func (t *tlsReading) judge(prefix string) (TLS, error) {
	if t.oldCAFile != "" {
		if t.TrustedCAFile != "" {
			return TLS{}, fmt.Errorf("--%sca-file=%s: it stands for --%[1]strusted-ca-file, which is given too: leave one of them out", prefix, t.oldCAFile)
		}
		t.TrustedCAFile, t.ClientCertAuth = t.oldCAFile, true
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return TLS{}, fmt.Errorf("--%skey-file: required where --%[1]scert-file is given", prefix)
	case t.CertFile == "" && t.KeyFile != "":
		return TLS{}, fmt.Errorf("--%scert-file: required where --%[1]skey-file is given", prefix)
	case t.ClientCertAuth && t.TrustedCAFile == "":
		return TLS{}, fmt.Errorf("--%strusted-ca-file: required where --%[1]sclient-cert-auth is given, to know whose certificates count", prefix)
	}
	return t.TLS, nil
}

// useTLSDir fills in a side of which no flag speaks from the directory. Its error says why
// it could not, which matters only if certificates are needed.
func (r *reading) useTLSDir(t *TLS, role string) error {
	if *t != (TLS{}) {
		return nil
	}
	if r.source.ReadFile == nil {
		return errors.New("no file can be read here")
	}
	cert := path.Join(r.TLSDir, role+".crt")
	if _, err := r.source.ReadFile(cert); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s", cert)
	} else if err != nil {
		return err
	}
	*t = TLS{CertFile: cert, KeyFile: path.Join(r.TLSDir, role+".key"), TrustedCAFile: path.Join(r.TLSDir, "ca.crt"), ClientCertAuth: true}
	return nil
}

// secureBoth refuses https where there is no certificate, and to serve others in the
// clear unless that was said to be meant.
func (r *reading) secureBoth() error {
	for _, side := range []struct {
		flag, prefix, role string
		list               []string
		tls                *TLS
	}{
		{"listen-client-urls", "", "server", r.ListenClient, &r.ClientTLS},
		{"listen-peer-urls", "peer-", "peer", r.ListenPeer, &r.PeerTLS},
	} {
		byFlag := *side.tls != (TLS{})
		why := r.useTLSDir(side.tls, side.role)
		for _, raw := range side.list {
			if strings.HasPrefix(raw, "https:") && !side.tls.Enabled() {
				reason := ""
				if why != nil {
					reason = " (" + why.Error() + ")"
				}
				return fmt.Errorf("--%s: %s: TLS needs --%[3]scert-file and --%[3]skey-file, or what keelson ca init or keelson join puts into --tls-dir=%s%s", side.flag, raw, side.prefix, r.TLSDir, reason)
			}
			if strings.HasPrefix(raw, "http:") && byFlag {
				r.remark("--%s: %s is http, so the certificates of --%scert-file and --%[3]strusted-ca-file mean nothing there", side.flag, raw, side.prefix)
			}
			if err := r.secure(side.flag, raw, side.prefix, side.tls); err != nil {
				return err
			}
		}
	}
	return nil
}

// secure refuses to serve other machines at a URL where anybody may come in.
func (r *reading) secure(flag, raw, prefix string, t *TLS) error {
	https := strings.HasPrefix(raw, "https:")
	mutual := https && t.ClientCertAuth
	open := "without TLS anybody there may read and write"
	switch {
	case r.Insecure, isLoopback(raw), mutual, https && prefix == "":
		return nil
	case https:
		open = "without --" + prefix + "client-cert-auth anybody there may pass for a member"
	}
	if r.source.Lenient {
		r.remark("DANGER: %s can be reached from other machines, and %s: set up TLS, or say --insecure if that is meant", raw, open)
		return nil
	}
	return fmt.Errorf("--%s: %s can be reached from other machines, and %s: say --insecure if that is meant", flag, raw, open)
}
