package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keelson/keelson/cmd/cli/options"
	unithost "github.com/keelson/keelson/realnet/process"
)

// idFile has the member's machine ID: each is a machine of its own.
func (m *devMember) idFile() string { return filepath.Join(m.dev.opts.dataDir, m.name+".machine-id") }

// unitsDir is where the member's units are.
func (m *devMember) unitsDir() string { return filepath.Join(m.dev.opts.dataDir, m.name+".units") }

// identify gives the member a machine ID, once.
func (m *devMember) identify() error {
	m.socket = "none"
	if _, err := os.Stat(m.idFile()); err == nil {
		return nil
	}
	a, b := randomBytes(), randomBytes()
	id := hex.EncodeToString(append(a[:], b[:]...))
	return os.WriteFile(m.idFile(), []byte(id+"\n"), 0o644)
}

// fleetSocket is where the first member serves fleetctl: where fleetctl looks by itself, if
// this is the cluster at the default ports, nobody else is there and this user may; else
// in the data directory.
func (d *dev) fleetSocket() string {
	path := options.DefaultFleetSocket
	if d.opts.clientPort != 2379 {
		return d.ownSocket()
	}
	dir := filepath.Dir(path)
	probe, err := os.CreateTemp(dir, ".keelson-*")
	if err != nil {
		return d.ownSocket()
	}
	probe.Close()
	os.Remove(probe.Name())
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return d.ownSocket()
	}
	return path
}

// ownSocket is in the data directory, if its path is short enough for a socket.
func (d *dev) ownSocket() string {
	path, err := filepath.Abs(filepath.Join(d.opts.dataDir, "fleet.sock"))
	if err != nil || len(path) > 100 {
		return "none"
	}
	return path
}

// welcomeUnits says how to try units.
func (d *dev) welcomeUnits(program string) string {
	if d.opts.units == "off" {
		return ""
	}
	flags := ""
	switch socket := d.members[0].socket; socket {
	case options.DefaultFleetSocket:
	case "none":
		flags = " --endpoint " + d.members[0].client[0]
	default:
		flags = " --endpoint unix://" + socket
	}
	var b strings.Builder
	b.WriteString("  printf '[Service]\\nExecStart=/bin/sh -c \"while sleep 1; do date; done\"\\n' >hello.service\n")
	for _, words := range []string{"list-machines", "start hello.service", "journal -f hello.service"} {
		fmt.Fprintf(&b, "  %s fleetctl%s %s\n", program, flags, words)
	}
	return b.String()
}

// endUnits stops the member's units in order, when dev ends.
func (m *devMember) endUnits() {
	if err := unithost.Shutdown(m.unitsDir()); err != nil {
		m.dev.printer.say("%s: units were not stopped: %v", m.name, err)
	}
}

// cutUnits kills the member's units, as a loss of power does.
func (m *devMember) cutUnits() {
	if err := unithost.PowerOff(m.unitsDir()); err != nil {
		m.dev.printer.say("%s: units were not killed: %v", m.name, err)
	}
}
