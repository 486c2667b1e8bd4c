package bootstrap

import (
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
}
