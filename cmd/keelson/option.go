package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// option is one thing that keelson serve can be told, by a flag or by a variable
// of the environment. The flag wins; an empty variable is none.
type option struct {
	name   string // of the flag, without dashes
	env    string
	def    string // as shown; "" where it depends on others
	kind   string // what the value is, for help; "" for a switch
	doc    string
	set    func(o *serveOptions, value string) error
	derive string // what the default is made from, for help
}

// serveOptions is what the options say. A nil slice was not given.
type serveOptions struct {
	name                string
	dataDir             string
	listenPeer          []string
	listenClient        []string
	advertisePeer       []string
	advertiseClient     []string
	initialCluster      string
	initialClusterState string
	initialClusterToken string
	heartbeat           time.Duration
	election            time.Duration
	snapshotCount       uint64
	readDefaultLocal    bool
	insecure            bool
	logLevel            string
	pprof               bool
}

// Where nothing is said: both pairs of ports, on loopback.
const (
	defaultPeerURLs   = "http://localhost:2380,http://localhost:7001"
	defaultClientURLs = "http://localhost:2379,http://localhost:4001"
)

// options is the only list of them: parsing, help, the reference page and tests
// range over it.
var options = []option{
	{
		name: "name", env: "ETCD_NAME", def: "default", kind: "NAME",
		doc: "This member's name, as initial-cluster has it.",
		set: func(o *serveOptions, v string) error { o.name = v; return nonEmpty(v) },
	},
	{
		name: "data-dir", env: "ETCD_DATA_DIR", kind: "DIR", derive: "NAME.etcd in the working directory",
		doc: "Where this member keeps its log and snapshots. One process at a time may use it.",
		set: func(o *serveOptions, v string) error { o.dataDir = v; return nonEmpty(v) },
	},
	{
		name: "listen-client-urls", env: "ETCD_LISTEN_CLIENT_URLS", kind: "URLS", derive: defaultClientURLs + ", the second only where its port is free",
		doc: "Where clients are served: addresses, or localhost.",
		set: func(o *serveOptions, v string) (err error) { o.listenClient, err = listenURLs(v); return err },
	},
	{
		name: "listen-peer-urls", env: "ETCD_LISTEN_PEER_URLS", kind: "URLS", derive: defaultPeerURLs + ", the second only where its port is free",
		doc: "Where other members are served: addresses, or localhost.",
		set: func(o *serveOptions, v string) (err error) { o.listenPeer, err = listenURLs(v); return err },
	},
	{
		name: "advertise-client-urls", env: "ETCD_ADVERTISE_CLIENT_URLS", kind: "URLS", derive: defaultClientURLs + "; required with listen-client-urls",
		doc: "Where clients are told to find this member.",
		set: func(o *serveOptions, v string) (err error) { o.advertiseClient, err = urls(v); return err },
	},
	{
		name: "initial-advertise-peer-urls", env: "ETCD_INITIAL_ADVERTISE_PEER_URLS", kind: "URLS", derive: defaultPeerURLs,
		doc: "Where the other members find this one. Must be what initial-cluster says of it.",
		set: func(o *serveOptions, v string) (err error) { o.advertisePeer, err = urls(v); return err },
	},
	{
		name: "initial-cluster", env: "ETCD_INITIAL_CLUSTER", kind: "NAME=URL,…", derive: "this member alone, at initial-advertise-peer-urls",
		doc: "The members of the first start; a name is repeated for each of its URLs. Every member must be given the same list. Ignored once there is data.",
		set: func(o *serveOptions, v string) error { o.initialCluster = v; return nonEmpty(v) },
	},
	{
		name: "initial-cluster-state", env: "ETCD_INITIAL_CLUSTER_STATE", def: "new", kind: "new",
		doc: "Whether the cluster is made by this start. Joining an existing one is not possible yet.",
		set: func(o *serveOptions, v string) error { o.initialClusterState = v; return oneOf(v, "new") },
	},
	{
		name: "initial-cluster-token", env: "ETCD_INITIAL_CLUSTER_TOKEN", def: "etcd-cluster", kind: "TOKEN",
		doc: "Part of the cluster's identity: clusters with different tokens never mix, even at the same addresses.",
		set: func(o *serveOptions, v string) error { o.initialClusterToken = v; return nil },
	},
	{
		name: "heartbeat-interval", env: "ETCD_HEARTBEAT_INTERVAL", def: "100", kind: "MS",
		doc: "How often the leader is heard, in milliseconds.",
		set: func(o *serveOptions, v string) (err error) { o.heartbeat, err = milliseconds(v, 10000); return err },
	},
	{
		name: "election-timeout", env: "ETCD_ELECTION_TIMEOUT", def: "1000", kind: "MS",
		doc: "Silence of the leader after which another is elected, in milliseconds; from 5 heartbeat intervals to 50000.",
		set: func(o *serveOptions, v string) (err error) { o.election, err = milliseconds(v, 50000); return err },
	},
	{
		name: "snapshot-count", env: "ETCD_SNAPSHOT_COUNT", def: "0", kind: "N",
		doc: "Log entries after which a snapshot is taken, besides that after 64 MiB of log or twice the store, whichever is more; 0 leaves it at that.",
		set: func(o *serveOptions, v string) (err error) {
			if o.snapshotCount, err = strconv.ParseUint(v, 10, 64); err != nil {
				err = errors.New("want a whole number, 0 or more")
			}
			return err
		},
	},
	{
		name: "read-default", env: "KEELSON_READ_DEFAULT", def: "linearizable", kind: "linearizable|local",
		doc: "What a GET is that does not say quorum=true or quorum=false. The original's was local: possibly stale.",
		set: func(o *serveOptions, v string) error {
			o.readDefaultLocal = v == "local"
			return oneOf(v, "linearizable", "local")
		},
	},
	{
		name: "insecure", env: "KEELSON_INSECURE", def: "false",
		doc: "Serve addresses beyond this machine although nothing is encrypted and nobody is asked who they are.",
		set: func(o *serveOptions, v string) (err error) { o.insecure, err = parseBool(v); return err },
	},
	{
		name: "log-level", env: "KEELSON_LOG_LEVEL", def: "info", kind: "debug|info|warn|error",
		doc: "The least important lines to log.",
		set: func(o *serveOptions, v string) error {
			o.logLevel = v
			return oneOf(v, "debug", "info", "warn", "error")
		},
	},
	{
		name: "enable-pprof", env: "ETCD_ENABLE_PPROF", def: "false",
		doc: "Serve profiles at /debug/pprof/ on the client URLs.",
		set: func(o *serveOptions, v string) (err error) { o.pprof, err = parseBool(v); return err },
	},
}

// flags makes a flag of each option. Values are kept as text: set judges them.
func flags() []cli.Flag {
	var fs []cli.Flag
	for _, o := range options {
		usage := o.doc + " [" + o.env + "]"
		if o.kind == "" {
			fs = append(fs, &cli.BoolFlag{Name: o.name, Usage: usage})
			continue
		}
		fs = append(fs, &cli.StringFlag{Name: o.name, Usage: usage + " (default: " + o.shownDefault() + ")", HideDefault: true})
	}
	return fs
}

func (o *option) shownDefault() string {
	if o.derive != "" {
		return o.derive
	}
	return o.def
}

// readOptions fills in what flags and environment say. flag gives the text of a
// flag and whether it was there. Remarks are lines for the log.
func readOptions(flag func(name string) (string, bool), environ []string) (o *serveOptions, remarks []string, err error) {
	o = &serveOptions{}
	env := make(map[string]string)
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	for _, opt := range options {
		value, given := flag(opt.name)
		source := "--" + opt.name
		switch {
		case given && env[opt.env] != "":
			remarks = append(remarks, fmt.Sprintf("%s is ignored: --%s is given", opt.env, opt.name))
		case !given && env[opt.env] != "":
			value, given, source = env[opt.env], true, opt.env
		}
		if !given {
			value = opt.def
		}
		if !given && value == "" {
			continue
		}
		if err := opt.set(o, value); err != nil {
			return nil, nil, fmt.Errorf("%s=%s: %w", source, value, err)
		}
	}
	return o, append(remarks, unknown(env)...), o.check()
}

// unknown remarks on variables that look like options and are none.
func unknown(env map[string]string) (remarks []string) {
	for name := range env {
		known := slices.ContainsFunc(options, func(o option) bool { return o.env == name })
		if !known && (strings.HasPrefix(name, "ETCD_") || strings.HasPrefix(name, "KEELSON_")) {
			remarks = append(remarks, name+" is ignored: no option of that name")
		}
	}
	slices.Sort(remarks)
	return remarks
}

func nonEmpty(v string) error {
	if v == "" {
		return fmt.Errorf("must not be empty")
	}
	return nil
}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("want %s", strings.Join(allowed, " or "))
	}
	return nil
}

func parseBool(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("want true or false")
	}
	return b, nil
}

func milliseconds(v string, most int) (time.Duration, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("want milliseconds from 1 to %d", most)
	}
	return time.Duration(n) * time.Millisecond, nil
}

func itoa(n int) string { return strconv.Itoa(n) }

// reference is docs/configuration.md.
func reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration of keelson serve

An option is a flag (one dash or two) or a variable of the environment. The flag wins; an empty
variable is as none. An unknown flag is an error; an unknown variable that begins with ETCD_ or
KEELSON_ is a line in the log. URLs have the form http://host:port; several are joined by commas.

This page is made from the table of options: run ` + "`go test ./cmd/keelson -run Reference -rewrite`" + ` after a change.

| flag | variable | default | meaning |
|---|---|---|---|
`)
	for _, o := range options {
		flag := "--" + o.name
		if o.kind != "" {
			flag += "=" + strings.ReplaceAll(o.kind, "|", `\|`)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", flag, o.env, o.shownDefault(), o.doc)
	}
	b.WriteString(`
## Files

The data directory holds ` + "`identity`" + `, which says who this member is and in which cluster, and ` + "`member/`" + `,
its log and snapshot. Once ` + "`identity`" + ` is there, the options that begin with initial- are ignored: a member does
not change its cluster by being started differently.

## Signals

On SIGTERM or SIGINT the member stops listening, answers the requests under way, hands leadership over and
ends with status 0. A second signal ends it at once, which loses nothing that was acknowledged.

## Exit statuses

0 after an orderly stop; 1 when something could not be done or the value of an option cannot be used, which the
last line says; 2 for a command line
that was not understood.
`)
	return b.String()
}
