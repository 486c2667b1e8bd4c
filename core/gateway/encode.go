package gateway

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/keelson/keelson/core/store"
)

// AppendEvent appends e as the keys API shows it, with a newline.
func AppendEvent(dst []byte, e *store.Event) []byte {
	dst = append(dst, `{"action":"`...)
	dst = append(dst, e.Action...)
	dst = append(dst, `","node":`...)
	dst = AppendNode(dst, e.Node)
	if e.Prev != nil {
		dst = append(dst, `,"prevNode":`...)
		dst = AppendNode(dst, e.Prev)
	}
	return append(dst, '}', '\n')
}

// AppendGet appends the answer of a read that found n, with a newline.
func AppendGet(dst []byte, n *store.Node) []byte {
	dst = append(dst, `{"action":"get","node":`...)
	dst = AppendNode(dst, n)
	return append(dst, '}', '\n')
}

// AppendError appends the body of a refusal, with a newline.
func AppendError(dst []byte, e *store.Error) []byte {
	dst = append(dst, `{"errorCode":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, e.Code.Message())
	if e.Cause != "" {
		dst = append(dst, `,"cause":`...)
		dst = appendString(dst, e.Cause)
	}
	dst = append(dst, `,"index":`...)
	dst = strconv.AppendUint(dst, uint64(e.Index), 10)
	return append(dst, '}', '\n')
}

// AppendNode appends n with all its children. What is empty or zero is left out,
// but a file always shows its value. The root has no key.
func AppendNode(dst []byte, n *store.Node) []byte {
	dst = append(dst, '{')
	open := len(dst)
	if n.Key != "/" {
		dst = append(dst, `"key":`...)
		dst = append(appendString(dst, n.Key), ',')
	}
	switch {
	case n.Dir:
		dst = append(dst, `"dir":true,`...)
	case !n.Deleted:
		dst = append(dst, `"value":`...)
		dst = append(appendString(dst, n.Value), ',')
	}
	if n.Expires != 0 {
		dst = appendExpiry(dst, n)
	}
	if len(n.Nodes) > 0 {
		dst = appendChildren(dst, n.Nodes)
	}
	if n.Modified != 0 {
		dst = append(dst, `"modifiedIndex":`...)
		dst = append(strconv.AppendUint(dst, uint64(n.Modified), 10), ',')
	}
	if n.Created != 0 {
		dst = append(dst, `"createdIndex":`...)
		dst = append(strconv.AppendUint(dst, uint64(n.Created), 10), ',')
	}
	if len(dst) > open {
		dst = dst[:len(dst)-1] // the last comma
	}
	return append(dst, '}')
}

func appendChildren(dst []byte, nodes []*store.Node) []byte {
	dst = append(dst, `"nodes":[`...)
	for i, c := range nodes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendNode(dst, c)
	}
	return append(dst, ']', ',')
}

func appendExpiry(dst []byte, n *store.Node) []byte {
	dst = append(dst, `"expiration":"`...)
	dst = time.Unix(0, n.Expires).UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"', ',')
	if left := secondsUp(n.TTL); left != 0 {
		dst = append(dst, `"ttl":`...)
		dst = append(strconv.AppendInt(dst, left, 10), ',')
	}
	return dst
}

// secondsUp rounds what is left up, and what is overdue towards zero.
func secondsUp(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++
	}
	return s
}

// appendString appends s as a JSON string that is also safe inside HTML and
// JavaScript. Bytes that are not UTF-8 become U+FFFD, escaped.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0 // s[plain:i] needs no escape and is not copied yet
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if !special[c] {
				i++
				continue
			}
			dst = appendEscape(append(dst, s[plain:i]...), c)
			i++
			plain = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if text := escapeRune(r, size); text != "" {
			dst = append(append(dst, s[plain:i]...), text...)
			plain = i + size
		}
		i += size
	}
	return append(append(dst, s[plain:]...), '"')
}

// special marks the ASCII characters that are escaped.
var special = func() (t [utf8.RuneSelf]bool) {
	for c := range ' ' {
		t[c] = true
	}
	for _, c := range `"\<>&` {
		t[c] = true
	}
	return t
}()

func escapeRune(r rune, size int) string {
	switch {
	case r == utf8.RuneError && size == 1:
		return `\ufffd`
	case r == '\u2028':
		return `\u2028`
	case r == '\u2029':
		return `\u2029`
	}
	return ""
}

// appendEscape writes backspace and form feed as \u0008 and \u000c, as the
// original does; later versions of encoding/json have shorter forms.
func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}
