package bootstrap

import (
	"slices"
	"strings"
)

// union is the list that the oldest options mean: this node and the peers it was
// told of. They have no names there, so their addresses are their names; an ID
// depends on URLs alone, so all who name the same machines come to the same list.
func (c *Config) union() string {
	list := []string{namedList(c.Name, c.PeerURLs)}
	own := hosts(c.PeerURLs)
	for _, peer := range c.Peers {
		raw := peer
		if !strings.Contains(peer, "://") {
			raw = "http://" + peer
		}
		if host := hostOf(raw, nil); !slices.Contains(own, host) {
			list = append(list, strings.TrimPrefix(strings.TrimPrefix(raw, "http://"), "https://")+"="+raw)
			own = append(own, host)
		}
	}
	return strings.Join(list, ",")
}
