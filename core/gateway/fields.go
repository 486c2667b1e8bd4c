package gateway

import (
	"errors"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/store"
)

// FieldKind is what a field's text has to be.
type FieldKind uint8

// The kinds of fields.
const (
	TextField  FieldKind = iota + 1 // any text
	IndexField                      // a decimal number of 64 bits; 0 is as if not given
	BoolField                       // 1 t T TRUE true True 0 f F FALSE false False
	TTLField                        // seconds, a decimal number of 64 bits; empty is none
)

// String names the kind in the reference page.
func (k FieldKind) String() string {
	return [...]string{TextField: "text", IndexField: "index", BoolField: "boolean", TTLField: "seconds"}[k]
}

// Field is one field that a request of the keys API may carry, in its query or,
// for PUT and POST, in a form.
type Field struct {
	Name string
	Kind FieldKind
	// Code and Cause are the refusal of a text that is not of the kind.
	Code  store.Code
	Cause string
	// Methods lists where the field means something. It is checked everywhere.
	Methods string

	set func(v *values, text string) bool // false: malformed
	// rule is what must hold once this field and all before it are read, whether
	// or not the field is given.
	rule func(v *values, method string) *store.Error
}

// values are the fields of one request, read.
type values struct {
	value, prevValue     string
	prevIndex, waitIndex store.Index
	recursive, sorted    bool
	wait, stream, dir    bool
	quorum, prevExist    maybe
	noValue, refresh     bool
	ttlGiven, endless    bool // endless: more seconds than time has
	ttl                  time.Duration
}

// maybe is a boolean that may be missing.
type maybe uint8

const (
	unsaid maybe = iota
	no
	yes
)

// fields holds every field in the order in which they are checked; the first
// failure is the answer. Parsing, the reference page and fuzzing range over it.
var fields = [...]Field{
	{
		Name: "value", Kind: TextField, Methods: "PUT POST",
		set: func(v *values, s string) bool { v.value = s; return true },
	},
	{
		Name: "prevIndex", Kind: IndexField, Methods: "PUT DELETE",
		Code: store.CodeIndexNotNumber, Cause: `invalid value for "prevIndex"`,
		set: func(v *values, s string) bool { return setIndex(&v.prevIndex, s) },
	},
	{
		Name: "waitIndex", Kind: IndexField, Methods: "GET",
		Code: store.CodeIndexNotNumber, Cause: `invalid value for "waitIndex"`,
		set: func(v *values, s string) bool { return setIndex(&v.waitIndex, s) },
	},
	{
		Name: "recursive", Kind: BoolField, Methods: "GET HEAD DELETE",
		Code: store.CodeInvalidField, Cause: `invalid value for "recursive"`,
		set: func(v *values, s string) bool { return setBool(&v.recursive, s) },
	},
	{
		Name: "sorted", Kind: BoolField, Methods: "GET HEAD",
		Code: store.CodeInvalidField, Cause: `invalid value for "sorted"`,
		set: func(v *values, s string) bool { return setBool(&v.sorted, s) },
	},
	{
		Name: "wait", Kind: BoolField, Methods: "GET",
		Code: store.CodeInvalidField, Cause: `invalid value for "wait"`,
		set: func(v *values, s string) bool { return setBool(&v.wait, s) },
	},
	{
		Name: "dir", Kind: BoolField, Methods: "PUT POST DELETE",
		Code: store.CodeInvalidField, Cause: `invalid value for "dir"`,
		set: func(v *values, s string) bool { return setBool(&v.dir, s) },
	},
	{
		Name: "quorum", Kind: BoolField, Methods: "GET HEAD",
		Code: store.CodeInvalidField, Cause: `invalid value for "quorum"`,
		set: func(v *values, s string) bool { return setMaybe(&v.quorum, s) },
	},
	{
		Name: "stream", Kind: BoolField, Methods: "GET",
		Code: store.CodeInvalidField, Cause: `invalid value for "stream"`,
		set:  func(v *values, s string) bool { return setBool(&v.stream, s) },
		rule: waitIsForGet,
	},
	{
		Name: "prevValue", Kind: TextField, Methods: "PUT DELETE",
		Code: store.CodePrevValueEmpty, Cause: `"prevValue" cannot be empty`,
		set: func(v *values, s string) bool { v.prevValue = s; return s != "" },
	},
	{
		Name: "noValueOnSuccess", Kind: BoolField, Methods: "PUT POST",
		Code: store.CodeInvalidField, Cause: `invalid value for "noValueOnSuccess"`,
		set: func(v *values, s string) bool { return setBool(&v.noValue, s) },
	},
	{
		Name: "ttl", Kind: TTLField, Methods: "PUT POST",
		Code: store.CodeTTLNotNumber, Cause: `invalid value for "ttl"`,
		set: setTTL,
	},
	{
		Name: "prevExist", Kind: BoolField, Methods: "PUT",
		Code: store.CodeInvalidField, Cause: `invalid value for prevExist`,
		set: func(v *values, s string) bool { return setMaybe(&v.prevExist, s) },
	},
	{
		Name: "refresh", Kind: BoolField, Methods: "PUT",
		Code: store.CodeInvalidField, Cause: `invalid value for refresh`,
		set:  func(v *values, s string) bool { return setBool(&v.refresh, s) },
		rule: refreshKeepsValue,
	},
}

// Fields gives every field in the order in which they are checked.
func Fields() []Field { return append([]Field(nil), fields[:]...) }

func setIndex(dst *store.Index, s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	*dst = store.Index(n)
	return err == nil
}

func setBool(dst *bool, s string) (ok bool) {
	b, err := strconv.ParseBool(s)
	*dst = b
	return err == nil
}

func setMaybe(dst *maybe, s string) bool {
	b, err := strconv.ParseBool(s)
	*dst = no
	if b {
		*dst = yes
	}
	return err == nil
}

// setTTL takes whole seconds. A number of seconds that time cannot hold (292
// years and more) is a promise to keep the key for ever.
func setTTL(v *values, s string) bool {
	if s == "" {
		return true
	}
	seconds, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return false
	}
	v.ttlGiven = true
	v.endless = seconds > math.MaxInt64/uint64(time.Second)
	if !v.endless {
		v.ttl = time.Duration(seconds) * time.Second
	}
	return true
}

func waitIsForGet(v *values, method string) *store.Error {
	if v.wait && method != "GET" {
		return &store.Error{Code: store.CodeInvalidField, Cause: `"wait" can only be used with GET requests`}
	}
	return nil
}

func refreshKeepsValue(v *values, _ string) *store.Error {
	switch {
	case !v.refresh:
		return nil
	case v.value != "":
		return &store.Error{Code: store.CodeRefreshWithValue, Cause: `A value was provided on a refresh`}
	case !v.ttlGiven:
		return &store.Error{Code: store.CodeRefreshNoTTL, Cause: `No TTL value set`}
	}
	return nil
}

// form is the text of each field, as the request gives it: place i is fields[i].
type form struct {
	given [len(fields)]bool
	text  [len(fields)]string
}

// readForm takes the fields of a request from its body and query. A field of the
// body wins over one of the query, the first of several wins.
func readForm(req *Request) (form, *store.Error) {
	var f form
	err := f.readBody(req)
	if e := f.scan(req.Query); err == nil {
		err = e
	}
	if err != nil {
		return f, &store.Error{Code: store.CodeInvalidForm, Cause: err.Error()}
	}
	return f, nil
}

var (
	errTooBig    = errors.New("http: POST too large")
	errSemicolon = errors.New("invalid semicolon separator in query")
)

// readBody reads a form; bodies of any other type, and those of methods that have
// none, are ignored.
func (f *form) readBody(req *Request) error {
	if req.Method != "PUT" && req.Method != "POST" || !isForm(req.ContentType) {
		return nil
	}
	if req.BodyTooBig || len(req.Body) > BodyMax {
		return errTooBig
	}
	return f.scan(string(req.Body))
}

const formType = "application/x-www-form-urlencoded"

func isForm(contentType string) bool {
	if contentType == formType {
		return true
	}
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), formType)
}

// scan reads "name=value&…". Everything is looked at, also what is not wanted, so
// that a malformed part is an error wherever it stands. As in Go's parser, which
// clients know, the first bad escape is reported unless a semicolon is found.
func (f *form) scan(s string) (err error) {
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if strings.Contains(pair, ";") {
			err = errSemicolon
			continue
		}
		if e := f.add(pair); err == nil {
			err = e
		}
	}
	return err
}

func (f *form) add(pair string) error {
	name, text, _ := strings.Cut(pair, "=")
	name, err := url.QueryUnescape(name)
	if err != nil {
		return err
	}
	text, err = url.QueryUnescape(text)
	if err != nil {
		return err
	}
	for i := range fields {
		if fields[i].Name != name {
			continue
		}
		if !f.given[i] {
			f.given[i], f.text[i] = true, text
		}
		return nil
	}
	return nil
}

// read checks the fields in order.
func (f *form) read(method string) (v values, err *store.Error) {
	for i := range fields {
		if f.given[i] && !fields[i].set(&v, f.text[i]) {
			return v, &store.Error{Code: fields[i].Code, Cause: fields[i].Cause}
		}
		if fields[i].rule == nil {
			continue
		}
		if err = fields[i].rule(&v, method); err != nil {
			return v, err
		}
	}
	return v, nil
}
