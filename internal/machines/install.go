package machines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// networkUnit gives a machine its address.
const networkUnit = "cluster-network.service"

// install lays the machine's overlay and puts into it what makes it this machine, and
// the daemon.
func (m *Machine) install(c *Cluster, keys keyRing) error {
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", c.config.Image, filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
	if err := unix.Mount("overlay", m.Root(), "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay on %s: %w: is it on an overlay itself? KEELSON_MACHINES_DIR chooses another place", m.Root(), err)
	}
	for _, f := range m.files(c, keys) {
		if err := m.write(f); err != nil {
			return err
		}
	}
	if err := m.symlink("/etc/systemd/system/multi-user.target.wants/"+networkUnit, "../"+networkUnit); err != nil {
		return err
	}
	return m.Install(c.config.Binary)
}

// unmount takes the overlay away.
func (m *Machine) unmount() error {
	if err := unix.Unmount(m.Root(), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", m.Root(), err)
	}
	return nil
}

// file is one that a machine gets.
type file struct {
	path  string
	mode  os.FileMode
	text  string
	owner int
}

// core is the ID of the user of that name: the first that useradd gives.
const core = 1000

func (m *Machine) files(c *Cluster, keys keyRing) []file {
	host := keys.hosts[slices.Index(c.Machines, m)]
	all := []file{
		{path: "/etc/machine-id", mode: 0o444, text: m.ID + "\n"},
		{path: "/etc/hostname", mode: 0o644, text: m.Host + "\n"},
		{path: "/etc/hosts", mode: 0o644, text: c.hosts()},
		{path: "/etc/systemd/system/" + networkUnit, mode: 0o644, text: m.networkText(c)},
		{path: "/etc/ssh/ssh_host_ed25519_key", mode: 0o600, text: string(host.private)},
		{path: "/etc/ssh/ssh_host_ed25519_key.pub", mode: 0o644, text: host.public},
		{path: "/etc/ssh/ssh_known_hosts", mode: 0o644, text: keys.known},
	}
	for _, u := range []struct {
		home string
		id   int
	}{{"/root", 0}, {"/home/core", core}} {
		all = append(all,
			file{u.home + "/.ssh/authorized_keys", 0o600, keys.user.public, u.id},
			file{u.home + "/.ssh/id_ed25519", 0o600, string(keys.user.private), u.id},
			file{u.home + "/.fleetctl/known_hosts", 0o644, keys.known, u.id},
		)
	}
	return append(all, m.daemon(c)...)
}

// hosts are the names of all machines.
func (c *Cluster) hosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for _, m := range c.Machines {
		fmt.Fprintf(&b, "%s %s\n", m.Address, m.Host)
	}
	return b.String()
}

// networkText is the unit that brings up the machine's end of the cable.
func (m *Machine) networkText(c *Cluster) string {
	return fmt.Sprintf(`[Unit]
Description=Network of the cluster
Before=network.target network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip address replace %s/%d dev host0
ExecStart=/usr/sbin/ip link set host0 up
ExecStart=/usr/sbin/ip route replace default via %v

[Install]
WantedBy=multi-user.target
`, m.Address, c.Net.Bits(), nth(c.Net, 1))
}

func (m *Machine) write(f file) error {
	path := filepath.Join(m.Root(), f.path)
	if err := m.mkdirs(filepath.Dir(f.path), f.owner); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
		return err
	}
	return os.Lchown(path, f.owner, f.owner)
}

// symlink makes a symbolic link on the machine.
func (m *Machine) symlink(path, to string) error {
	if err := m.mkdirs(filepath.Dir(path), 0); err != nil {
		return err
	}
	return os.Symlink(to, filepath.Join(m.Root(), path))
}

// mkdirs makes the directories on the way to a file; those that it makes are the
// owner's.
func (m *Machine) mkdirs(dir string, owner int) error {
	path := filepath.Join(m.Root(), dir)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := m.mkdirs(filepath.Dir(dir), owner); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	return os.Lchown(path, owner, owner)
}

// Install has a keelson put itself, its unit files and its other names onto the machine, as
// an upgrade does; what runs goes on with the old one.
func (m *Machine) Install(binary string) error {
	if said, err := exec.Command(binary, "install", "--links", "--root="+m.Root()).CombinedOutput(); err != nil {
		return fmt.Errorf("%s install: %w: %s", binary, err, said)
	}
	return nil
}
