package machines

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A range is never one that the host has a route into, however wide or narrow.
func TestFreeRangeCollidesWithNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		taken := rapid.SliceOf(rapid.Custom(func(t *rapid.T) netip.Prefix {
			start := rapid.SampledFrom([]string{"10.213", "10.0", "172.30", "172.16", "198.18", "192.168"}).Draw(t, "start")
			a := netip.MustParseAddr(start + ".0.0").As4()
			a[2], a[3] = rapid.Byte().Draw(t, "third"), rapid.Byte().Draw(t, "fourth")
			return netip.PrefixFrom(netip.AddrFrom4(a), rapid.IntRange(8, 32).Draw(t, "bits")).Masked()
		})).Draw(t, "taken")
		net, err := freeRange(taken)
		if err != nil {
			return // the three ranges may all be taken
		}
		assert.Equal(t, 24, net.Bits())
		for _, p := range taken {
			assert.False(t, p.Overlaps(net), "%v overlaps %v", net, p)
		}
	})
	net, err := freeRange(nil)
	require.NoError(t, err)
	assert.Equal(t, "10.213.0.0/24", net.String())
	_, err = freeRange([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")})
	assert.Error(t, err)
}

// The kernel's names of links have at most 15 bytes.
func TestLinksHaveNamesThatTheKernelTakes(t *testing.T) {
	c := &Cluster{Bridge: bridgeName("/some/where"), Net: netip.MustParsePrefix("10.213.0.0/24"), dir: "/some/where"}
	require.NoError(t, c.populate())
	require.Len(t, c.Machines, 3)
	seen := map[string]bool{c.Bridge: true}
	for _, m := range c.Machines {
		assert.LessOrEqual(t, len(m.link()), 15)
		assert.False(t, seen[m.link()])
		seen[m.link()] = true
	}
	assert.Equal(t, "10.213.0.11", c.Machines[0].Address)
	assert.NotEqual(t, c.Bridge, bridgeName("/some/where/else"))
}

func TestMachineIDsAsUUIDs(t *testing.T) {
	assert.Equal(t, "1a1a1a1a-0000-0000-0000-00000000aaaa", dashed("1a1a1a1a00000000000000000000aaaa"))
}

func TestKeysAreThoseThatOpenSSHReads(t *testing.T) {
	k, err := newKey("somebody")
	require.NoError(t, err)
	assert.Contains(t, string(k.private), "BEGIN OPENSSH PRIVATE KEY")
	assert.Regexp(t, `^ssh-ed25519 \S+ somebody\n$`, k.public)
}

// One process at a time has a cluster directory; what dead ones left is swept.
func TestLockAndSweep(t *testing.T) {
	base := t.TempDir()
	held, err := Lock(filepath.Join(base, "held"))
	require.NoError(t, err)
	_, err = Lock(filepath.Join(base, "held"))
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	left, err := Lock(filepath.Join(base, "left"))
	require.NoError(t, err)
	left.Close()
	if os.Getuid() != 0 || Check() != nil {
		held.Close()
		return // sweeping needs what machines need
	}
	require.NoError(t, Sweep(filepath.Join(base, "*")))
	assert.DirExists(t, filepath.Join(base, "held"))
	assert.NoDirExists(t, filepath.Join(base, "left"))
	held.Close()
}

func TestPathsOfRequiredPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Check()
	require.Error(t, err)
	if os.Getuid() == 0 {
		assert.ErrorContains(t, err, "no program systemd-nspawn: install the Debian package systemd-container")
	} else {
		assert.ErrorContains(t, err, "need root")
	}
}
