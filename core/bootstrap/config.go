package bootstrap

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// State says whether the cluster is made by this start or runs already.
type State string

// The states, as initial-cluster-state has them.
const (
	New      State = "new"
	Existing State = "existing"
)

// Mode says whether a node may or must be a proxy.
type Mode string

// The modes, as proxy has them. Off is a member.
const (
	Off      Mode = "off"
	On       Mode = "on"
	ReadOnly Mode = "readonly"
)

// Fallback says what becomes of a node for which a discovery token has no place.
type Fallback string

// The fallbacks, as discovery-fallback has them.
const (
	FallbackProxy Fallback = "proxy"
	FallbackExit  Fallback = "exit"
)

// Config is what a start is told about the cluster. Name, PeerURLs and Token are
// required; at most one of InitialCluster, Discovery, DiscoverySRV and Peers may be
// given, and without any the node is a cluster of its own.
type Config struct {
	Name           string
	PeerURLs       []string // of this node, as others shall use them
	InitialCluster string   // name=url,name=url,…
	State          State    // New
	Token          string
	Discovery      string   // URL of a token
	DiscoverySRV   string   // domain
	DiscoveryProxy string   // URL of an HTTP proxy for Discovery
	Fallback       Fallback // FallbackProxy
	Proxy          Mode     // Off
	Peers          []string // host:port of others, the oldest way to say it
}

// Outcome is what a bootstrap comes to: Identity of a member, or Proxy.
type Outcome struct {
	Identity *Identity
	Proxy    *ProxyTo
}

// ProxyTo is whom a proxy stands before.
type ProxyTo struct {
	PeerURLs []string // of all members that are known
	ReadOnly bool
}

// Identity says who a member is. It is decided once and kept beside the log.
type Identity struct {
	ID      env.NodeID       `json:"id"`
	Cluster uint64           `json:"cluster"`
	Members []gateway.Member `json:"members"`
	// Join says that the member was added to a cluster that runs already.
	Join bool `json:"join,omitempty"`
	// Begun says that the log has begun. From then on a missing log is a loss.
	Begun bool `json:"begun,omitempty"`
	// Life is drawn at random by each disk, so that the others can tell a member
	// that went on from one that lost what it had written.
	Life string `json:"life,omitempty"`
	// Forced says that the cluster began by --force-new-cluster, and that no start
	// without the flag has followed yet.
	Forced bool `json:"forced,omitempty"`
	// Waiting says that this is a note and not yet an identity: the member has not
	// been admitted. Its Members are empty until the list is known.
	Waiting bool `json:"waiting,omitempty"`
	// Discovery is the URL of the token at which a waiting member has registered
	// or was about to.
	Discovery string `json:"discovery,omitempty"`
}

// Check refuses a configuration from which nothing can come, before anything is
// written or asked.
func (c *Config) Check() error {
	if err := c.choice(); err != nil {
		return err
	}
	for _, raw := range c.PeerURLs {
		if _, err := parseURL(raw); err != nil {
			return fmt.Errorf("initial-advertise-peer-urls: %w", err)
		}
	}
	if c.Discovery != "" {
		_, err := parseToken(c.Discovery)
		return err
	}
	if c.DiscoverySRV != "" {
		return nil
	}
	list, err := c.list()
	if err != nil || c.proxies() {
		return err
	}
	mine, err := c.local(list)
	if err != nil {
		return err
	}
	if !named(c.PeerURLs) && !named(mine.PeerURLs) && !sameURLs(c.PeerURLs, mine.PeerURLs) {
		return c.errNotIncluded(mine.PeerURLs)
	}
	return nil
}

func (c *Config) proxies() bool { return c.Proxy == On || c.Proxy == ReadOnly }

// choice refuses ways that contradict each other.
func (c *Config) choice() error {
	ways := 0
	for _, way := range []bool{c.InitialCluster != "", c.Discovery != "", c.DiscoverySRV != "", len(c.Peers) > 0} {
		if way {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or "discovery-srv"`)
	case c.State == Existing && c.Discovery != "":
		return errors.New("discovery URL should not be set when joining existing initial cluster: leave out --discovery, or --initial-cluster-state=existing")
	case c.State == Existing && ways == 0 && !c.proxies():
		return errors.New("--initial-cluster-state=existing: the members must be listed by --initial-cluster or --discovery-srv")
	case c.State != "" && c.State != New && c.State != Existing:
		return fmt.Errorf("--initial-cluster-state=%s: want new or existing", c.State)
	}
	return nil
}

// list is the cluster as the configuration itself tells it.
func (c *Config) list() ([]gateway.Member, error) {
	list := c.InitialCluster
	switch {
	case len(c.Peers) > 0:
		list = c.union()
	case list == "":
		list = namedList(c.Name, c.PeerURLs)
	}
	return parseCluster(list, c.Token)
}

// parseToken reads the URL of a discovery token.
func parseToken(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--discovery: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(u.Path) < 2 || u.Fragment != "":
		return nil, fmt.Errorf("--discovery=%s: want http://host/TOKEN or https://host/TOKEN", raw)
	}
	return u, nil
}
