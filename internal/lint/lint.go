// Package lint holds the house rules that a compiler cannot: what deterministic code may not touch.
//
// The rules run as ordinary tests of the repository. An exception is a comment
// on the line before, "//lint:RULE reason", and is counted.
package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// Finding is one break of a rule.
type Finding struct {
	Pos  token.Position
	Rule string // the word an exception names
	Text string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s (rule %s)", f.Pos.Filename, f.Pos.Line, f.Text, f.Rule)
}

// Report is what Determinism found, and how many exceptions it honoured.
type Report struct {
	Findings   []Finding
	Exceptions []Finding // Text is the reason given
}

// Load parses and type-checks the packages that match the patterns, without
// their tests, as a build with the given tags sees them.
func Load(dir string, tags []string, patterns ...string) ([]*packages.Package, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir:        dir,
		BuildFlags: []string{"-tags=" + strings.Join(tags, ",")},
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedImports |
			packages.NeedTypes | packages.NeedTypesInfo,
	}, patterns...)
	if err != nil {
		return nil, err
	}
	for _, p := range pkgs {
		for _, e := range p.Errors {
			return nil, fmt.Errorf("load %s: %w", p.PkgPath, e)
		}
	}
	return pkgs, nil
}

// standard lists the packages of the standard library that deterministic code
// may import: pure ones, of which forbiddenNames takes away what is not.
var standard = words(`
	bufio bytes cmp context crypto/sha1 crypto/sha256 encoding/base64 encoding/binary encoding/hex encoding/json errors fmt
	hash hash/crc32 hash/crc64 hash/fnv html io io/fs iter maps math math/bits math/rand/v2 net/netip net/textproto
	net/url path regexp slices sort strconv strings text/tabwriter time unicode unicode/utf8`)

// whyNot gives the reason for packages that people reach for.
var whyNot = map[string]string{
	"os":          "the file system and environment belong to env.Disk and the command line",
	"net":         "sockets belong to env.Net; net/netip and net/url are fine",
	"net/http":    "HTTP belongs to realnet; the gateway has request values",
	"sync":        "one loop owns a node, so nothing needs a lock",
	"sync/atomic": "one loop owns a node, so nothing needs an atomic",
	"crypto/rand": "randomness comes from env.Rand",
	"math/rand":   "randomness comes from env.Rand",
	"log":         "it reads the wall clock; use env.Log",
	"log/slog":    "it reads the wall clock; use env.Log",
	"unsafe":      "addresses differ in every process",
	"reflect":     "it walks maps in their random order and shows addresses",
	"runtime":     "nothing may hang on the scheduler or the collector",
}

// allowedModules lists the modules of others that core may use, each with the
// reason it is deterministic.
var allowedModules = map[string]string{
	"go.etcd.io/raft/v3":            "a state machine without goroutines; its one random draw is made constant in simulator processes",
	"github.com/klauspost/compress": "compresses block by block, in the calling goroutine where concurrency is 1",
	"golang.org/x/crypto":           "bcrypt hashes and checks; its salt comes from crypto/rand, which simulator processes make constant",
	"google.golang.org/protobuf":    "encodes fields in order; what is hashed or stored is marshalled deterministically",
}

// forbiddenNames maps the full name of a function, method or variable to the
// reason it may not be used in any way.
var forbiddenNames = map[string]string{
	"time.Now": "env.Clock tells time", "time.Since": "env.Clock tells time", "time.Until": "env.Clock tells time",
	"time.Sleep": "nothing blocks", "time.After": "use env.Clock.After", "time.AfterFunc": "use env.Clock.After",
	"time.NewTimer": "use env.Clock.After", "time.NewTicker": "use env.Clock.After", "time.Tick": "use env.Clock.After",
	"time.Local": "machines differ in their time zone; use UTC", "(time.Time).Local": "machines differ in their time zone; use UTC",
	"time.LoadLocation":   "it reads a file",
	"context.WithTimeout": "it reads the wall clock", "context.WithTimeoutCause": "it reads the wall clock",
	"context.WithDeadline": "it reads the wall clock", "context.WithDeadlineCause": "it reads the wall clock",
	"context.AfterFunc": "it starts a goroutine", "context.WithCancel": "it may start a goroutine", "context.WithCancelCause": "it may start a goroutine",
	"sort.Slice": "it is unstable; use slices.SortFunc with a total order", "sort.Sort": "it is unstable; use slices.SortFunc with a total order",
	"fmt.Print": "output belongs to the command line", "fmt.Printf": "output belongs to the command line", "fmt.Println": "output belongs to the command line",
	"iter.Pull": "a coroutine hides state in its stack", "iter.Pull2": "a coroutine hides state in its stack",
}

// local lists functions whose result is in the machine's time zone unless the
// call is followed by UTC at once.
var local = words("time.Unix time.UnixMilli time.UnixMicro")

// unordered lists functions whose result comes in the order of a map.
var unordered = words("maps.Keys maps.Values maps.All")

func words(s string) map[string]bool {
	m := make(map[string]bool)
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

// Options relaxes rules for floors that have a reason to break them.
type Options struct {
	// Module is the import path prefix that counts as our own.
	Module string
	// Imports are further import paths that are allowed.
	Imports []string
	// Names are forbidden names that are allowed after all.
	Names []string
	// Integers are the import paths of packages that may not use floating point,
	// because replicas must agree on what they decide.
	Integers []string
}

// Determinism looks through the packages for anything that could make two runs
// of one seed differ, or that touches the world outside.
func Determinism(pkgs []*packages.Package, o Options) Report {
	var r Report
	for _, p := range pkgs {
		for _, f := range p.Syntax {
			c := &checker{pkg: p, opts: o, reasons: exceptions(p.Fset, f), integers: slices.Contains(o.Integers, p.PkgPath)}
			c.imports(f)
			ast.PreorderStack(f, nil, c.node)
			r.Findings = append(r.Findings, c.found...)
			r.Exceptions = append(r.Exceptions, c.excused...)
		}
	}
	return r
}

type exception struct{ rule, reason string }

// exceptions maps a line to the exception that covers it: the one written on the
// line before, or at its end.
func exceptions(fset *token.FileSet, f *ast.File) map[int]exception {
	m := make(map[int]exception)
	for _, g := range f.Comments {
		for _, c := range g.List {
			rest, ok := strings.CutPrefix(c.Text, "//lint:")
			if !ok {
				continue
			}
			rule, reason, _ := strings.Cut(rest, " ")
			line := fset.Position(c.Pos()).Line
			m[line] = exception{rule, strings.TrimSpace(reason)}
			m[line+1] = exception{rule, strings.TrimSpace(reason)}
		}
	}
	return m
}

type checker struct {
	pkg      *packages.Package
	opts     Options
	reasons  map[int]exception
	integers bool
	found    []Finding
	excused  []Finding
}

func (c *checker) report(pos token.Pos, rule, format string, args ...any) {
	at := c.pkg.Fset.Position(pos)
	f := Finding{Pos: at, Rule: rule, Text: fmt.Sprintf(format, args...)}
	if e, ok := c.reasons[at.Line]; ok && e.rule == rule {
		if e.reason != "" {
			f.Text = e.reason
			c.excused = append(c.excused, f)
			return
		}
		f.Text += "; the exception gives no reason"
	}
	c.found = append(c.found, f)
}

func (c *checker) imports(f *ast.File) {
	for _, spec := range f.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		if spec.Name != nil && spec.Name.Name == "." {
			c.report(spec.Pos(), "import", "dot import of %s: a name should say where it comes from", path)
		}
		switch {
		case standard[path], within(path, c.opts.Module), slices.Contains(c.opts.Imports, path), allowedModule(path):
		case whyNot[path] != "":
			c.report(spec.Pos(), "import", "import of %s: %s", path, whyNot[path])
		default:
			c.report(spec.Pos(), "import", "import of %s: not on the list of packages known to be deterministic", path)
		}
	}
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func allowedModule(path string) bool {
	for m := range allowedModules {
		if within(path, m) {
			return true
		}
	}
	return false
}

func (c *checker) node(n ast.Node, stack []ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.report(n.Pos(), "goroutine", "go statement: one loop owns a node")
	case *ast.SelectStmt:
		c.report(n.Pos(), "goroutine", "select: the choice among ready cases is random")
	case *ast.ChanType:
		c.report(n.Pos(), "goroutine", "channel: completions are callbacks on the loop")
	case *ast.RangeStmt:
		c.rangeOver(n)
	case *ast.Ident:
		c.use(n, stack)
	case *ast.CallExpr:
		c.builtin(n)
	case *ast.BasicLit:
		if n.Kind == token.STRING && strings.Contains(n.Value, "%p") {
			c.report(n.Pos(), "name", "%%p prints an address, which differs in every process")
		}
	case *ast.FuncDecl:
		if n.Recv == nil && n.Name.Name == "init" {
			c.report(n.Pos(), "init", "init function: nothing happens before main asks for it")
		}
	case *ast.AssignStmt:
		for _, l := range n.Lhs {
			c.write(l)
		}
	case *ast.IncDecStmt:
		c.write(n.X)
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			c.write(n.X)
		}
	case *ast.SelectorExpr:
		c.method(n)
	}
	if e, ok := n.(ast.Expr); ok && c.integers {
		c.float(e)
	}
	return true
}

func (c *checker) rangeOver(n *ast.RangeStmt) {
	if isMap(c.pkg.TypesInfo.TypeOf(n.X)) {
		c.report(n.Pos(), "commutative", "range over a map: its order is random; range over slices.Sorted(maps.Keys(m))")
	}
	for _, e := range []ast.Expr{n.Key, n.Value} {
		if e != nil && n.Tok == token.ASSIGN {
			c.write(e)
		}
	}
}

// isMap reports whether values of t are maps, also where t is a type parameter
// whose constraint allows one.
func isMap(t types.Type) bool {
	if t == nil {
		return false
	}
	if p, ok := t.(*types.TypeParam); ok {
		return constraintHasMap(p.Constraint().Underlying())
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

func constraintHasMap(t types.Type) bool {
	i, ok := t.(*types.Interface)
	if !ok {
		return isMap(t)
	}
	for e := range i.EmbeddedTypes() {
		switch e := e.(type) {
		case *types.Union:
			for term := range e.Terms() {
				if isMap(term.Type()) {
					return true
				}
			}
		default:
			if constraintHasMap(e.Underlying()) {
				return true
			}
		}
	}
	return false
}

// use looks at every mention of a function, method or variable, called or not.
func (c *checker) use(id *ast.Ident, stack []ast.Node) {
	obj := c.pkg.TypesInfo.Uses[id]
	name := fullName(obj)
	if name == "" || slices.Contains(c.opts.Names, name) {
		return
	}
	switch why, bad := forbiddenNames[name]; {
	case bad:
		c.report(id.Pos(), "name", "%s: %s", name, why)
	case unordered[name] && c.caller(stack) != "slices.Sorted":
		c.report(id.Pos(), "commutative", "%s outside slices.Sorted: its order is random", name)
	case name == "slices.SortFunc":
		c.report(id.Pos(), "total", "slices.SortFunc is unstable: say which unique key makes the order total")
	case local[name] && !c.inUTC(stack):
		c.report(id.Pos(), "name", "%s: machines differ in their time zone; add .UTC()", name)
	case strings.HasPrefix(name, "math/rand/v2.") && !strings.HasPrefix(name, "math/rand/v2.New"):
		if _, fn := obj.(*types.Func); fn {
			c.report(id.Pos(), "name", "%s: the global generator is seeded by the process; use env.Rand", name)
		}
	}
}

func fullName(obj types.Object) string {
	switch obj := obj.(type) {
	case *types.Func:
		return obj.Origin().FullName()
	case *types.Var:
		if isPackageVar(obj) {
			return obj.Pkg().Path() + "." + obj.Name()
		}
	}
	return ""
}

// enclosing gives the call of the function that the top of the stack names, and
// how deep in the stack it stands.
func enclosing(stack []ast.Node) (*ast.CallExpr, int) {
	for i := len(stack) - 1; i >= 0; i-- {
		switch n := stack[i].(type) {
		case *ast.SelectorExpr, *ast.IndexExpr, *ast.IndexListExpr:
		case *ast.CallExpr:
			return n, i
		default:
			return nil, -1
		}
	}
	return nil, -1
}

// caller names the function that the result of the call goes to at once.
func (c *checker) caller(stack []ast.Node) string {
	call, at := enclosing(stack)
	if call == nil || at == 0 {
		return ""
	}
	outer, ok := stack[at-1].(*ast.CallExpr)
	if !ok || outer.Fun == call {
		return ""
	}
	return c.called(outer)
}

func (c *checker) called(call *ast.CallExpr) string {
	fun := ast.Unparen(call.Fun)
	if x, ok := fun.(*ast.IndexExpr); ok {
		fun = x.X
	}
	if s, ok := fun.(*ast.SelectorExpr); ok {
		return fullName(c.pkg.TypesInfo.Uses[s.Sel])
	}
	return ""
}

// inUTC reports whether the call's result is turned into UTC at once.
func (c *checker) inUTC(stack []ast.Node) bool {
	call, at := enclosing(stack)
	if call == nil || at == 0 {
		return false
	}
	s, ok := stack[at-1].(*ast.SelectorExpr)
	return ok && s.X == call && s.Sel.Name == "UTC"
}

// builtin finds the builtin functions that change what they are given.
func (c *checker) builtin(n *ast.CallExpr) {
	id, ok := n.Fun.(*ast.Ident)
	if !ok || len(n.Args) == 0 {
		return
	}
	if b, ok := c.pkg.TypesInfo.Uses[id].(*types.Builtin); ok {
		switch b.Name() {
		case "delete", "clear", "copy":
			c.write(n.Args[0])
		}
	}
}

// method finds calls that take the address of a package variable for a receiver.
func (c *checker) method(n *ast.SelectorExpr) {
	s := c.pkg.TypesInfo.Selections[n]
	if s == nil || s.Kind() == types.FieldVal {
		return
	}
	fn, ok := s.Obj().(*types.Func)
	if !ok {
		return
	}
	_, takesPointer := fn.Signature().Recv().Type().(*types.Pointer)
	_, isPointer := s.Recv().Underlying().(*types.Pointer)
	if takesPointer && !isPointer {
		c.write(n.X)
	}
}

func (c *checker) float(e ast.Expr) {
	t := c.pkg.TypesInfo.TypeOf(e)
	if t == nil {
		return
	}
	b, ok := t.Underlying().(*types.Basic)
	if ok && b.Info()&types.IsFloat != 0 {
		c.report(e.Pos(), "float", "floating point: processors differ in how they round; use integers")
	}
}

// write reports a change of a package-level variable: two nodes in one process
// would share it.
func (c *checker) write(e ast.Expr) {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
			continue
		case *ast.IndexExpr:
			e = x.X
			continue
		case *ast.SliceExpr:
			e = x.X
			continue
		case *ast.StarExpr:
			e = x.X
			continue
		case *ast.SelectorExpr:
			if obj := c.pkg.TypesInfo.Uses[x.Sel]; isPackageVar(obj) {
				c.global(x, obj)
				return
			}
			e = x.X
			continue
		case *ast.Ident:
			if obj := c.pkg.TypesInfo.Uses[x]; isPackageVar(obj) {
				c.global(x, obj)
			}
		}
		return
	}
}

func (c *checker) global(at ast.Expr, obj types.Object) {
	c.report(at.Pos(), "global", "write to package variable %s: two nodes would share it", obj.Name())
}

func isPackageVar(obj types.Object) bool {
	v, ok := obj.(*types.Var)
	return ok && v.Pkg() != nil && !v.IsField() && v.Parent() == v.Pkg().Scope()
}
