package proxy

import (
	"encoding/base64"
	"net/netip"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// hops are the headers that are about one connection and go no further, and those
// that whoever sends the message writes himself.
var hops = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "proxy-authenticate": true,
	"proxy-authorization": true, "te": true, "trailer": true, "trailers": true, "transfer-encoding": true,
	"upgrade": true, "content-length": true, "host": true, "expect": true, "date": true,
}

const (
	via       = "Via"
	forwarded = "X-Forwarded-For"
)

// outgoing gives the headers of a request as they are passed on.
func (p *Proxy) outgoing(req *gateway.Request) []env.WebHeader {
	drop := named(req.Header)
	var out []env.WebHeader
	var way, path []string
	has := make(map[string]bool)
	for _, h := range req.Header {
		name := strings.ToLower(h.Name)
		switch {
		case hops[name] || drop[name]:
		case name == "via":
			way = append(way, h.Value)
		case name == "x-forwarded-for":
			path = append(path, h.Value)
		default:
			has[name] = true
			out = append(out, env.WebHeader{Name: h.Name, Value: h.Value})
		}
	}
	if req.ContentType != "" && !has["content-type"] {
		out = append(out, env.WebHeader{Name: "Content-Type", Value: req.ContentType})
	}
	if req.User != "" && !has["authorization"] {
		secret := base64.StdEncoding.EncodeToString([]byte(req.User + ":" + req.Password))
		out = append(out, env.WebHeader{Name: "Authorization", Value: "Basic " + secret})
	}
	if ip := host(req.Remote); ip != "" {
		path = append(path, ip)
	}
	if len(path) > 0 {
		out = append(out, env.WebHeader{Name: forwarded, Value: strings.Join(path, ", ")})
	}
	way = append(way, "1.1 "+p.name)
	return append(out, env.WebHeader{Name: via, Value: strings.Join(way, ", ")})
}

// named are the headers that Connection says go no further.
func named(header []gateway.Header) map[string]bool {
	drop := make(map[string]bool)
	for _, h := range header {
		if !strings.EqualFold(h.Name, "Connection") {
			continue
		}
		for name := range strings.SplitSeq(h.Value, ",") {
			drop[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	return drop
}

// host is the address of a caller without its port; "" for a unix socket.
func host(remote string) string {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return at.Addr().String()
	}
	if at, err := netip.ParseAddr(remote); err == nil {
		return at.String()
	}
	return ""
}

// looped reports whether a request has come this way before, or through too many
// proxies to be on a sensible way.
func (p *Proxy) looped(req *gateway.Request) bool {
	count := 0
	for _, h := range req.Header {
		if !strings.EqualFold(h.Name, via) {
			continue
		}
		for hop := range strings.SplitSeq(h.Value, ",") {
			_, who, _ := strings.Cut(strings.TrimSpace(hop), " ")
			if who == p.name {
				return true
			}
			if strings.HasPrefix(who, "keelson-") {
				count++
			}
		}
	}
	return count >= hopsMax
}

// incoming gives the headers of an answer as they are handed on. Only that to a HEAD
// says how long a body would be.
func incoming(header []env.WebHeader, head bool) []gateway.Header {
	var lines []gateway.Header
	for _, h := range header {
		lines = append(lines, gateway.Header(h))
	}
	drop := named(lines)
	var out []gateway.Header
	for _, h := range lines {
		name := strings.ToLower(h.Name)
		if head && name == "content-length" || !hops[name] && !drop[name] {
			out = append(out, h)
		}
	}
	return out
}

func value(header []env.WebHeader, name string) string {
	for _, h := range header {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}
