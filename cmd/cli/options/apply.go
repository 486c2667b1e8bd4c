package options

import "github.com/keelson/keelson/core/proxy"

// apply hands on what other packages have a place for.
func (r *reading) apply() {
	r.Daemon.ForceNewCluster = r.force
	var own []string
	if r.given["advertise-client-urls"] != "" || r.given["addr"] != "" {
		own = append(own, r.advertiseClient...) // the default may be a member's, beside this proxy
	}
	for _, raw := range r.ListenClient {
		if _, ok := SocketPath(raw); !ok {
			own = append(own, raw)
		}
	}
	r.Daemon.Proxy = proxy.Config{
		OwnURLs: own, FailureWait: r.proxy.failureWait, RefreshInterval: r.proxy.refresh,
		DialTimeout: r.proxy.dial, WriteTimeout: r.proxy.write, ReadTimeout: r.proxy.read,
	}
}
