package bootstrap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/gateway"
)

// joinExisting goes on as a member of a cluster that runs: what members it has is
// asked of it, and the list that this node was given must say the same.
func (b *Bootstrap) joinExisting(told []gateway.Member) {
	var urls []string
	for _, m := range told {
		if m.Name != b.cfg.Name {
			urls = append(urls, m.PeerURLs...)
		}
	}
	b.waits("asking the cluster for its members")
	b.askList(urls, func(real *listing, err error) {
		if err != nil {
			b.fail(fmt.Errorf("cannot fetch cluster info from peer urls: %w (%s): start a running member first, or check --initial-cluster", err, strings.Join(urls, ",")))
			return
		}
		if m := real.meant(b.cfg.PeerURLs, 0); m != nil && real.twice(m.PeerURLs) {
			b.admit(real.identity(m.ID)) // a replacement: the old member is still there
			return
		}
		var all []string
		for _, m := range slices.Concat(told, real.memberList()) {
			all = append(all, m.PeerURLs...)
		}
		b.resolveUnless(agree(told, real.memberList(), nil) == "", all, func(resolved map[string]string) {
			b.agreed(told, real, resolved)
		})
	})
}

// resolveUnless asks for the addresses of all hosts, unless that is needless.
func (b *Bootstrap) resolveUnless(needless bool, urls []string, then func(map[string]string)) {
	if needless {
		then(nil)
		return
	}
	b.resolve(hostNames(urls), then)
}

func (b *Bootstrap) agreed(told []gateway.Member, real *listing, resolved map[string]string) {
	if complaint := agree(told, real.memberList(), resolved); complaint != "" {
		b.fail(fmt.Errorf("error validating peerURLs %s: %s: --initial-cluster must list the members that the cluster has now, this one among them (keelson member list, keelson member add)", real, complaint))
		return
	}
	for _, m := range real.members {
		if sameResolved(m.PeerURLs, b.cfg.PeerURLs, resolved) {
			b.admit(real.identity(m.ID))
			return
		}
	}
	b.fail(fmt.Errorf("error validating peerURLs %s: unmatched member while checking PeerURLs", real))
}

// agree compares two lists by the URLs of their members. Names may differ.
func agree(told, real []gateway.Member, resolved map[string]string) (complaint string) {
	if len(told) != len(real) {
		return "member count is unequal"
	}
	x, y := sets(told, resolved), sets(real, resolved)
	for i := range x {
		if !slices.Equal(x[i], y[i]) {
			return "unmatched member while checking PeerURLs"
		}
	}
	return ""
}

func sets(members []gateway.Member, resolved map[string]string) (all [][]string) {
	for _, m := range members {
		all = append(all, resolvedSet(m.PeerURLs, resolved))
	}
	slices.SortStableFunc(all, slices.Compare[[]string])
	return all
}

// twice tells whether two members stand at the same URLs, as during a replacement.
func (l *listing) twice(urls []string) bool {
	n := 0
	for _, m := range l.members {
		if sameURLs(m.PeerURLs, urls) {
			n++
		}
	}
	return n > 1
}

// String writes the list as initial-cluster has it.
func (l *listing) String() string {
	var all []string
	for _, m := range l.memberList() {
		all = append(all, namedList(cmp.Or(m.Name, m.ID.String()), m.PeerURLs))
	}
	return strings.Join(all, ",")
}
