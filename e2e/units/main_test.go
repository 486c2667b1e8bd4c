// Package units looks at units on three machines with real systemd, which are killed, cut off, rebooted and upgraded, and asks the machines' own systemd what became of them.
//
// One cluster serves all tests. They run in the order of their files, and each
// begins with all machines up, no units and nothing broken (fresh).
package units

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/internal/machines"
)

// The test runs itself once more in a jail, and these tell the inner run what the outer
// one prepared.
const (
	binaryVariable  = "E2E_KEELSON"
	upgradeVariable = "E2E_KEELSON_NEXT" // another build of the same
	imageVariable   = "E2E_IMAGE"
	dirVariable     = "E2E_DIR"
)

// ttl is short, so that machines are given up soon.
const ttl = 5 * time.Second

// cluster is the one of all tests; nil is none, because of absence.
var (
	cluster *machines.Cluster
	absence string
)

func TestMain(m *testing.M) {
	if machines.Jailed() {
		os.Exit(inside(m))
	}
	flag.Parse()
	if nothing() {
		os.Exit(m.Run())
	}
	if err := machines.Check(); err != nil {
		absence = err.Error()
		os.Exit(m.Run())
	}
	status, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/units:", err)
		status = 1
	}
	os.Exit(status)
}

// nothing reports whether this run is not for the sake of tests.
func nothing() bool {
	return flag.Lookup("test.list").Value.String() != "" || flag.Lookup("test.run").Value.String() == "^$"
}

// outside builds what is tested and runs the tests in a jail with a network of its own.
func outside() (status int, err error) {
	base := machines.Base()
	if err := machines.Sweep(filepath.Join(base, "e2e-*")); err != nil {
		return 0, err
	}
	image, err := machines.Image(context.Background(), base, os.Stderr)
	if err != nil {
		return 0, err
	}
	bin, err := os.MkdirTemp("", "keelson-e2e-units-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	binary, next := filepath.Join(bin, "keelson"), filepath.Join(bin, "keelson-next")
	for path, flags := range map[string]string{binary: "-s -w", next: "-s -w -buildid=next"} {
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", path, "../../cmd/keelson")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build keelson: %w\n%s", err, out)
		}
	}
	dir, err := os.MkdirTemp(base, "e2e-")
	if err != nil {
		return 0, err
	}
	inner := machines.Jail(true, os.Args[1:]...)
	inner.Env = append(inner.Env, binaryVariable+"="+binary, upgradeVariable+"="+next, imageVariable+"="+image, dirVariable+"="+dir)
	status = machines.RunJailed(inner)
	if err := machines.Remove(dir); err != nil {
		return status, err
	}
	left, err := machines.Left(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("still here: %s", strings.Join(left, ", "))
	}
	return status, err
}

// upMax bounds how long machines may take until they are a cluster.
const upMax = time.Minute

func inside(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), upMax)
	defer cancel()
	began := time.Now()
	err := machines.Furnish()
	if err == nil {
		err = exec.Command("ip", "link", "set", "lo", "up").Run()
	}
	if err == nil {
		cluster, err = machines.Up(ctx, machines.Config{
			Dir: os.Getenv(dirVariable), Image: os.Getenv(imageVariable), Binary: os.Getenv(binaryVariable),
			Settings: []string{"FLEET_AGENT_TTL=" + ttl.String()},
		})
	}
	if err == nil {
		err = cluster.Ready(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/units: three machines:", err)
		if cluster != nil {
			explain(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
		}
		return 1
	}
	fmt.Printf("three machines were a cluster after %.1f s\n", time.Since(began).Seconds())
	status := m.Run()
	if err := cluster.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/units:", err)
		return 1
	}
	return status
}

// explain shows the ends of the machines' daemons' logs.
func explain(printf func(string, ...any)) {
	for _, m := range cluster.Machines {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		r, err := m.Run(ctx, "journalctl", "--no-pager", "-n", "25", "-u", "keelson")
		cancel()
		printf("%s: %v\n%s", m.Host, err, r.Out)
	}
}

// watchSources looks at every directory of the module, so that go test does not
// take a kept result for one of changed sources: nothing here imports them.
func watchSources() {
	filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "data" || name == "bin" || name == "testdata" || strings.HasPrefix(name, ".") && name != ".." {
			return filepath.SkipDir
		}
		return nil
	})
}

// waitMax bounds every wait for something that must come true.
const waitMax = 30 * time.Second

// until polls for something that must come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(waitMax)
	for !ok() {
		if time.Now().After(end) {
			require.FailNowf(t, "waited too long", "for %v: %s", waitMax, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fresh begins a test: every machine is on, connected and in the cluster, and there are
// no units.
func fresh(t *testing.T) {
	t.Helper()
	watchSources()
	if cluster == nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(absence)
		}
		t.Skip(absence)
	}
	t.Cleanup(func() {
		if t.Failed() {
			explain(t.Logf)
		}
		repair(t)
	})
}

// repair undoes whatever a test did.
func repair(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), upMax)
	defer cancel()
	for _, m := range cluster.Machines {
		m.Resume()
		m.Heal()
		require.NoError(t, m.PowerOn(ctx))
	}
	require.NoError(t, cluster.Ready(ctx))
	var names []string
	for _, u := range fields(fleetctl(t, 0, "list-unit-files", "--no-legend", "--fields=unit").Out) {
		names = append(names, u[0])
	}
	if names != nil {
		fleetctl(t, 0, append([]string{"destroy"}, names...)...)
	}
	until(t, "all units are gone", func() bool { return fleetctl(t, 0, "list-units", "--no-legend").Out == "" })
}

// run runs a program on machine i to its end.
func run(t *testing.T, i int, args ...string) machines.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	r, err := cluster.Machines[i].Run(ctx, args...)
	require.NoErrorf(t, err, "%s: %s: %v", cluster.Machines[i].Host, strings.Join(args, " "), r)
	return r
}

// fleetctl runs it on machine i.
func fleetctl(t *testing.T, i int, args ...string) machines.Result {
	t.Helper()
	return run(t, i, append([]string{"fleetctl"}, args...)...)
}

// must is a fleetctl that has to succeed, and gives what it printed.
func must(t *testing.T, i int, args ...string) string {
	t.Helper()
	r := fleetctl(t, i, args...)
	require.Zerof(t, r.Status, "fleetctl %s: %v", strings.Join(args, " "), r)
	return r.Out
}

// fields are the words of each line of a list.
func fields(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); words != nil {
			all = append(all, words)
		}
	}
	return all
}

// put writes a unit file to machine i, where fleetctl runs.
func put(t *testing.T, i int, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(cluster.Machines[i].Root(), "root", name), []byte(text), 0o644))
}

// sleeper is a unit that does nothing, with an [X-Fleet] section.
func sleeper(fleet ...string) string {
	text := "[Unit]\nDescription=Sleeper %i\n\n[Service]\nExecStart=/bin/sleep 100000\n"
	if fleet != nil {
		text += "\n[X-Fleet]\n" + strings.Join(fleet, "\n") + "\n"
	}
	return text
}

// life is what a machine's own systemd says of one run of a unit: the same as long as
// nobody has stopped or started it.
type life struct{ active, pid, since, invocation string }

// alive gives that of machine i.
func alive(t *testing.T, i int, unit string) life {
	t.Helper()
	out := run(t, i, "systemctl", "show", unit, "--property=ActiveState,MainPID,ActiveEnterTimestampMonotonic,InvocationID").Out
	says := make(map[string]string)
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		says[key] = value
	}
	return life{says["ActiveState"], says["MainPID"], says["ActiveEnterTimestampMonotonic"], says["InvocationID"]}
}

// runsOn are those of the given machines, or of all, whose systemd runs a unit; machines
// that are off are left out.
func runsOn(t *testing.T, unit string, which ...int) (all []int) {
	t.Helper()
	if which == nil {
		which = others()
	}
	for _, i := range which {
		m := cluster.Machines[i]
		ctx, cancel := context.WithTimeout(context.Background(), waitMax)
		r, err := m.Run(ctx, "systemctl", "is-active", "--quiet", unit)
		cancel()
		if err == nil && r.Status == 0 {
			all = append(all, i)
		}
	}
	return all
}

// target is the machine on which a unit was put, as the cluster says; -1 is none.
func target(t *testing.T, asked int, unit string) int {
	t.Helper()
	for _, w := range fields(must(t, asked, "list-unit-files", "--no-legend", "--full", "--fields=unit,target")) {
		if w[0] != unit {
			continue
		}
		for i, m := range cluster.Machines {
			if strings.HasPrefix(w[1], m.ID) {
				return i
			}
		}
	}
	return -1
}

// others are all machines but the given ones.
func others(but ...int) (all []int) {
next:
	for i := range cluster.Machines {
		for _, b := range but {
			if i == b {
				continue next
			}
		}
		all = append(all, i)
	}
	return all
}
