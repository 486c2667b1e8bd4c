package bootstrap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// local finds this node in a list by its name.
func (c *Config) local(members []gateway.Member) (*gateway.Member, error) {
	for i := range members {
		if members[i].Name == c.Name {
			return &members[i], nil
		}
	}
	var has []string
	for _, m := range members {
		has = append(has, m.Name)
	}
	return nil, fmt.Errorf("couldn't find local name %q in the initial cluster configuration: it has %s: give this machine's name there as --name, or list it", c.Name, strings.Join(has, ","))
}

// errNotIncluded is the refusal of a list that has this node at other URLs. It says
// which option may have been forgotten.
func (c *Config) errNotIncluded(listed []string) error {
	mine := slices.Sorted(slices.Values(c.PeerURLs))
	hint := "make both say the same"
	if len(mine) > 0 && strings.Contains(mine[0], "localhost") {
		hint = "was --initial-advertise-peer-urls forgotten? localhost is only for this machine"
	}
	return fmt.Errorf("--initial-cluster must include %s given --initial-advertise-peer-urls=%s: it has %s: %s",
		namedList(c.Name, mine), strings.Join(mine, ","), namedList(c.Name, listed), hint)
}

// matched goes on with then if the list has this node at the URLs that it
// announces, whatever names stand for the addresses.
func (b *Bootstrap) matched(mine *gateway.Member, then func()) {
	b.same(b.cfg.PeerURLs, mine.PeerURLs, func(same bool) {
		if same {
			then()
			return
		}
		b.fail(b.cfg.errNotIncluded(mine.PeerURLs))
	})
}

// same compares lists of URLs, asking for the addresses of names only if the texts
// differ.
func (b *Bootstrap) same(x, y []string, then func(bool)) {
	if sameURLs(x, y) {
		b.later(func() { then(true) })
		return
	}
	b.resolve(hostNames(slices.Concat(x, y)), func(resolved map[string]string) {
		then(sameResolved(x, y, resolved))
	})
}

// resolve asks for the addresses of hosts. A name that cannot be resolved stands
// for itself.
func (b *Bootstrap) resolve(names []string, then func(map[string]string)) {
	resolved := make(map[string]string)
	waiting := len(names)
	if waiting == 0 {
		b.later(func() { then(resolved) })
		return
	}
	for _, name := range names {
		b.env.Names.Addresses(name, func(addrs []netip.Addr, err error) {
			if b.over {
				return
			}
			if err == nil && len(addrs) > 0 {
				resolved[name] = addrs[0].String()
			} else {
				b.env.Log.Log(env.Warn, "cannot resolve a host name", "host", name, "error", err)
			}
			if waiting--; waiting == 0 {
				then(resolved)
			}
		})
	}
}

// found goes on with a list that was found: as a member of a new cluster, or of one
// that runs.
func (b *Bootstrap) found(members []gateway.Member) {
	mine, err := b.cfg.local(members)
	if err != nil {
		b.fail(err)
		return
	}
	b.matched(mine, func() {
		if b.cfg.State == Existing {
			b.joinExisting(members)
			return
		}
		b.admit(&Identity{ID: mine.ID, Cluster: clusterID(members), Members: members})
	})
}
