package bootstrap

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// static makes the identity of a member of a new cluster: a function of the list
// and the token, so that every member comes to the same.
func (c *Config) static() (*Identity, error) {
	list := c.InitialCluster
	if list == "" {
		list = c.Name + "=" + strings.Join(c.PeerURLs, ","+c.Name+"=")
	}
	members, err := parseCluster(list, c.Token)
	if err != nil {
		return nil, fmt.Errorf("initial-cluster=%s: %w", list, err)
	}
	i := slices.IndexFunc(members, func(m gateway.Member) bool { return m.Name == c.Name })
	if i < 0 {
		return nil, fmt.Errorf("couldn't find local name %q in the initial cluster configuration", c.Name)
	}
	mine := slices.Sorted(slices.Values(c.PeerURLs))
	if !slices.Equal(hosts(mine), hosts(members[i].PeerURLs)) {
		return nil, fmt.Errorf("--initial-cluster must include %s given --initial-advertise-peer-urls=%s",
			c.Name+"="+strings.Join(mine, ","+c.Name+"="), strings.Join(mine, ","))
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
			return nil, fmt.Errorf("initial cluster %s has duplicate url", list)
		}
		seen[u.Host] = true
		byName[name] = append(byName[name], raw)
	}
	var members []gateway.Member
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		peerURLs := byName[name]
		slices.Sort(peerURLs)
		members = append(members, gateway.Member{ID: MemberID(peerURLs, token), Name: name, PeerURLs: peerURLs})
	}
	slices.SortStableFunc(members, func(a, b gateway.Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, nil
}

// parseURL reads the URL of a peer.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "" || u.Port() == "":
		return nil, fmt.Errorf("URL %q: want http://host:port or https://host:port", raw)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("URL %q: want scheme, host and port and nothing more", raw)
	}
	return u, nil
}

// MemberID gives the ID of a member with these peer URLs, sorted. It is that of the
// original, so that a list and a token mean the same members to both. A member that
// is added at run time has the Unix seconds in place of the token.
func MemberID(sortedURLs []string, token string) env.NodeID {
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

// hosts gives the host and port of each URL, sorted, localhost being what it means.
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
		all = append(all, u.Scheme+"://"+host+":"+u.Port())
	}
	slices.Sort(all)
	return all
}
