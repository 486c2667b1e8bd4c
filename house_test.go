package keelson_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
	"mvdan.cc/gofumpt/format"

	"github.com/keelson/keelson/internal/lint"
)

const module = "github.com/keelson/keelson"

// floors says who may import whom: each package, and the packages of this module
// that it may import. A prefix ending in /... stands for all below it. What is
// not listed may not be imported.
var floors = []struct {
	pkg string
	may string
	why string // what would be lost if the package imported more
}{
	{"core/env", "", "the world's interfaces depend on nothing that uses them"},
	{"core/invariant", "", "an assertion depends on nothing it could be asked to check"},
	{"core/format", "", "a table of numbers depends on nothing that is numbered"},
	{"core/planted", "", "a planted bug is a number"},
	{"core/env/envtest", "core/env", "the conformance suite knows promises, not implementations"},
	{"core/store", "core/env core/format core/invariant core/planted", "the tree is a function of the log and knows no disk, raft or HTTP"},
	{"core/wal", "core/env core/format core/invariant core/planted", "the log stores bytes and does not know what they mean"},
	{"core/peer", "core/env core/format core/invariant core/planted", "a link carries bytes and does not know what they mean"},
	{"core/archive", "core/env core/format core/store", "a backup is a file format and knows no cluster"},
	{"core/auth", "", "users and roles are a value and know neither keys nor requests"},
	{"core/lock", "core/env core/invariant core/store core/planted", "the semaphore is a value"},
	{"core/replica", "core/env core/format core/invariant core/planted core/wal core/peer", "raft replicates entries without knowing what they change"},
	{"core/control", "core/env core/invariant core/planted core/store", "the habit of controllers knows no controller"},
	{"core/control/controltest", "core/env core/control core/store", "a cluster for tests knows no controller"},
	{"core/reboot", "core/env core/invariant core/planted core/control core/lock core/store", "a lock client needs three verbs of a store, not a server"},
	{"core/gateway", "core/env core/invariant core/planted core/store core/archive core/auth core/retry core/lock", "the HTTP surface asks a backend and does not know raft"},
	{"core/bootstrap", "core/env core/format core/invariant core/planted core/gateway", "finding the first peers knows no log and no store"},
	{"core/retry", "", "what may be sent again depends on nobody who sends"},
	{"core/proxy", "core/env core/invariant core/planted core/gateway core/retry", "a proxy passes requests on and does not know what they mean"},
	{"core/mirror", "core/env core/invariant core/planted core/store core/control core/gateway core/retry", "a mirror knows the API, not the server"},
	{"core/client", "core/env core/invariant core/planted core/store core/gateway core/lock core/reboot core/registry core/retry core/sched core/unit", "a client knows the API, not the server"},
	{"core/node", "core/env core/format core/invariant core/planted core/store core/wal core/peer core/replica core/control core/auth core/gateway core/lock core/reboot core/bootstrap", "a node wires core and nothing outside it"},
	{"core/revive", "core/env core/format core/invariant core/planted core/store core/archive core/bootstrap core/gateway core/wal core/replica", "making a data directory knows formats and runs nothing"},
	{"core/discovery", "core/env core/invariant core/planted core/gateway", "tokens are a view of somebody's keys"},
	{"core/daemon", "core/env core/format core/invariant core/planted core/bootstrap core/discovery core/gateway core/node core/proxy core/mirror core/control core/retry core/store core/fleet core/registry core/unit", "a process wires its parts and nothing outside core"},
	{"core/unit", "core/format core/invariant", "a unit file is text and knows no cluster"},
	{"core/registry", "core/env core/invariant core/planted core/control core/store core/unit", "the registry is a view of keys and decides nothing"},
	{"core/sched", "core/invariant core/planted core/unit", "placing is pure: a picture in, a plan out"},
	{"core/engine", "core/env core/invariant core/planted core/control core/registry core/sched core/store core/unit", "the engine decides and knows no systemd"},
	{"core/agent", "core/env core/format core/invariant core/planted core/control core/registry core/sched core/store core/unit", "the agent acts on decisions and makes none"},
	{"core/fleetapi", "core/env core/invariant core/planted core/auth core/control core/engine core/gateway core/registry core/retry core/sched core/store core/unit", "the units API is a view of the registry, explained as the engine sees it"},
	{"core/fleet", "core/env core/invariant core/planted core/agent core/auth core/control core/engine core/fleetapi core/gateway core/registry core/retry core/sched core/store core/unit", "one machine's part in the cluster's units, over any store"},
	{"sim/systemd", "core/env", "a service manager knows no cluster"},
	{"sim", "core/... sim/systemd", "the simulator stands beside the real machine and never meets it"},
	{"sim/...", "core/... sim sim/...", "the simulator stands beside the real machine and never meets it"},
	{"realnet", "core/...", "the real machine stands beside the simulator and never meets it"},
	{"realnet/...", "core/... realnet realnet/...", "the real machine stands beside the simulator and never meets it"},
	{"cmd/cli/snapshot", "core/client core/archive core/bootstrap core/revive cmd/cli/tool", "backups are read and data directories made without any node running"},
	{"cmd/cli/waldump", "core/env core/store core/wal core/replica core/revive cmd/cli/tool", "a log is read where it lies, without any node running"},
	{"cmd/cli/etcdctl", "core/client core/store core/gateway core/lock core/reboot core/env core/planted core/revive core/wal cmd/cli/...", "the original's command set, and the copy of a member's files"},
	{"cmd/cli/...", "core/client core/store core/gateway core/lock core/reboot core/env core/planted core/unit core/registry core/sched cmd/cli/...", "a command sees a cluster through a client, so that it runs in the simulator unchanged"},
	{"cmd/cli/options", "core/auth core/format core/bootstrap core/daemon core/env core/gateway core/node core/proxy core/store core/fleet core/registry core/unit cmd/cli/tool", "options are words; what they start is handed back as a value"},
	{"linearizability", "core/... sim sim/...", "checkers see histories from both worlds through one type"},
	{"scenarios", "core/... sim sim/... linearizability cmd/cli/... scenarios/...", "a scenario sees no real machine"},
	{"scenarios/...", "core/... sim sim/... linearizability cmd/cli/... scenarios scenarios/...", "a scenario sees no real machine"},
	{"cmd/keelson", "core/... sim sim/... realnet realnet/... cmd/... linearizability scenarios scenarios/... internal/...", "the one place where everything meets"},
	{"e2e", "core/client core/env core/gateway core/store core/unit core/registry linearizability realnet/web cmd/cli/... e2e e2e/...", "it sees real processes from outside, as their users do"},
	{"e2e/...", "core/client core/env core/gateway core/store core/unit core/registry linearizability realnet/web cmd/cli/... e2e e2e/... internal/machines", "it sees real processes from outside, as their users do"},
	{"differential", "", "it sees two servers from outside, as their users do"},
	{"internal/...", "internal/...", "tools of the repository depend on nothing they look at"},
	{"bench/...", "core/... realnet/... linearizability bench/... cmd/cli/...", "benchmarks drive a server from outside"},
}

// raftImporter is the only package that may import the raft library.
const raftImporter = "core/replica"

func TestFloors(t *testing.T) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedImports}, "./...")
	require.NoError(t, err)
	for _, p := range pkgs {
		name, inside := strings.CutPrefix(p.PkgPath, module+"/")
		if !inside {
			continue // the root holds these tests and nothing else
		}
		may, why, known := floorOf(name)
		if !assert.Truef(t, known, "%s stands on no floor: add it to the table with its reason", name) {
			continue
		}
		for path := range p.Imports {
			if strings.HasPrefix(path, "go.etcd.io/raft/") {
				assert.Equalf(t, raftImporter, name, "%s imports %s: only %s may, so that raft can be replaced in one place", name, path, raftImporter)
			}
			if inner, ours := strings.CutPrefix(path, module+"/"); ours {
				assert.Truef(t, matches(may, inner), "%s imports %s: %s", name, inner, why)
			}
		}
	}
}

func floorOf(name string) (may, why string, known bool) {
	best := -1
	for _, f := range floors {
		prefix, deep := strings.CutSuffix(f.pkg, "/...")
		if name == f.pkg || deep && strings.HasPrefix(name, prefix+"/") {
			if len(f.pkg) > best || name == f.pkg {
				best, may, why, known = len(f.pkg), f.may, f.why, true
			}
			if name == f.pkg {
				return may, why, true
			}
		}
	}
	return may, why, known
}

func matches(list, name string) bool {
	for _, m := range strings.Fields(list) {
		prefix, deep := strings.CutSuffix(m, "/...")
		if name == m || deep && strings.HasPrefix(name, prefix+"/") {
			return true
		}
	}
	return false
}

// exceptionsMax is how many exceptions from the determinism rules the tree
// holds. It may only fall.
const exceptionsMax = 3

// integers are the packages whose decisions replicas must agree on.
var integers = []string{
	module + "/core/store", module + "/core/wal", module + "/core/replica", module + "/core/node", module + "/core/control", module + "/core/lock",
}

func TestCoreIsDeterministic(t *testing.T) {
	excused := map[string]lint.Finding{}
	for _, tags := range [][]string{nil, {"planted"}} {
		core, err := lint.Load(".", tags, "./core/...")
		require.NoError(t, err)
		core = without(core, module+"/core/env/envtest")
		note(t, excused, lint.Determinism(core, lint.Options{Module: module, Integers: integers}))

		// The simulator swaps the reader that raft draws its jitter from, shows
		// the stacks of panics, and runs programs as coroutines.
		world, err := lint.Load(".", tags, "./sim/...")
		require.NoError(t, err)
		note(t, excused, lint.Determinism(world, lint.Options{
			Module: module, Imports: []string{"crypto/rand", "runtime/debug"}, Names: []string{"iter.Pull"},
		}))
	}
	for _, e := range excused {
		t.Logf("exception: %v", e)
	}
	assert.Equalf(t, exceptionsMax, len(excused), "exceptions from the rules: they may only fall, and exceptionsMax with them")
}

func note(t *testing.T, excused map[string]lint.Finding, r lint.Report) {
	t.Helper()
	for _, f := range r.Findings {
		t.Error(f)
	}
	for _, e := range r.Exceptions {
		excused[e.Pos.String()] = e
	}
}

func without(pkgs []*packages.Package, path string) []*packages.Package {
	var kept []*packages.Package
	for _, p := range pkgs {
		if p.PkgPath != path {
			kept = append(kept, p)
		}
	}
	return kept
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	comments := make(map[string]string)
	eachGoFile(t, func(path string, f *ast.File, _ []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		dir := filepath.Dir(path)
		comments[dir] += f.Doc.Text()
	})
	for dir, text := range comments {
		name := filepath.Base(dir)
		ok := strings.HasPrefix(text, "Package "+name+" ") || strings.HasPrefix(text, "Command "+name+" ")
		assert.Truef(t, ok, "%s: the package comment must begin with %q", dir, "Package "+name+" ")
	}
}

func TestEveryFileIsFormatted(t *testing.T) {
	eachGoFile(t, func(path string, _ *ast.File, src []byte) {
		formatted, err := format.Source(src, format.Options{LangVersion: "go1.26", ModulePath: module})
		require.NoError(t, err, path)
		assert.Truef(t, bytes.Equal(formatted, src), "%s is not in gofumpt's form: go run mvdan.cc/gofumpt -w %[1]s", path)
	})
}

// The repository stands alone and is finished where it stands: no marks of
// unfinished work, no places outside it.
func TestNoLooseEnds(t *testing.T) {
	eachGoFile(t, func(path string, f *ast.File, _ []byte) {
		for _, g := range f.Comments {
			for _, word := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"} {
				for _, w := range strings.FieldsFunc(g.Text(), func(r rune) bool { return r < 'A' || r > 'Z' }) {
					assert.NotEqualf(t, word, w, "%s: %q in a comment", path, word)
				}
			}
		}
	})
}

func eachGoFile(t *testing.T, fn func(path string, f *ast.File, src []byte)) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "data" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		fn(path, f, src)
		return nil
	})
	require.NoError(t, err)
}

// ARCHITECTURE.md has a line for each package, and README's links lead somewhere.
func TestPagesAreComplete(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	require.NoError(t, err)
	pkgs, err := packages.Load(&packages.Config{Mode: packages.NeedName | packages.NeedFiles}, "./...")
	require.NoError(t, err)
	for _, p := range pkgs {
		name := strings.TrimPrefix(strings.TrimPrefix(p.PkgPath, module), "/")
		family, _, _ := strings.Cut(name, "/")
		if name == "" || family == "realnet" || strings.HasPrefix(name, "cmd/cli/") || strings.HasPrefix(name, "scenarios/") {
			continue // one line for the family
		}
		assert.Containsf(t, string(page), "| "+name+" |", "ARCHITECTURE.md does not name %s", name)
	}
	for _, file := range []string{"README.md", "ARCHITECTURE.md", "docs/guarantees.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(file), m[1]))
			assert.NoErrorf(t, err, "%s links to %s", file, m[1])
		}
	}
}
