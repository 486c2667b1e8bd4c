package bootstrap

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// namedList writes one member as initial-cluster has it.
func namedList(name string, urls []string) string {
	return name + "=" + strings.Join(urls, ","+name+"=")
}

// parseCluster reads name=url,name=url,… and gives the members sorted by ID. The
// IDs are a function of the list and the token, so that every member comes to the
// same.
func parseCluster(list, token string) ([]gateway.Member, error) {
	members, err := readCluster(list)
	if err != nil {
		return nil, err
	}
	if url := duplicate(members); url != "" {
		return nil, fmt.Errorf("initial cluster %s has duplicate url %s: each URL belongs to one member", list, url)
	}
	return identify(members, token), nil
}

// readCluster reads a list as it stands, members in the order of their names. One that
// has none is called by its URL: so etcdctl lists others that have not started.
func readCluster(list string) ([]gateway.Member, error) {
	var members []gateway.Member
	for pair := range strings.SplitSeq(list, ",") {
		name, raw, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok {
			return nil, fmt.Errorf("initial-cluster=%s: %q: want NAME=URL", list, pair)
		}
		if _, err := parseURL(raw); err != nil {
			return nil, fmt.Errorf("initial-cluster=%s: %w", list, err)
		}
		name = cmp.Or(name, raw)
		i, found := slices.BinarySearchFunc(members, name, func(m gateway.Member, n string) int { return strings.Compare(m.Name, n) })
		if !found {
			members = slices.Insert(members, i, gateway.Member{Name: name})
		}
		members[i].PeerURLs = append(members[i].PeerURLs, raw)
	}
	for i := range members {
		slices.Sort(members[i].PeerURLs)
	}
	return members, nil
}

// duplicate gives a URL that stands twice in a list, or "".
func duplicate(members []gateway.Member) string {
	seen := make(map[string]bool)
	for _, m := range members {
		for i, host := range hosts(m.PeerURLs) {
			if seen[host] {
				return m.PeerURLs[i]
			}
			seen[host] = true
		}
	}
	return ""
}

// identify gives members their IDs and sorts them by it.
func identify(members []gateway.Member, token string) []gateway.Member {
	for i := range members {
		members[i].ID = MemberID(members[i].PeerURLs, token)
	}
	slices.SortStableFunc(members, func(a, b gateway.Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
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

// hosts gives scheme, host and port of each URL, localhost being what it means.
func hosts(urls []string) (all []string) {
	for _, raw := range urls {
		all = append(all, hostOf(raw, nil))
	}
	return all
}

// hostOf is a URL with its host name replaced by what resolved has for it.
func hostOf(raw string, resolved map[string]string) string {
	u, err := parseURL(raw)
	if err != nil {
		return raw
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if a, ok := resolved[host]; ok {
		host = a
	}
	return u.Scheme + "://" + host + ":" + u.Port()
}

// sameURLs compares two lists as sets, without asking for names.
func sameURLs(a, b []string) bool { return sameResolved(a, b, nil) }

func sameResolved(a, b []string, resolved map[string]string) bool {
	return slices.Equal(resolvedSet(a, resolved), resolvedSet(b, resolved))
}

func resolvedSet(urls []string, resolved map[string]string) (set []string) {
	for _, raw := range urls {
		set = append(set, hostOf(raw, resolved))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// named tells whether any URL has a host that must be asked for.
func named(urls []string) bool { return len(hostNames(urls)) > 0 }

// hostNames lists the hosts that are neither addresses nor localhost, sorted.
func hostNames(urls []string) (names []string) {
	for _, raw := range urls {
		u, err := parseURL(raw)
		if err != nil || u.Hostname() == "localhost" {
			continue
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			names = append(names, u.Hostname())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
