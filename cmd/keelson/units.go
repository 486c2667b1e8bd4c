package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/journal"
	unithost "github.com/keelson/keelson/realnet/process"
	"github.com/keelson/keelson/realnet/systemd"
)

// unitsPart is this machine's part in running units.
type unitsPart struct {
	config  *fleet.Config // nil is no part
	systemd env.Systemd   // nil runs none
	journal env.Journal
	close   func()
}

// systemUnits is where unit files are on a machine with systemd. It is empty after a boot.
const systemUnits = "/run/fleet/units"

// openUnits finds out what this machine is and reaches its service manager.
func openUnits(o *options.Serve, loop *realnet.Loop, log realnet.Log) (*unitsPart, error) {
	u := &unitsPart{close: func() {}}
	manager := resolve(o.Units.Manager)
	if manager == options.UnitsOff {
		return u, nil
	}
	c := o.Units.Fleet
	c.NoAgent = manager == options.UnitsAPI
	c.Version, c.Boot = version(), bootID()
	c.Host, _ = os.Hostname()
	var err error
	if c.Machine, err = machineID(o.Units.MachineIDFile); err != nil {
		return nil, fmt.Errorf("--machine-id-file: %w", err)
	}
	if c.PublicIP == "" {
		c.PublicIP = publicIP()
	}
	c.API = reachable(c.API, c.PublicIP)
	u.config = &c
	switch manager {
	case options.UnitsSystemd:
		err = u.openSystemd(o, loop, log)
	case options.UnitsProcess:
		err = u.openProcess(o, loop, log)
	}
	if err != nil {
		return nil, fmt.Errorf("--units=%s: %w", manager, err)
	}
	return u, nil
}

// reachable puts the machine's own address where a URL names all of its addresses.
func reachable(api, ip string) string {
	u, err := url.Parse(api)
	if err != nil || ip == "" {
		return api
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsUnspecified() {
		u.Host = net.JoinHostPort(ip, u.Port())
	}
	return u.String()
}

// resolve says what auto is on this machine.
func resolve(m options.Manager) options.Manager {
	if m != options.UnitsAuto {
		return m
	}
	if info, err := os.Stat("/run/systemd/system"); err == nil && info.IsDir() && os.Geteuid() == 0 {
		return options.UnitsSystemd
	}
	return options.UnitsOff
}

func (u *unitsPart) openSystemd(o *options.Serve, loop *realnet.Loop, log realnet.Log) error {
	dir := o.Units.Directory
	switch {
	case dir != "":
	case o.Units.SystemdUser:
		base := os.Getenv("XDG_RUNTIME_DIR")
		if base == "" {
			return errors.New("--systemd-user: XDG_RUNTIME_DIR is not set, so there is no systemd of this user")
		}
		dir = filepath.Join(base, "fleet", "units")
	default:
		dir = systemUnits
	}
	m, err := systemd.Open(systemd.Options{Dir: dir, User: o.Units.SystemdUser, Post: loop.Post, Log: log})
	if err != nil {
		return err
	}
	j := journal.New(journal.Options{User: o.Units.SystemdUser, Post: loop.Post})
	u.systemd, u.journal = m, j
	u.close = func() {
		m.Close()
		j.Close()
	}
	return nil
}

// processUnits is where unit files are on a machine without systemd: beside the data, of
// which they are no part.
func processUnits(o *options.Serve) string {
	if o.Units.Directory != "" {
		return o.Units.Directory
	}
	return filepath.Clean(o.DataDir) + ".units"
}

func (u *unitsPart) openProcess(o *options.Serve, loop *realnet.Loop, log realnet.Log) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if u.config.Boot, err = unithost.Boot(processUnits(o)); err != nil {
		return err
	}
	m, err := unithost.Open(unithost.Options{
		Dir: processUnits(o), Machine: u.config.Machine, Post: loop.Post, Log: log,
		Command: []string{strings.TrimSuffix(self, " (deleted)"), unithost.Word},
	})
	if err != nil {
		return err
	}
	u.systemd, u.journal, u.close = m, m, m.Close
	return nil
}

// machineID reads the ID of this machine.
func machineID(file string) (string, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	id := strings.ToLower(strings.TrimSpace(string(p)))
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%s: want 32 hex digits, not %q: systemd-machine-id-setup makes some", file, id)
	}
	return id, nil
}

// bootID names this boot of the machine.
func bootID() string {
	p, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(p))
}

// publicIP is the first IPv4 address of the interface of the default route, "" if there
// is none.
func publicIP() string {
	i, err := net.InterfaceByName(defaultInterface())
	if err != nil {
		return ""
	}
	addresses, _ := i.Addrs()
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// defaultInterface is the interface of the default route of the least metric.
func defaultInterface() (name string) {
	f, err := os.Open("/proc/net/route")
	if err != nil {
		return ""
	}
	defer f.Close()
	least := -1
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// interface destination gateway flags refcount use metric mask …
		w := strings.Fields(lines.Text())
		if len(w) < 8 || w[1] != "00000000" || w[7] != "00000000" {
			continue
		}
		if metric, err := strconv.Atoi(w[6]); err == nil && (least < 0 || metric < least) {
			name, least = w[0], metric
		}
	}
	return name
}

// listenUnits opens the socket of fleetctl and takes the sockets that systemd hands over.
func listenUnits(o *options.Serve, log realnet.Log) (all []net.Listener, err error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for _, l := range handed {
		if l != nil { // one that is no stream
			all = append(all, l)
		}
	}
	path, given := o.Units.Socket, o.Units.SocketGiven
	if !given && os.Geteuid() == 0 {
		path = options.DefaultFleetSocket
	}
	if path == "" || resolve(o.Units.Manager) == options.UnitsOff || serves(all, path) {
		return all, nil
	}
	l, err := listenSocket(path)
	switch {
	case err == nil:
		return append(all, l), nil
	case given:
		closeAll(all)
		return nil, fmt.Errorf("--fleet-socket=%s: %w", path, err)
	}
	log.Log(env.Warn, "fleetctl is not served on its socket", "path", path, "error", err)
	return all, nil
}

// serves reports whether one of the listeners is the socket of that path.
func serves(all []net.Listener, path string) bool {
	real, _ := filepath.EvalSymlinks(path)
	for _, l := range all {
		if a := l.Addr(); a.Network() == "unix" && (a.String() == path || real != "" && a.String() == real) {
			return true
		}
	}
	return false
}
