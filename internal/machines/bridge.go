package machines

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// firstHost is the last number in the address of the first machine. The host's own
// on the bridge is 1.
const firstHost = 11

// bridgeName is no longer than the kernel allows.
func bridgeName(dir string) string { return "kl" + tag(dir) }

// nth is an address of a range.
func nth(net netip.Prefix, n int) netip.Addr {
	a := net.Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

// freeRange is the first of some hundred ranges that overlaps with none of those taken.
func freeRange(taken []netip.Prefix) (netip.Prefix, error) {
	for _, start := range []netip.Addr{
		netip.AddrFrom4([4]byte{10, 213, 0, 0}),
		netip.AddrFrom4([4]byte{172, 30, 0, 0}),
		netip.AddrFrom4([4]byte{198, 18, 0, 0}),
	} {
		for i := range 256 {
			a := start.As4()
			a[2] = byte(i)
			net := netip.PrefixFrom(netip.AddrFrom4(a), 24)
			if !slices.ContainsFunc(taken, net.Overlaps) {
				return net, nil
			}
		}
	}
	return netip.Prefix{}, errors.New("no free address range: this host has routes to 10.213.0.0/16, 172.30.0.0/16 and 198.18.0.0/16")
}

// halves are routes so wide that they stand for a default route, as some tunnels
// set them.
const halves = 2

// takenRanges are the ranges to which this host has routes, and where it asks for names.
func takenRanges() (taken []netip.Prefix, err error) {
	out, err := ip("-j", "-4", "route", "show", "table", "all")
	if err != nil {
		return nil, err
	}
	var routes []struct{ Dst string }
	if len(out) > 0 {
		if err := json.Unmarshal(out, &routes); err != nil {
			return nil, fmt.Errorf("ip route: %w", err)
		}
	}
	for _, r := range routes {
		if p, ok := rangeOf(r.Dst); ok && p.Bits() >= halves {
			taken = append(taken, p)
		}
	}
	names, _ := os.ReadFile("/etc/resolv.conf")
	for word := range strings.FieldsSeq(string(names)) {
		if p, ok := rangeOf(word); ok {
			taken = append(taken, p)
		}
	}
	return taken, nil
}

// rangeOf reads an IPv4 address or range.
func rangeOf(word string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(word)
	if a, err2 := netip.ParseAddr(word); err2 == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	return p, err == nil && p.Addr().Is4()
}

func makeBridge(name string, net netip.Prefix) error {
	for _, line := range []string{
		// An address of its own: otherwise it would change with the ports, and machines
		// would send to one that is gone.
		fmt.Sprintf("link add %s address 02:%s:%s:%s:%s:01 type bridge", name, name[2:4], name[4:6], name[6:8], name[8:10]),
		fmt.Sprintf("addr add %v/%d dev %s", nth(net, 1), net.Bits(), name),
		"link set " + name + " up",
	} {
		if _, err := ip(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// linksOf are a bridge and its ports, the bridge last.
func linksOf(bridge string) (names []string, err error) {
	if !exists(bridge) {
		return nil, nil
	}
	out, err := ip("-j", "link", "show", "master", bridge)
	if err != nil {
		return nil, err
	}
	var links []struct{ Ifname string }
	if err := json.Unmarshal(out, &links); err != nil {
		return nil, fmt.Errorf("ip link: %w", err)
	}
	for _, l := range links {
		if l.Ifname != "" {
			names = append(names, l.Ifname)
		}
	}
	return append(names, bridge), nil
}

func removeBridge(name string) error {
	links, err := linksOf(name)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := removeLink(l); err != nil {
			return err
		}
	}
	return nil
}

// removeLink removes a link; it may be gone already, or be about to go with its other
// end.
func removeLink(name string) error {
	if _, err := ip("link", "del", name); err != nil && exists(name) {
		return err
	}
	return nil
}

func exists(link string) bool {
	_, err := ip("link", "show", link)
	return err == nil
}

// ip runs the program of that name and gives what it prints.
func ip(args ...string) ([]byte, error) {
	out, err := exec.Command("ip", args...).Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return nil, fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(ended.Stderr)))
	}
	if err != nil {
		return nil, fmt.Errorf("ip %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}
