package main

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// urls reads URLs joined by commas.
func urls(list string) ([]string, error) {
	var all []string
	for raw := range strings.SplitSeq(list, ",") {
		raw = strings.TrimSpace(raw)
		if _, err := parseURL(raw); err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// listenURLs reads URLs that name an address of this machine.
func listenURLs(list string) ([]string, error) {
	all, err := urls(list)
	if err != nil {
		return nil, err
	}
	for _, raw := range all {
		u, _ := parseURL(raw)
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Hostname() != "localhost" {
			return nil, fmt.Errorf("URL %q: want an IP address or localhost to listen on", raw)
		}
	}
	return all, nil
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme == "https":
		return nil, fmt.Errorf("URL %q: TLS is not supported yet", raw)
	case u.Scheme != "http":
		return nil, fmt.Errorf("URL %q: want http://host:port", raw)
	case u.Hostname() == "" || u.Port() == "":
		return nil, fmt.Errorf("URL %q: want http://host:port", raw)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("URL %q: want http://host:port and nothing more", raw)
	}
	return u, nil
}

// isLoopback reports whether only this machine reaches the URL's host.
func isLoopback(raw string) bool {
	u, err := parseURL(raw)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// check looks at what no option can judge alone.
func (o *serveOptions) check() error {
	if o.election < 5*o.heartbeat {
		return fmt.Errorf("--election-timeout=%d: want at least 5 heartbeat intervals of %d", o.election.Milliseconds(), o.heartbeat.Milliseconds())
	}
	if o.listenClient != nil && o.advertiseClient == nil {
		return errors.New("--advertise-client-urls: required where --listen-client-urls is given")
	}
	for flag, list := range map[string][]string{"listen-client-urls": o.listenClient, "listen-peer-urls": o.listenPeer} {
		for _, raw := range list {
			if !o.insecure && !isLoopback(raw) {
				return fmt.Errorf("--%s: %s can be reached from other machines, and without TLS anybody there may read and write: say --insecure if that is meant", flag, raw)
			}
		}
	}
	if o.dataDir == "" {
		o.dataDir = o.name + ".etcd"
	}
	if o.advertiseClient == nil {
		o.advertiseClient = strings.Split(defaultClientURLs, ",")
	}
	if o.advertisePeer == nil {
		o.advertisePeer = strings.Split(defaultPeerURLs, ",")
	}
	return nil
}

// Identity says who a member is. It is decided at the first start and kept.
type Identity struct {
	ID      env.NodeID       `json:"id"`
	Cluster uint64           `json:"cluster"`
	Members []gateway.Member `json:"members"`
}

const identityFile = "identity"

// judge refuses options from which no identity can be made, before anything is
// written.
func (o *serveOptions) judge() error {
	if _, err := os.Stat(filepath.Join(o.dataDir, identityFile)); err == nil {
		return nil
	}
	_, err := o.found()
	return err
}

// identity reads who this member is, or decides it. Fresh says that it is not
// written down yet: that is done once the log has begun, so that an identity
// proves that there was a log.
func (o *serveOptions) identity() (id *Identity, fresh bool, err error) {
	path := filepath.Join(o.dataDir, identityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id, err := o.found()
		return id, true, err
	}
	if err != nil {
		return nil, false, err
	}
	id = &Identity{}
	if err := json.Unmarshal(text, id); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	if id.ID == 0 || len(id.Members) == 0 {
		return nil, false, fmt.Errorf("%s: names no member", path)
	}
	return id, false, nil
}

// errLogLost is the refusal of a member whose log is gone: with an empty one it
// could vote against what it has acknowledged.
func (o *serveOptions) errLogLost(id *Identity) error {
	return fmt.Errorf("%s: says that this is member %v, which has taken part in its cluster, but %s holds no log: put the log back, or give the machine a new --data-dir and a new name in the cluster",
		filepath.Join(o.dataDir, identityFile), id.ID, filepath.Join(o.dataDir, "member"))
}

func writeDurably(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// found makes the identity of a member of a new cluster: a function of the list
// and the token, so that every member comes to the same.
func (o *serveOptions) found() (*Identity, error) {
	list := o.initialCluster
	if list == "" {
		list = o.name + "=" + strings.Join(o.advertisePeer, ","+o.name+"=")
	}
	members, err := parseCluster(list, o.initialClusterToken)
	if err != nil {
		return nil, fmt.Errorf("--initial-cluster=%s: %w", list, err)
	}
	i := slices.IndexFunc(members, func(m gateway.Member) bool { return m.Name == o.name })
	if i < 0 {
		return nil, fmt.Errorf("--initial-cluster=%s: does not name this member, %q", list, o.name)
	}
	mine := slices.Sorted(slices.Values(o.advertisePeer))
	if !sameURLs(mine, members[i].PeerURLs) {
		return nil, fmt.Errorf("--initial-cluster=%s: has %s at %s, but --initial-advertise-peer-urls is %s", list, o.name, strings.Join(members[i].PeerURLs, ","), strings.Join(mine, ","))
	}
	return &Identity{ID: members[i].ID, Cluster: clusterID(members), Members: members}, nil
}

// parseCluster reads name=url,name=url,… and gives the members sorted by ID.
func parseCluster(list, token string) ([]gateway.Member, error) {
	byName := make(map[string][]string)
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(list, ",") {
		name, raw, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q: want NAME=URL", pair)
		}
		u, err := parseURL(raw)
		if err != nil {
			return nil, err
		}
		if seen[u.Host] {
			return nil, fmt.Errorf("%s stands there twice", raw)
		}
		seen[u.Host] = true
		byName[name] = append(byName[name], raw)
	}
	var members []gateway.Member
	for name, peerURLs := range byName {
		slices.Sort(peerURLs)
		members = append(members, gateway.Member{ID: memberID(peerURLs, token), Name: name, PeerURLs: peerURLs})
	}
	slices.SortFunc(members, func(a, b gateway.Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, nil
}

// memberID and clusterID are those of the original, so that a list and a token
// mean the same members to both.
func memberID(sortedURLs []string, token string) env.NodeID {
	sum := sha1.Sum([]byte(strings.Join(sortedURLs, "") + token))
	return env.NodeID(binary.BigEndian.Uint64(sum[:]))
}

func clusterID(sorted []gateway.Member) uint64 {
	var ids []byte
	for _, m := range sorted {
		ids = binary.BigEndian.AppendUint64(ids, uint64(m.ID))
	}
	sum := sha1.Sum(ids)
	return binary.BigEndian.Uint64(sum[:])
}

// sameURLs compares sorted lists by host and port, localhost being what it means.
func sameURLs(a, b []string) bool {
	return slices.Equal(hosts(a), hosts(b))
}

func hosts(urls []string) (all []string) {
	for _, raw := range urls {
		u, err := parseURL(raw)
		if err != nil {
			continue
		}
		host := u.Hostname()
		if host == "localhost" {
			host = "127.0.0.1"
		}
		all = append(all, net.JoinHostPort(host, u.Port()))
	}
	slices.Sort(all)
	return all
}
