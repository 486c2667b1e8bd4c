package options

import (
	"errors"
	"strings"

	"github.com/keelson/keelson/core/bootstrap"
)

// errManyWays is the original's refusal, word for word.
var errManyWays = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or "discovery-srv"`)

// finish looks at what no option can judge alone, and fills in what depends on
// others.
func (r *reading) finish() error {
	if err := r.readTLS(); err != nil {
		return err
	}
	if err := r.applyOld(); err != nil {
		return err
	}
	if err := r.oneWay(); err != nil {
		return err
	}
	if r.ListenClient != nil && r.advertiseClient == nil && !r.mayBeProxy() {
		return errors.New("--advertise-client-urls: required where --listen-client-urls is given")
	}
	if err := r.secureBoth(); err != nil {
		return err
	}
	if r.DataDir == "" {
		r.DataDir = r.Daemon.Bootstrap.Name + ".etcd"
	}
	if r.advertiseClient == nil {
		r.advertiseClient = strings.Split(DefaultClientURLs, ",")
	}
	if r.advertisePeer == nil {
		r.advertisePeer = strings.Split(DefaultPeerURLs, ",")
	}
	r.Daemon.Bootstrap.PeerURLs = r.advertisePeer
	r.Daemon.Node.ClientURLs = r.advertiseClient
	r.finishUnits()
	r.apply()
	return nil
}

// oneWay makes sure that there is one way to the cluster.
func (r *reading) oneWay() error {
	b := &r.Daemon.Bootstrap
	ways := 0
	for _, w := range []string{b.InitialCluster, b.Discovery, b.DiscoverySRV} {
		if w != "" {
			ways++
		}
	}
	if ways > 1 {
		return errManyWays
	}
	if ways > 0 && b.Peers != nil {
		r.remark("--peers is ignored: the cluster is found in another way")
		b.Peers = nil
	}
	return nil
}

// mayBeProxy reports whether this process may come to pass requests on.
func (r *reading) mayBeProxy() bool {
	b := &r.Daemon.Bootstrap
	return b.Proxy != bootstrap.Off || b.Discovery != "" && b.Fallback == bootstrap.FallbackProxy
}
