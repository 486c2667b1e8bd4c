package authority

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"time"

	"github.com/keelson/keelson/core/env"
)

// JoinPath is where a member that has the authority's key gives out certificates.
const JoinPath = "/v2/join"

// joinRequest is what a machine that joins sends: a certificate request in PEM form
// for each role.
type joinRequest struct {
	Token    string          `json:"token"`
	Name     string          `json:"name"`
	Hosts    []string        `json:"hosts,omitempty"`
	Requests map[Role]string `json:"requests"`
}

// joinReply is the answer: certificates in PEM form, each followed by the
// authority's, and that alone.
type joinReply struct {
	Authority    string          `json:"authority,omitempty"`
	Certificates map[Role]string `json:"certificates,omitempty"`
	Message      string          `json:"message,omitempty"` // why there are none
}

// Desk answers machines that want to join. It implements http.Handler.
type Desk struct {
	Dir string // of the authority; looked at for each request
	Log env.Log
	Now func() time.Time // time.Now if nil
}

const joinMax = 64 << 10 // bytes of a request

// refusal is an answer other than certificates.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func refuse(status int, err error) error { return &refusal{status, err} }

// ServeHTTP implements http.Handler.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var reply *joinReply
	req, from, err := readJoin(w, r)
	if err == nil {
		reply, err = d.serve(req, from)
	}
	status := http.StatusOK
	var no *refusal
	switch {
	case errors.As(err, &no):
		status, reply = no.status, &joinReply{Message: no.Error()}
	case err != nil:
		status, reply = http.StatusInternalServerError, &joinReply{Message: err.Error()}
	}
	if err != nil {
		d.Log.Log(env.Warn, "join refused", "address", r.RemoteAddr, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(reply)
}

func readJoin(w http.ResponseWriter, r *http.Request) (*joinRequest, netip.Addr, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, netip.Addr{}, refuse(http.StatusMethodNotAllowed, errors.New("want POST, as keelson join does"))
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	req := &joinRequest{}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, joinMax)).Decode(req); err != nil {
		return nil, netip.Addr{}, refuse(http.StatusBadRequest, fmt.Errorf("request: %w", err))
	}
	return req, from.Addr(), nil
}

// serve gives certificates for a token.
func (d *Desk) serve(req *joinRequest, from netip.Addr) (*joinReply, error) {
	now := time.Now()
	if d.Now != nil {
		now = d.Now()
	}
	a, err := Open(d.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(http.StatusNotFound, errNoKey)
	}
	if err != nil {
		return nil, err
	}
	token, err := Verify(req.Token, a.Cert, now)
	if err != nil {
		return nil, refuse(http.StatusForbidden, err)
	}
	orders, requests, err := judge(req, token, from)
	if err != nil {
		return nil, err
	}
	if err := spend(d.Dir, token, now); errors.Is(err, errUsed) {
		return nil, refuse(http.StatusForbidden, err)
	} else if err != nil {
		return nil, err
	}
	reply := &joinReply{Authority: string(certPEM(a.Cert.Raw)), Certificates: map[Role]string{}}
	for i, o := range orders {
		cert, err := a.Issue(o, requests[i].PublicKey, now)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, err)
		}
		reply.Certificates[o.Role] = string(cert)
	}
	d.Log.Log(env.Info, "machine joined", "name", req.Name, "address", from, "hosts", orders[0].Hosts)
	return reply, nil
}

// judge looks at everything that a request asks for, so that a token is not spent
// on one that is refused.
func judge(req *joinRequest, token *Token, from netip.Addr) (orders []Order, requests []*x509.CertificateRequest, err error) {
	if err := CheckName(req.Name); err != nil {
		return nil, nil, refuse(http.StatusBadRequest, err)
	}
	hosts, err := token.hostsFor(req.Hosts, from)
	if err != nil {
		return nil, nil, refuse(http.StatusForbidden, err)
	}
	for _, role := range Roles {
		text, ok := req.Requests[role]
		if !ok {
			continue
		}
		csr, err := parseRequest(text)
		if err != nil {
			return nil, nil, refuse(http.StatusBadRequest, fmt.Errorf("%s: %w", role, err))
		}
		orders = append(orders, Order{Name: req.Name, Hosts: hosts, Role: role})
		requests = append(requests, csr)
	}
	if len(orders) == 0 || len(orders) != len(req.Requests) {
		return nil, nil, refuse(http.StatusBadRequest, errors.New("requests: want one for server, peer or client, or for each"))
	}
	return orders, requests, nil
}

// parseRequest reads a certificate request and makes sure that who made it has the
// key. Only the key is taken from it: names are those that the token allows.
func parseRequest(text string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("want a certificate request in PEM form")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return csr, csr.CheckSignature()
}
