package httpd

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/keelson/keelson/core/gateway"
)

// head is what a plain request says before its body.
type head struct {
	method      string
	path, query string
	contentType string
	credentials string // as on the wire, of user and password
	user        string
	password    string
	length      int64 // of the body
	close       bool  // the client wants the connection closed after the answer
	size        int   // of the head itself, in bytes
}

// keysPath is where requests are that need no help from net/http.
const keysPath = "/v2/keys"

// headMax is the longest head that is parsed here.
const headMax = 16 << 10

// verdict is what parseHead makes of some bytes.
type verdict uint8

const (
	unfinished verdict = iota // more bytes are needed
	plain                     // understood in full
	unusual                   // for net/http to judge
)

// parseHead reads the head of a request at the start of p. It knows a small part
// of HTTP/1.1 and is strict: what it calls plain means the same to any reader,
// and everything else is unusual, right or wrong.
func parseHead(p []byte, h *head) verdict {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) >= headMax || !looksPlain(p) {
			return unusual
		}
		return unfinished
	}
	line, rest, _ := bytes.Cut(p[:end+2], []byte("\r\n"))
	*h = head{contentType: h.contentType, credentials: h.credentials, user: h.user, password: h.password, size: end + 4}
	if !h.requestLine(line) || !h.fields(rest) {
		return unusual
	}
	return plain
}

// looksPlain reports whether the start of a head may become a plain one: it must
// not wait for the end of something that ends in another way.
func looksPlain(p []byte) bool {
	if len(p) > 0 && (p[0] < 'A' || p[0] > 'Z') {
		return false
	}
	for i, c := range p {
		if c == '\n' && (i == 0 || p[i-1] != '\r') {
			return false
		}
	}
	return true
}

// requestLine reads METHOD TARGET HTTP/1.1.
func (h *head) requestLine(line []byte) bool {
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || string(version) != "HTTP/1.1" || !bytes.HasPrefix(target, []byte(keysPath)) {
		return false
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	if h.method = plainMethod(method); h.method == "" {
		return false
	}
	h.path, h.query, _ = strings.Cut(string(target), "?")
	return escapesAreWhole(h.path)
}

// escapesAreWhole reports whether each % of a path has its two hex digits.
func escapesAreWhole(path string) bool {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		i += 2
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// plainMethod gives the constant equal to m, so that none is allocated.
func plainMethod(m []byte) string {
	for _, known := range [...]string{"GET", "PUT", "POST", "DELETE", "HEAD"} {
		if string(m) == known {
			return known
		}
	}
	return ""
}

// fields reads the header lines. A field that could change the meaning of others,
// or of the body, makes the request unusual.
func (h *head) fields(p []byte) bool {
	var host, length, typed, named bool
	contentType := h.contentType
	h.contentType = ""
	for len(p) > 0 {
		line, rest, _ := bytes.Cut(p, []byte("\r\n"))
		p = rest
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) || !isPlain(value) {
			return false
		}
		value = bytes.Trim(value, " \t")
		switch {
		case equalFold(name, "host"):
			if host || len(value) == 0 || !isHost(value) {
				return false
			}
			host = true
		case equalFold(name, "content-length"):
			n, ok := parseLength(value)
			if length || !ok {
				return false
			}
			h.length, length = n, true
		case equalFold(name, "content-type"):
			if typed {
				return false
			}
			typed = true
			h.contentType = same(contentType, value)
		case equalFold(name, "authorization"):
			if named || !h.basic(value) {
				return false
			}
			named = true
		case equalFold(name, "connection"):
			switch {
			case equalFold(value, "close"):
				h.close = true
			case !equalFold(value, "keep-alive"):
				return false
			}
		case isLoaded(name):
			return false
		}
	}
	if !named {
		h.credentials, h.user, h.password = "", "", ""
	}
	return host
}

// basic reads the credentials of basic authentication; other kinds are for net/http to
// judge. Those of the last request are remembered.
func (h *head) basic(value []byte) bool {
	if h.credentials != "" && h.credentials == string(value) {
		return true
	}
	kind, text, ok := bytes.Cut(value, []byte(" "))
	if !ok || !equalFold(kind, "basic") {
		return false
	}
	plain, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return false
	}
	h.user, h.password, ok = strings.Cut(string(plain), ":")
	h.credentials = string(value)
	return ok
}

// isLoaded reports fields that only net/http understands here.
func isLoaded(name []byte) bool {
	for _, loaded := range [...]string{"transfer-encoding", "expect", "upgrade", "trailer", "te", "http2-settings", "origin"} {
		if equalFold(name, loaded) {
			return true
		}
	}
	return false
}

// same gives last again if it is what value says: clients repeat themselves.
func same(last string, value []byte) string {
	if last == string(value) {
		return last
	}
	return string(value)
}

func parseLength(p []byte) (int64, bool) {
	if len(p) == 0 || len(p) > 15 {
		return 0, false
	}
	var n int64
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// equalFold compares ASCII text with lower, which is in lower case.
func equalFold(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isToken reports whether p can be a field's name: the common letters only.
func isToken(p []byte) bool {
	for _, c := range p {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(p) > 0
}

// isPlain reports whether p is printable ASCII, spaces and tabs.
func isPlain(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// isHost reports whether p is made of what names and addresses are made of.
func isHost(p []byte) bool {
	for _, c := range p {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}

// mayBeLocal is a quick look at whether a request could be a local read, so that
// others are not parsed twice.
func (s *Server) mayBeLocal(req *gateway.Request) bool {
	if req.Method != "GET" && req.Method != "HEAD" {
		return false
	}
	return s.opts.ReadDefaultLocal || strings.Contains(req.Query, "quorum")
}
