package options

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
)

// Manager is what runs units on a machine.
type Manager string

// The managers.
const (
	UnitsAuto    Manager = "auto"    // systemd if this is root's process on a machine with systemd, else off
	UnitsSystemd Manager = "systemd" // the machine's systemd
	UnitsProcess Manager = "process" // child processes
	UnitsAPI     Manager = "api"     // none: the machine only schedules, and answers the API
	UnitsOff     Manager = "off"     // no part in units at all
)

// Units is what only whoever drives the daemon can use of the options about units.
type Units struct {
	Manager       Manager
	Directory     string // "" is the manager's own default
	SystemdUser   bool
	MachineIDFile string
	Config        string // file of further options
	Socket        string // "" is none
	SocketGiven   bool   // it must be there
	// Fleet lacks what the machine alone knows: its ID, name, boot, and public address
	// where none is said.
	Fleet fleet.Config
}

// Defaults of files.
const (
	DefaultFleetConfig = "/etc/fleet/fleet.conf"
	DefaultFleetSocket = "/var/run/fleet.sock"
	DefaultMachineID   = "/etc/machine-id"
)

var unitOptions = []option{
	{
		name: "units", ours: true, def: string(UnitsAuto), kind: "auto|systemd|process|api|off",
		doc: "What runs units on this machine: systemd, or child processes where there is none; api runs none, but schedules and answers fleetctl; off is no part in units at all. With auto it is systemd if this process is root's and systemd runs the machine, else off; as etcd it is off.",
		set: func(r *reading, v string) error {
			r.Units.Manager = Manager(v)
			return oneOf(v, "auto", "systemd", "process", "api", "off")
		},
	},
	{
		name: "fleet-config", ours: true, def: DefaultFleetConfig, kind: "FILE",
		doc: "A file of key=value lines with the options of this section that have a variable FLEET_KEY: public_ip, metadata and so on. Flags and variables win over it. The default need not be there.",
		set: func(*reading, string) error { return nil }, // read before all others
	},
	{
		name: "machine-id-file", ours: true, def: DefaultMachineID, kind: "FILE",
		doc: "Where this machine's ID is, 32 hex digits.",
		set: func(r *reading, v string) error { r.Units.MachineIDFile = v; return nonEmpty(v) },
	},
	{
		name: "fleet-socket", ours: true, kind: "FILE", derive: DefaultFleetSocket + " for root, else none",
		doc: "The socket on which fleetctl is served, besides listen-client-urls; none is none. Sockets that systemd hands over are served too.",
		set: func(r *reading, v string) error {
			r.Units.Socket, r.Units.SocketGiven = v, true
			if v == "none" {
				r.Units.Socket = ""
			}
			return nonEmpty(v)
		},
	},
	{
		name: "public-ip", fleet: true, kind: "IP", derive: "the first IPv4 address of the interface of the default route",
		doc: "The address of this machine that list-machines shows, and by which fleetctl reaches it.",
		set: func(r *reading, v string) error { r.Units.Fleet.PublicIP = v; return host(v) },
	},
	{
		name: "metadata", fleet: true, kind: "KEY=VALUE,…",
		doc: "What units can ask of a machine by MachineMetadata. Blanks around = and commas do not count, of one key the last value does. Read again on SIGHUP.",
		set: func(r *reading, v string) (err error) { r.Units.Fleet.Metadata, err = metadata(v); return err },
	},
	{
		name: "capacity", ours: true, kind: "NAME=AMOUNT,…",
		doc: "What this machine has for units that say Resources=, such as memory=8G,cpu=4.",
		set: func(r *reading, v string) (err error) {
			r.Units.Fleet.Capacity, err = unit.ParseQuantities(v)
			return err
		},
	},
	{
		name: "agent-ttl", fleet: true, def: registry.DefaultTTL.String(), kind: "DURATION",
		doc: "How long after the last sign of this machine its units are placed elsewhere.",
		set: func(r *reading, v string) (err error) {
			r.Units.Fleet.TTL, err = duration(v, time.Second, time.Hour)
			return err
		},
	},
	{
		name: "engine-reconcile-interval", fleet: true, def: seconds(registry.DefaultReconcile), kind: "SECONDS",
		doc: "How often everything is looked at although nothing has changed. Changes do not wait for it.",
		set: func(r *reading, v string) (err error) {
			r.Units.Fleet.Reconcile, err = duration(v, 100*time.Millisecond, time.Hour)
			return err
		},
	},
	{
		name: "disable-engine", fleet: true, def: "false",
		doc: "Never schedule for the cluster.",
		set: func(r *reading, v string) (err error) { r.Units.Fleet.DisableEngine, err = boolean(v); return err },
	},
	{
		name: "units-directory", fleet: true, kind: "DIR", derive: "/run/fleet/units with systemd, fleet/units below XDG_RUNTIME_DIR with systemd-user, DATA-DIR.units with process",
		doc: "Where the files of the units that run here are kept. One daemon at a time may use it.",
		set: func(r *reading, v string) error { r.Units.Directory = v; return nonEmpty(v) },
	},
	{
		name: "systemd-user", fleet: true, def: "false",
		doc: "Use the systemd of this user instead of the machine's.",
		set: func(r *reading, v string) (err error) { r.Units.SystemdUser, err = boolean(v); return err },
	},
	{
		name: "drain-at-stop", ours: true, def: "false",
		doc: "Unload this machine's units when the process is told to end, as fleetd did: others take them over at once. Without it they run on, and the next start finds them.",
		set: func(r *reading, v string) (err error) { r.Units.Fleet.DrainAtStop, err = boolean(v); return err },
	},
	{
		name: "token-limit", fleet: true, def: strconv.Itoa(registry.DefaultPage), kind: "N",
		doc: "How many entries a page of the units API has.",
		set: func(r *reading, v string) (err error) { r.Units.Fleet.Page, err = within(v, 1, 65535); return err },
	},
	{
		name: "unit-line-max", ours: true, def: strconv.Itoa(unit.DefaultLineMax), kind: "BYTES",
		doc: "From which length on a line of a unit file is refused; that of systemd is 1048576.",
		set: func(r *reading, v string) (err error) {
			r.Units.Fleet.LineMax, err = within(v, 80, 1<<20)
			return err
		},
	},
	{
		name: "etcd-key-prefix", fleet: true, def: registry.DefaultPrefix + "/", kind: "KEY",
		doc: "Below which key of the store everything about units is kept. The same on all machines.",
		set: func(r *reading, v string) error {
			if !strings.HasPrefix(v, "/") || strings.Trim(v, "/") == "" {
				return errors.New("want a key below the root, such as " + registry.DefaultPrefix)
			}
			r.Units.Fleet.Prefix = "/" + strings.Trim(v, "/")
			return nil
		},
	},
	{name: "etcd-servers", fleet: true, kind: "URLS", ignored: ownStore, doc: "Without effect."},
	{
		name: "etcd-username", fleet: true, kind: "NAME",
		doc: "As whom a proxy asks members on behalf of its units, where users and roles are on. A member asks nobody.",
		set: func(r *reading, v string) error { r.Units.Fleet.User = v; return nil },
	},
	{
		name: "etcd-password", fleet: true, kind: "TEXT",
		doc: "The password of --etcd-username; better given as FLEET_ETCD_PASSWORD or in /etc/fleet/fleet.conf, since others can see command lines.",
		set: func(r *reading, v string) error { r.Units.Fleet.Password = v; return nil },
	},
	{name: "etcd-cafile", fleet: true, kind: "FILE", ignored: ownStore, doc: "Without effect."},
	{name: "etcd-certfile", fleet: true, kind: "FILE", ignored: ownStore, doc: "Without effect."},
	{name: "etcd-keyfile", fleet: true, kind: "FILE", ignored: ownStore, doc: "Without effect."},
	{name: "etcd-request-timeout", fleet: true, kind: "SECONDS", ignored: ownStore, doc: "Without effect."},
	{name: "disable-watches", fleet: true, ignored: "changes arrive without watches", doc: "Without effect."},
	{name: "enable-grpc", fleet: true, ignored: "there is no other transport", doc: "Without effect."},
	{name: "verify-units", fleet: true, ignored: unsigned, doc: "Without effect."},
	{name: "authorized-keys-file", fleet: true, kind: "FILE", ignored: unsigned, doc: "Without effect."},
}

const (
	ownStore = "the store is in this process"
	unsigned = "units are not signed"
)

// host checks an address or, as the original let through, a name.
func host(v string) error {
	if _, err := netip.ParseAddr(v); err == nil || v == "" {
		return nil
	}
	letter := strings.IndexFunc(v, func(c rune) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' })
	if letter < 0 || strings.IndexFunc(v, func(c rune) bool {
		return !strings.ContainsRune("-._", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c)
	}) >= 0 {
		return errors.New("want an address, such as 10.0.0.1")
	}
	return nil
}

func metadata(v string) (map[string]string, error) {
	all := make(map[string]string)
	if !utf8.ValidString(v) {
		return nil, errors.New("want text in UTF-8")
	}
	for pair := range strings.SplitSeq(v, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !found || key == "" {
			return nil, fmt.Errorf("%q: want key=value", strings.TrimSpace(pair))
		}
		if !registry.MetadataKey(key) {
			return nil, fmt.Errorf("%q: a key is letters, digits, _ . and -", key)
		}
		all[key] = value
	}
	return all, nil
}

// duration reads seconds, or a number with its unit.
func duration(v string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if n, e := strconv.ParseFloat(v, 64); e == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("want a time from %v to %v, such as 30s", least, most)
	}
	return d, nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

func within(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a number from %d to %d", least, most)
	}
	return n, nil
}

// readFleetConfig puts what the file of fleet's configuration says beneath env, and
// remembers what came from there.
func (r *reading) readFleetConfig(flags, env map[string]string) error {
	name, given := flags["fleet-config"]
	if name == "" {
		name = env["KEELSON_FLEET_CONFIG"]
		given = name != ""
	}
	if !given {
		name = DefaultFleetConfig
	}
	r.Units.Config = name
	if r.source.ReadFile == nil {
		return nil
	}
	text, err := r.source.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !given:
		return nil
	case err != nil:
		return fmt.Errorf("--fleet-config=%s: %w", name, err)
	}
	return r.takeFleetConfig(name, string(text), env)
}

func (r *reading) takeFleetConfig(name, text string, env map[string]string) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' || line[0] == '[' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !found || key == "" {
			return fmt.Errorf("%s: line %d: %s: want key=value", name, number, line)
		}
		variable := "FLEET_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
		if !IsVariable(variable) {
			r.remark("%s: line %d: %s is ignored: no option of that name", name, number, key)
			continue
		}
		if env[variable] == "" || r.fromFile[variable] != "" {
			env[variable] = unquote(strings.TrimSpace(value))
			r.fromFile[variable] = fmt.Sprintf("%s: line %d: %s", name, number, key)
		}
	}
	return nil
}

// unquote takes one pair of quotes off.
func unquote(v string) string {
	if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
		return v[1 : n-1]
	}
	return v
}

// IsVariable reports whether an option can be given by a variable of that name.
func IsVariable(name string) bool {
	for i := range table {
		if table[i].variable() == name {
			return true
		}
	}
	return false
}

// finishUnits fills in what depends on others.
func (r *reading) finishUnits() {
	u := &r.Units
	if r.source.Lenient && r.given["units"] == "" {
		u.Manager = UnitsOff
	}
	u.Fleet.API = r.ownURL()
	if u.Fleet.Metadata == nil {
		u.Fleet.Metadata = make(map[string]string)
	}
}

// ownURL is where other machines reach this one's daemon: where it says so, else where it
// listens.
func (r *reading) ownURL() string {
	list := r.advertiseClient
	if r.given["advertise-client-urls"] == "" && r.given["addr"] == "" && r.ListenClient != nil {
		list = r.ListenClient
	}
	for _, raw := range list {
		if _, ok := SocketPath(raw); !ok {
			return raw
		}
	}
	return ""
}
