package lint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/internal/lint"
)

// Each planted break must be found by its rule: a check that cannot fail is a
// defect.
func TestDeterminismFindsEachBreak(t *testing.T) {
	for _, c := range []struct{ name, src, rule string }{
		{"import os", `import "os"; var _ = os.Args`, "import"},
		{"import sync", `import "sync"; var _ sync.Mutex`, "import"},
		{"time.Now", `import "time"; func f() time.Time { return time.Now() }`, "name"},
		{"time.Since value", `import "time"; var f = time.Since`, "name"},
		{"global rand", `import "math/rand/v2"; func f() int { return rand.IntN(3) }`, "name"},
		{"go", `func f() { go f() }`, "goroutine"},
		{"select", `func f() { select {} }`, "goroutine"},
		{"chan", `var c chan int`, "goroutine"},
		{"map range", `func f(m map[int]int) (s []int) { for k := range m { s = append(s, k) }; return }`, "commutative"},
		{"maps.Keys", `import ("maps"; "slices"); func f(m map[int]int) []int { return slices.Collect(maps.Keys(m)) }`, "commutative"},
		{"unstable sort", `import "slices"; func f(s []int) { slices.SortFunc(s, func(a, b int) int { return 0 }) }`, "total"},
		{"sort.Slice", `import "sort"; func f(s []int) { sort.Slice(s, func(a, b int) bool { return false }) }`, "name"},
		{"init", `func init() {}`, "init"},
		{"global write", `var n int; func f() { n++ }`, "global"},
		{"global map write", `var m = map[int]int{}; func f() { m[1] = 2 }`, "global"},
		{"global address", `var n int; func f() *int { return &n }`, "global"},
		{"range over keys", `import "maps"; func f(m map[int]int) (s []int) { for k := range maps.Keys(m) { s = append(s, k) }; return }`, "commutative"},
		{"keys in a variable", `import "maps"; func f(m map[int]int) { it := maps.Keys(m); for range it {} }`, "commutative"},
		{"generic map", `func f[M ~map[string]int](m M) { for range m {} }`, "commutative"},
		{"dot import", `import . "strings"; func f() string { return ToUpper("a") }`, "import"},
		{"os/user", `import "os/user"; func f() { user.Current() }`, "import"},
		{"filepath", `import "path/filepath"; func f() { filepath.Glob("*") }`, "import"},
		{"reflect", `import "reflect"; func f(m any) { reflect.ValueOf(m).MapKeys() }`, "import"},
		{"local zone", `import "time"; func f() string { return time.Unix(0, 0).String() }`, "name"},
		{"method Local", `import "time"; func f(t time.Time) time.Time { return t.Local() }`, "name"},
		{"timeout with cause", `import "context"; func f(c context.Context) { context.WithTimeoutCause(c, 1, nil) }`, "name"},
		{"coroutine", `import "iter"; func f(s iter.Seq[int]) { iter.Pull(s) }`, "name"},
		{"address", `import "fmt"; func f(p *int) string { return fmt.Sprintf("%p", p) }`, "name"},
		{"sort as a value", `import "slices"; var f = slices.SortFunc[[]int]`, "total"},
		{"global delete", `var m = map[int]int{}; func f() { delete(m, 1) }`, "global"},
		{"global clear", `var m = map[int]int{}; func f() { clear(m) }`, "global"},
		{"global copy", `var s = make([]int, 3); func f() { copy(s[:], s) }`, "global"},
		{"global range", `var n int; func f() { for n = range 3 {} }`, "global"},
		{"global method", `type c struct{ n int }; func (x *c) add() { x.n++ }; var g c; func f() { g.add() }`, "global"},
		{"float", `func f(a int) int { return int(float64(a) * 1.1) }`, "float"},
		{"no reason", "func f(m map[int]int) {\n//lint:commutative\nfor range m {}\n}", "commutative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := check(t, c.src)
			require.NotEmpty(t, r.Findings)
			require.Equal(t, c.rule, r.Findings[0].Rule)
		})
	}
}

func TestDeterminismAllows(t *testing.T) {
	for name, src := range map[string]string{
		"own generator":  `import "math/rand/v2"; func f(r *rand.Rand) int { return r.IntN(3) }`,
		"sorted keys":    `import ("maps"; "slices"); func f(m map[int]int) []int { return slices.Sorted(maps.Keys(m)) }`,
		"constant table": `var t = []int{1}; func f() int { return t[0] }`,
		"time in UTC":    `import "time"; func f() string { return time.Unix(0, 0).UTC().String() }`,
		"durations":      `import "time"; const d = time.Second`,
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, check(t, src).Findings) })
	}
}

func TestAnExceptionNeedsItsRuleAndIsCounted(t *testing.T) {
	r := check(t, "func f(m map[int]int) (n int) {\n//lint:commutative a sum\nfor _, v := range m { n += v }\nreturn\n}")
	require.Empty(t, r.Findings)
	require.Len(t, r.Exceptions, 1)
	r = check(t, "func f(m map[int]int) (n int) {\n//lint:total a sum\nfor _, v := range m { n += v }\nreturn\n}")
	require.Len(t, r.Findings, 1)
}

func check(t *testing.T, body string) lint.Report {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("go.mod", "module example.com/p\n\ngo 1.26\n")
	write("p.go", "package p\n\n"+strings.NewReplacer("; func", "\nfunc", "; var", "\nvar", "; type", "\ntype").Replace(body))
	pkgs, err := lint.Load(dir, nil, ".")
	require.NoError(t, err)
	return lint.Determinism(pkgs, lint.Options{Module: "example.com/p", Integers: []string{"example.com/p"}})
}
