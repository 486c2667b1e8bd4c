// Package machines boots clusters of machines with real systemd on this host, breaks them as machines break, and takes them away without a trace.
//
// A machine is a container of systemd-nspawn: a root file system made from
// Debian packages, with an overlay of its own, and a machine ID, a hostname, a
// journal, a D-Bus and an sshd of its own, on a private bridge. What holds:
//
//   - Whoever boots machines does so in namespaces of its own (Jail): with its end,
//     whatever way, their processes and mounts are gone.
//   - All processes of a cluster are in one control group, all its links are ports
//     of one bridge, and all its files are in one directory. Remove takes away these
//     three, and needs to know nothing but the directory.
//   - Root file systems are kept between clusters, each under a name that tells
//     what went into it.
package machines

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// DefaultBase is where clusters and root file systems lie unless told otherwise.
const DefaultBase = "/var/tmp/keelson"

// Base is the directory of the environment's choice, or the default.
func Base() string {
	if dir := os.Getenv("KEELSON_MACHINES_DIR"); dir != "" {
		return dir
	}
	return DefaultBase
}

// Config is what a cluster is made of. Dir, Image and Binary are required.
type Config struct {
	Dir    string // everything of this cluster but its control group and links
	Image  string // the root file system, as Image gave it
	Binary string // keelson
	// Settings are further lines of the daemons' environment, NAME=VALUE.
	Settings []string
	// Net is the address range of the bridge, a /24; the zero value chooses one
	// that nothing on this host uses.
	Net netip.Prefix
}

// Cluster is three machines on a bridge.
type Cluster struct {
	Machines []*Machine
	Net      netip.Prefix
	Bridge   string
	dir      string
	lock     *os.File
	config   Config
}

// personas are the machines that every cluster has, each with something that tells
// it from the others.
var personas = []struct{ host, id, metadata string }{
	{"core-01", "1a1a1a1a00000000000000000000aaaa", "az=a,disk=ssd,region=us-east"},
	{"core-02", "2b2b2b2b00000000000000000000bbbb", "az=b,disk=hdd,region=us-east"},
	{"core-03", "3c3c3c3c00000000000000000000cccc", "az=c,disk=ssd,region=us-west"},
}

// netFile keeps the range that was chosen.
const netFile = "net"

// Up makes a cluster in a directory where there is none and boots it. It must be called
// in a jail. With an error Remove takes away what there is of it. The machines are up when
// their systemd is; the daemons may still be on their way (Ready).
func Up(ctx context.Context, config Config) (*Cluster, error) {
	c := &Cluster{dir: config.Dir, Bridge: bridgeName(config.Dir), Net: config.Net, config: config}
	if !c.Net.IsValid() {
		taken, err := takenRanges()
		if err != nil {
			return nil, err
		}
		if c.Net, err = freeRange(taken); err != nil {
			return nil, err
		}
	}
	var err error
	if c.lock, err = Lock(c.dir); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(c.dir, netFile), []byte(c.Net.String()), 0o644); err != nil {
		return nil, err
	}
	if err := makeBridge(c.Bridge, c.Net); err != nil {
		return nil, err
	}
	if err := c.populate(); err != nil {
		return nil, err
	}
	keys, err := c.newKeys()
	if err != nil {
		return nil, err
	}
	return c, c.each(func(m *Machine) error {
		if err := m.install(c, keys); err != nil {
			return fmt.Errorf("%s: %w", m.Host, err)
		}
		return m.PowerOn(ctx)
	})
}

func (c *Cluster) populate() error {
	g, err := groupOf(c.dir)
	if err != nil {
		return err
	}
	for i, p := range personas {
		number := strconv.Itoa(i + 1)
		c.Machines = append(c.Machines, &Machine{
			Host: p.host, ID: p.id, Metadata: p.metadata, Address: nth(c.Net, firstHost+i).String(),
			name: c.Bridge + "-" + number, dir: filepath.Join(c.dir, p.host), bridge: c.Bridge, group: g.child(p.host),
		})
	}
	return nil
}

// KeyFile is the private key with which users core and root come in by ssh.
func (c *Cluster) KeyFile() string { return filepath.Join(c.dir, "id_ed25519") }

// KnownHosts is the file of the machines' own keys.
func (c *Cluster) KnownHosts() string { return filepath.Join(c.dir, "known_hosts") }

// Open is the cluster of a directory whose machines another process booted. Its
// machines can be entered and broken; only who booted them can power them on.
func Open(dir string) (*Cluster, error) {
	text, err := os.ReadFile(filepath.Join(dir, netFile))
	if err != nil {
		return nil, fmt.Errorf("no cluster in %s: %w", dir, err)
	}
	net, err := netip.ParsePrefix(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", netFile, err)
	}
	c := &Cluster{dir: dir, Bridge: bridgeName(dir), Net: net}
	return c, c.populate()
}

// Close ends the machines as a power loss does, and removes everything of the cluster.
func (c *Cluster) Close() error {
	err := c.each((*Machine).PowerOff)
	for _, m := range c.Machines {
		err = errors.Join(err, m.unmount())
	}
	if c.lock != nil {
		c.lock.Close()
	}
	return errors.Join(err, Remove(c.dir))
}

// each runs fn for all machines at once.
func (c *Cluster) each(fn func(*Machine) error) error {
	errs := make([]error, len(c.Machines))
	var wg sync.WaitGroup
	for i, m := range c.Machines {
		wg.Go(func() { errs[i] = fn(m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Remove takes away what is left of the cluster in dir, running or not: its processes
// with their mounts, its control groups, its links and its files. It is no error if
// there is nothing.
func Remove(dir string) error {
	g, err := groupOf(dir)
	if err != nil {
		return err
	}
	if err := g.remove(); err != nil {
		return err
	}
	if err := removeBridge(bridgeName(dir)); err != nil {
		return err
	}
	return removeFiles(dir)
}

// removeFiles removes a directory and what is in it, but nothing of what is mounted there.
func removeFiles(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, at := range slices.Backward(mounts) {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// Left lists what is still there of the cluster in dir, for those who want to see
// that nothing is.
func Left(dir string) (all []string, err error) {
	g, err := groupOf(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(g.path); err == nil {
		all = append(all, "control group "+g.path)
	}
	links, err := linksOf(bridgeName(dir))
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		all = append(all, "link "+l)
	}
	if _, err := os.Stat(dir); err == nil {
		all = append(all, "directory "+dir)
	}
	mounts, err := mountsBelow(dir)
	for _, m := range mounts {
		all = append(all, "mount "+m)
	}
	return all, err
}
