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
// their tests.
func Load(dir string, patterns ...string) ([]*packages.Package, error) {
	pkgs, err := packages.Load(&packages.Config{
		Dir: dir,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedImports |
			packages.NeedTypes | packages.NeedTypesInfo | packages.NeedDeps,
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

// forbiddenImports maps an import path to the reason it may not be used.
var forbiddenImports = map[string]string{
	"os":               "the file system and environment belong to env.Disk and the command line",
	"os/exec":          "processes belong to the outside",
	"net":              "sockets belong to env.Net; net/netip and net/url are fine",
	"net/http":         "HTTP belongs to realnet; the gateway has request values",
	"sync":             "one loop owns a node, so nothing needs a lock",
	"sync/atomic":      "one loop owns a node, so nothing needs an atomic",
	"crypto/rand":      "randomness comes from env.Rand",
	"math/rand":        "randomness comes from env.Rand",
	"hash/maphash":     "its seed differs in every process",
	"runtime":          "nothing may hang on the scheduler or the collector",
	"runtime/debug":    "nothing may hang on the scheduler or the collector",
	"syscall":          "system calls belong to realnet",
	"unsafe":           "addresses differ in every process",
	"unique":           "its handles depend on the collector",
	"encoding/gob":     "it encodes maps in their random order",
	"log":              "it reads the wall clock; use env.Log",
	"log/slog":         "it reads the wall clock; use env.Log",
	"testing":          "production code does not import testing",
	"testing/synctest": "order between goroutines is random there",
}

// allowedModules lists the modules of others that core may use, each with the
// reason it is deterministic.
var allowedModules = map[string]string{
	"go.etcd.io/raft/v3":         "a state machine without goroutines; its one random draw is made constant in simulator processes",
	"google.golang.org/protobuf": "encodes fields in order; what is hashed or stored is marshalled deterministically",
	"github.com/tidwall/btree":   "ordered maps compared by key only",
}

// forbiddenNames maps a qualified name to the reason it may not be used.
var forbiddenNames = map[string]string{
	"time.Now": "env.Clock tells time", "time.Since": "env.Clock tells time", "time.Until": "env.Clock tells time",
	"time.Sleep": "nothing blocks", "time.After": "use env.Clock.After", "time.AfterFunc": "use env.Clock.After",
	"time.NewTimer": "use env.Clock.After", "time.NewTicker": "use env.Clock.After", "time.Tick": "use env.Clock.After",
	"time.Local":            "machines differ in their time zone; use UTC",
	"context.WithTimeout":   "it reads the wall clock",
	"context.WithDeadline":  "it reads the wall clock",
	"context.AfterFunc":     "it starts a goroutine",
	"context.WithCancel":    "it may start a goroutine",
	"sort.Slice":            "it is unstable; use slices.SortFunc with a total order",
	"sort.Sort":             "it is unstable; use slices.SortFunc with a total order",
	"fmt.Print":             "output belongs to the command line",
	"fmt.Printf":            "output belongs to the command line",
	"fmt.Println":           "output belongs to the command line",
	"reflect.Value.Pointer": "addresses differ in every process",
}

// Options relaxes rules for floors that have a reason to break them.
type Options struct {
	// Imports are forbidden import paths that are allowed here after all.
	Imports []string
	// Module is the import path prefix that counts as our own.
	Module string
}

// Determinism looks through the packages for anything that could make two runs
// of one seed differ, or that touches the world outside.
func Determinism(pkgs []*packages.Package, o Options) Report {
	var r Report
	for _, p := range pkgs {
		for _, f := range p.Syntax {
			c := &checker{pkg: p, opts: o, reasons: exceptions(p.Fset, f)}
			c.imports(f)
			ast.Inspect(f, c.node)
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
	pkg     *packages.Package
	opts    Options
	reasons map[int]exception
	found   []Finding
	excused []Finding
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
		if why, ok := forbiddenImports[path]; ok && !contains(c.opts.Imports, path) {
			c.report(spec.Pos(), "import", "import of %s: %s", path, why)
			continue
		}
		if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") || within(path, c.opts.Module) {
			continue
		}
		if !contains(c.opts.Imports, path) && !allowedModule(path) {
			c.report(spec.Pos(), "import", "import of %s: not on the list of modules known to be deterministic", path)
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
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

func (c *checker) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.report(n.Pos(), "goroutine", "go statement: one loop owns a node")
	case *ast.SelectStmt:
		c.report(n.Pos(), "goroutine", "select: the choice among ready cases is random")
	case *ast.ChanType:
		c.report(n.Pos(), "goroutine", "channel: completions are callbacks on the loop")
	case *ast.RangeStmt:
		c.rangeOver(n)
	case *ast.SelectorExpr:
		c.selector(n)
	case *ast.CallExpr:
		c.call(n)
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
	}
	return true
}

func (c *checker) rangeOver(n *ast.RangeStmt) {
	t := c.pkg.TypesInfo.TypeOf(n.X)
	if t == nil {
		return
	}
	if _, ok := t.Underlying().(*types.Map); ok {
		c.report(n.Pos(), "commutative", "range over a map: its order is random; range over slices.Sorted(maps.Keys(m))")
	}
}

// unsortedIterators are functions whose result comes in the order of a map.
var unsortedIterators = map[string]bool{"maps.Keys": true, "maps.Values": true, "maps.All": true}

// sorters take an iterator or list and put it into a total order.
var sorters = map[string]bool{"slices.Sorted": true}

func (c *checker) selector(n *ast.SelectorExpr) {
	name := c.qualified(n)
	if why, ok := forbiddenNames[name]; ok {
		c.report(n.Pos(), "name", "%s: %s", name, why)
	}
	if fn, ok := c.pkg.TypesInfo.Uses[n.Sel].(*types.Func); ok && fn.Pkg() != nil && fn.Pkg().Path() == "math/rand/v2" {
		if fn.Signature().Recv() == nil && !strings.HasPrefix(fn.Name(), "New") {
			c.report(n.Pos(), "name", "rand.%s: the global generator is seeded by the process; use env.Rand", fn.Name())
		}
	}
}

func (c *checker) call(n *ast.CallExpr) {
	name := c.qualified(n.Fun)
	if name == "slices.SortFunc" {
		c.report(n.Pos(), "total", "slices.SortFunc is unstable: say which unique key makes the order total")
	}
	if sorters[name] {
		return
	}
	for _, a := range n.Args {
		if inner, ok := a.(*ast.CallExpr); ok && unsortedIterators[c.qualified(inner.Fun)] {
			c.report(inner.Pos(), "commutative", "%s outside slices.Sorted: its order is random", c.qualified(inner.Fun))
		}
	}
}

func (c *checker) qualified(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.IndexExpr:
		return c.qualified(e.X)
	case *ast.SelectorExpr:
		obj := c.pkg.TypesInfo.Uses[e.Sel]
		if obj == nil || obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
			return ""
		}
		return obj.Pkg().Path() + "." + obj.Name()
	}
	return ""
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
		case *ast.StarExpr:
			e = x.X
			continue
		case *ast.SelectorExpr:
			if obj := c.pkg.TypesInfo.Uses[x.Sel]; isPackageVar(obj) {
				c.report(x.Pos(), "global", "write to package variable %s: two nodes would share it", obj.Name())
				return
			}
			e = x.X
			continue
		case *ast.Ident:
			if obj := c.pkg.TypesInfo.Uses[x]; isPackageVar(obj) {
				c.report(x.Pos(), "global", "write to package variable %s: two nodes would share it", obj.Name())
			}
		}
		return
	}
}

func isPackageVar(obj types.Object) bool {
	v, ok := obj.(*types.Var)
	return ok && v.Pkg() != nil && !v.IsField() && v.Parent() == v.Pkg().Scope()
}
