// Package bootstrap is how a node finds its first peers (static list, discovery token, DNS), or becomes a proxy.
//
// It runs once in the life of a data directory: what it comes to is an Outcome,
// which is kept, and later starts do not ask again. All waiting is done by the
// completions of core/env, so a cluster forms in the simulator as it does on real
// machines.
package bootstrap
