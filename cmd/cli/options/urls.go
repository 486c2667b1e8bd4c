package options

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// urls reads URLs joined by commas.
func urls(list string, sockets bool) ([]string, error) {
	var all []string
	for raw := range strings.SplitSeq(list, ",") {
		raw = strings.TrimSpace(raw)
		if path, ok := SocketPath(raw); ok && sockets && path != "" {
			all = append(all, raw)
			continue
		}
		if _, err := parseURL(raw); err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// listenURLs reads URLs that name an address of this machine.
func listenURLs(list string, sockets bool) ([]string, error) {
	all, err := urls(list, sockets)
	if err != nil {
		return nil, err
	}
	for _, raw := range all {
		if _, ok := SocketPath(raw); ok {
			continue
		}
		u, _ := parseURL(raw)
		if _, err := netip.ParseAddr(u.Hostname()); err != nil && u.Hostname() != "localhost" {
			return nil, fmt.Errorf("URL %q: want an IP address or localhost to listen on", raw)
		}
	}
	return all, nil
}

// SocketPath gives the file of a URL such as unix:///run/keelson.sock, or unix://name
// for one in the working directory.
func SocketPath(raw string) (path string, ok bool) { return strings.CutPrefix(raw, "unix://") }

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "" || u.Port() == "":
		return nil, fmt.Errorf("URL %q: want http://host:port or https://host:port", raw)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("URL %q: want http://host:port and nothing more", raw)
	}
	return u, nil
}

// isLoopback reports whether only this machine reaches what listens there.
func isLoopback(raw string) bool {
	if _, ok := SocketPath(raw); ok {
		return true
	}
	u, err := parseURL(raw)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// origins reads what cors says.
func origins(list string) ([]string, error) {
	var all []string
	for raw := range strings.SplitSeq(list, ",") {
		raw = strings.TrimSpace(raw)
		if u, err := url.Parse(raw); raw != "*" && (err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "") {
			return nil, fmt.Errorf("%q: want * or an origin such as http://example.com:8080", raw)
		}
		all = append(all, strings.TrimSuffix(raw, "/"))
	}
	return all, nil
}
