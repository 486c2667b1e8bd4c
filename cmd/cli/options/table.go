package options

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/format"
)

// option is one thing that keelson serve can be told, by a flag or by a variable
// of the environment. The flag wins; an empty variable is none.
type option struct {
	name    string // of the flag, without dashes
	ours    bool   // the originals had no such option
	fleet   bool   // it is one of fleetd's
	def     string // what is set where nothing is said
	derive  string // what the default is made from, where def cannot say it
	kind    string // what the value is, for help; "" for a switch
	doc     string
	ignored string // why it has no effect
	set     func(r *reading, value string) error
}

// variable is the option's name in the environment.
func (o *option) variable() string {
	prefix := "ETCD_"
	switch {
	case o.ours:
		prefix = "KEELSON_"
	case o.fleet:
		prefix = "FLEET_"
	}
	return prefix + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
}

// shown is the default as people read it.
func (o *option) shown() string {
	if o.derive != "" {
		return o.derive
	}
	return o.def
}

// Where nothing is said: both pairs of ports, on loopback.
const (
	DefaultPeerURLs   = "http://localhost:2380,http://localhost:7001"
	DefaultClientURLs = "http://localhost:2379,http://localhost:4001"
)

// section is a part of the table under a heading of its own.
type section struct {
	title   string
	options []option
}

// sections is the only list of options: parsing, help, the reference page and
// tests range over it.
var sections = []section{
	{"This machine", machineOptions},
	{"Its cluster", clusterOptions},
	{"Proxy", proxyOptions},
	{"Access", accessOptions},
	{"TLS", tlsOptions},
	{"Units", unitOptions},
	{"The rest", otherOptions},
	{"Flags of 0.4", oldOptions},
}

var table = flatten(sections)

func flatten(sections []section) (all []option) {
	for _, s := range sections {
		all = append(all, s.options...)
	}
	return all
}

var machineOptions = []option{
	{
		name: "name", def: "default", kind: "NAME",
		doc: "This machine's name, as initial-cluster has it.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.Name = v; return nonEmpty(v) },
	},
	{
		name: "data-dir", kind: "DIR", derive: "NAME.etcd in the working directory",
		doc: "Where this machine keeps what it must not forget. One process at a time may use it. What it holds decides what a process is when it starts again: a member or a proxy.",
		set: func(r *reading, v string) error { r.DataDir = v; return nonEmpty(v) },
	},
	{
		name: "wal-dir", kind: "DIR", derive: "within data-dir",
		doc: "Where the log is kept, if not within data-dir: a disk of its own. Must be the same at each start.",
		set: func(r *reading, v string) error { r.WALDir = v; return nonEmpty(v) },
	},
	{
		name: "listen-client-urls", kind: "URLS", derive: DefaultClientURLs + ", the second only where its port is free",
		doc: "Where clients are served: addresses, localhost, or sockets such as unix:///run/keelson.sock.",
		set: func(r *reading, v string) (err error) { r.ListenClient, err = listenURLs(v, true); return err },
	},
	{
		name: "listen-peer-urls", kind: "URLS", derive: DefaultPeerURLs + ", the second only where its port is free",
		doc: "Where other members are served: addresses, or localhost.",
		set: func(r *reading, v string) (err error) { r.ListenPeer, err = listenURLs(v, false); return err },
	},
	{
		name: "advertise-client-urls", kind: "URLS", derive: DefaultClientURLs + "; required with listen-client-urls, unless this may become a proxy",
		doc: "Where clients are told to find this member.",
		set: func(r *reading, v string) (err error) { r.advertiseClient, err = urls(v, true); return err },
	},
	{
		name: "initial-advertise-peer-urls", kind: "URLS", derive: DefaultPeerURLs,
		doc: "Where the other members find this one. Must be what initial-cluster says of it.",
		set: func(r *reading, v string) (err error) { r.advertisePeer, err = urls(v, false); return err },
	},
	{
		name: "heartbeat-interval", def: "100", kind: "MS",
		doc: "How often the leader is heard, in milliseconds.",
		set: func(r *reading, v string) (err error) {
			r.Daemon.Node.Tick, err = milliseconds(v, 1, 10000)
			return err
		},
	},
	{
		name: "election-timeout", def: "1000", kind: "MS",
		doc: "Silence of the leader after which another is elected, in milliseconds; from 5 heartbeat intervals to 50000.",
		set: func(r *reading, v string) error {
			d, err := milliseconds(v, 1, 50000)
			if err != nil {
				return err
			}
			if tick := r.Daemon.Node.Tick; d < 5*tick {
				return fmt.Errorf("want at least 5 heartbeat intervals of %d", tick.Milliseconds())
			}
			r.Daemon.Node.ElectionTicks = int(d / r.Daemon.Node.Tick)
			return nil
		},
	},
	{
		name: "snapshot-count", def: "0", kind: "N",
		doc: "Log entries after which a snapshot is taken, besides that after 64 MiB of log or twice the store, whichever is more; 0 leaves it at that.",
		set: func(r *reading, v string) (err error) { r.Daemon.Node.SnapshotEntries, err = number(v); return err },
	},
	{
		name: "max-snapshots", kind: "N",
		doc:     "Without effect: files that are needed no more are removed.",
		ignored: "files that are needed no more are removed by themselves",
	},
	{
		name: "max-wals", kind: "N",
		doc:     "Without effect: files that are needed no more are removed.",
		ignored: "files that are needed no more are removed by themselves",
	},
}

var clusterOptions = []option{
	{
		name: "initial-cluster", kind: "NAME=URL,…", derive: "this member alone, at initial-advertise-peer-urls",
		doc: "The members of the first start; a name is repeated for each of its URLs. Every member must be given the same list. Ignored once there is data.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.InitialCluster = v; return nonEmpty(v) },
	},
	{
		name: "initial-cluster-state", def: "new", kind: "new|existing",
		doc: "Whether the cluster is made by this start, or runs already and this member was added to it.",
		set: func(r *reading, v string) error {
			r.Daemon.Bootstrap.State = bootstrap.State(v)
			return oneOf(v, "new", "existing")
		},
	},
	{
		name: "initial-cluster-token", def: "etcd-cluster", kind: "TOKEN",
		doc: "Part of the cluster's identity: clusters with different tokens never mix, even at the same addresses.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.Token = v; return nil },
	},
	{
		name: "discovery", kind: "URL",
		doc: "A token of a discovery service, by which machines that do not know each other become one cluster. Ignored once there is data.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.Discovery = v; return nil },
	},
	{
		name: "discovery-srv", kind: "DOMAIN",
		doc: "A domain whose SRV records _etcd-server-ssl._tcp and _etcd-server._tcp name the members.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.DiscoverySRV = v; return nil },
	},
	{
		name: "discovery-proxy", kind: "URL",
		doc: "An HTTP proxy by which the discovery service is reached.",
		set: func(r *reading, v string) error { r.Daemon.Bootstrap.DiscoveryProxy = v; return nil },
	},
	{
		name: "discovery-fallback", def: "proxy", kind: "proxy|exit",
		doc: "What becomes of this machine if the token's cluster is full.",
		set: func(r *reading, v string) error {
			r.Daemon.Bootstrap.Fallback = bootstrap.Fallback(v)
			return oneOf(v, "proxy", "exit")
		},
	},
	{
		name: "strict-reconfig-check", ignored: "changes that would endanger the majority are always refused",
		doc: "Without effect: changes of the membership that would endanger the majority are always refused.",
	},
	{
		name: "force-new-cluster", def: "false",
		doc: "Start from the data directory as a cluster of this member alone: for a majority that is lost for good. What only the others had acknowledged is lost with them.",
		set: func(r *reading, v string) (err error) { r.force, err = boolean(v); return err },
	},
}

var proxyOptions = []option{
	{
		name: "proxy", def: "off", kind: "off|on|readonly",
		doc: "Pass requests on to the members instead of being one; readonly passes on GET alone.",
		set: func(r *reading, v string) error {
			r.Daemon.Bootstrap.Proxy = bootstrap.Mode(v)
			return oneOf(v, "off", "on", "readonly")
		},
	},
	{
		name: "proxy-failure-wait", def: "5000", kind: "MS",
		doc: "How long a member that could not be reached is left out, in milliseconds.",
		set: func(r *reading, v string) (err error) {
			r.proxy.failureWait, err = milliseconds(v, 0, dayMS)
			return err
		},
	},
	{
		name: "proxy-refresh-interval", def: "30000", kind: "MS",
		doc: "How often the members are asked who they are, in milliseconds.",
		set: func(r *reading, v string) (err error) { r.proxy.refresh, err = milliseconds(v, 1, dayMS); return err },
	},
	{
		name: "proxy-dial-timeout", def: "1000", kind: "MS",
		doc: "How long a connection to a member may take to stand, in milliseconds.",
		set: func(r *reading, v string) (err error) { r.proxy.dial, err = milliseconds(v, 0, dayMS); return err },
	},
	{
		name: "proxy-write-timeout", def: "5000", kind: "MS",
		doc: "How long a request may take to be written to a member, in milliseconds.",
		set: func(r *reading, v string) (err error) { r.proxy.write, err = milliseconds(v, 0, dayMS); return err },
	},
	{
		name: "proxy-read-timeout", def: "0", kind: "MS",
		doc: "How long a member may say nothing, in milliseconds; 0 is no bound. A bound ends watches.",
		set: func(r *reading, v string) (err error) { r.proxy.read, err = milliseconds(v, 0, dayMS); return err },
	},
}

var accessOptions = []option{
	{
		name: "insecure", ours: true, def: "false",
		doc: "Serve addresses beyond this machine although nothing is encrypted and nobody is asked who they are.",
		set: func(r *reading, v string) (err error) { r.Insecure, err = boolean(v); return err },
	},
	{
		name: "cors", kind: "ORIGINS", derive: "none",
		doc: "Origins whose pages may send requests from a browser, joined by commas; * is all.",
		set: func(r *reading, v string) (err error) { r.CORS, err = origins(v); return err },
	},
}

var otherOptions = []option{
	{
		name: "read-default", ours: true, def: "linearizable", kind: "linearizable|local",
		doc: "What a GET is that does not say quorum=true or quorum=false. The original's was local: possibly stale.",
		set: func(r *reading, v string) error {
			r.Daemon.Node.ReadDefaultLocal = v == "local"
			return oneOf(v, "linearizable", "local")
		},
	},
	{
		name: "bcrypt-cost", def: strconv.Itoa(auth.CostDefault), kind: "N",
		doc: fmt.Sprintf("How long a password takes to check, from %d to %d; each step doubles it.", auth.CostMin, auth.CostMax),
		set: func(r *reading, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < auth.CostMin || n > auth.CostMax {
				return fmt.Errorf("want a number from %d to %d", auth.CostMin, auth.CostMax)
			}
			r.Daemon.Node.Passwords = auth.Bcrypt(n)
			return nil
		},
	},
	{
		name: "hold-batch-format", ours: true, def: "0", kind: "N",
		doc: "Keep the cluster from writing entries of the log in a newer format than N, before a return to the version before; 0 holds nothing back.",
		set: func(r *reading, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 || n > format.Batch {
				return fmt.Errorf("want a number from 0 to %d", format.Batch)
			}
			r.Daemon.Node.HoldBatch = n
			return nil
		},
	},
	{
		name: "log-level", ours: true, def: "info", kind: "debug|info|warn|error",
		doc: "The least important lines to log.",
		set: func(r *reading, v string) error {
			r.LogLevel = v
			return oneOf(v, "debug", "info", "warn", "error")
		},
	},
	{
		name: "debug", def: "false",
		doc: "The same as log-level=debug.",
		set: func(r *reading, v string) error {
			b, err := boolean(v)
			if b {
				r.LogLevel = "debug"
			}
			return err
		},
	},
	{
		name: "verbosity", fleet: true, def: "0", kind: "N",
		doc: "Above 0 it is the same as log-level=debug.",
		set: func(r *reading, v string) error {
			n, err := strconv.Atoi(v)
			if err == nil && n > 0 {
				r.LogLevel = "debug"
			}
			return err
		},
	},
	{
		name: "log-package-levels", kind: "LEVELS", ignored: "lines are chosen by --log-level alone",
		doc: "Without effect: lines are chosen by log-level alone.",
	},
	{
		name: "enable-pprof", def: "false",
		doc: "Serve profiles at /debug/pprof/ on the client URLs.",
		set: func(r *reading, v string) (err error) { r.Pprof, err = boolean(v); return err },
	},
	{
		name: "version", def: "false",
		doc: "Print the version and end.",
		set: func(r *reading, v string) (err error) { r.Version, err = boolean(v); return err },
	},
	{name: "experimental-v3demo", ignored: noV3, doc: "Without effect."},
	{name: "experimental-gRPC-addr", kind: "ADDR", ignored: noV3, doc: "Without effect."},
	{name: "experimental-auto-compaction-retention", kind: "HOURS", ignored: noV3, doc: "Without effect."},
}

const noV3 = "there is no v3 interface"

// dayMS bounds the waits of a proxy.
const dayMS = 24 * 60 * 60 * 1000

func nonEmpty(v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("want %s", strings.Join(allowed, " or "))
	}
	return nil
}

func boolean(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return b, nil
}

func number(v string) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, errors.New("want a whole number, 0 or more")
	}
	return n, nil
}

func milliseconds(v string, least, most int) (time.Duration, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want milliseconds from %d to %d", least, most)
	}
	return time.Duration(n) * time.Millisecond, nil
}
