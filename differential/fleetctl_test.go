package differential

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// originalFleetctl is a version of the original client whose module carries all that it
// is made of, so that it can be built as it was.
const originalFleetctl = "github.com/coreos/fleet@v0.11.8"

// fleetctl is the original client, built once from its module.
var fleetctl = sync.OnceValues(func() (string, error) {
	var module struct{ Dir, Error string }
	out, err := environ(exec.Command("go", "mod", "download", "-json", originalFleetctl), "GO111MODULE=on", "GOFLAGS=-mod=mod").Output()
	if json.Unmarshal(out, &module) != nil || module.Dir == "" {
		return "", fmt.Errorf("download %s: %v %s", originalFleetctl, err, module.Error)
	}
	program, err := built()
	if err != nil {
		return "", err
	}
	work := filepath.Join(filepath.Dir(program), "original")
	source := filepath.Join(work, "src/github.com/coreos/fleet")
	if err := os.CopyFS(source, os.DirFS(module.Dir)); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(work, "fleetctl"), "./fleetctl")
	build.Dir = source
	build = environ(build, "GO111MODULE=off", "GOFLAGS=", "CGO_ENABLED=0", "GOPATH="+filepath.Join(source, "Godeps/_workspace")+":"+work)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", originalFleetctl, err, out)
	}
	return filepath.Join(work, "fleetctl"), nil
})

func environ(cmd *exec.Cmd, settings ...string) *exec.Cmd {
	cmd.Env = append(os.Environ(), settings...)
	return cmd
}

// unitFiles are what the lines find in their directory.
var unitFiles = map[string]string{
	"hello.service": "# says it\n[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo \\\"Hello, world\\\"; sleep 1; done\"\n",
	"web@.service":  "[Unit]\nDescription=Web %i\n[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nConflicts=web@*.service\n",
	"glob.service":  "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nGlobal=true\n",
	"odd.service":   "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nBogus=1\n",
	"no.service":    "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=abc\nConflicts=x\n",
	"bad.service":   "[Service]\nExecStart\n",
}

// fleetctlLines are command lines of the original client. What is left out is where later
// versions of it, and ours, speak in other words.
const fleetctlLines = `
list-machines
list-machines -full -fields=metadata,machine
list-machines -no-legend
list-machines -fields=bogus
list-units
list-unit-files
submit hello.service
list-unit-files
list-units
cat hello.service
cat none.service
load hello.service
list-unit-files
list-units
start hello.service
list-units
list-units -no-legend -fields=unit,load,active,sub,machine,hash
list-unit-files -full -fields=unit,hash,desc,dstate,state,target,global
list-unit-files -fields=tmachine
load hello.service
list-unit-files
stop hello.service
unload hello.service
list-unit-files
destroy hello.service
submit web@.service
start web@1
list-units
start -block-attempts=1 web@2
list-unit-files
destroy web@2 web@1 web@.service
start -no-block none.service
start glob.service
list-unit-files
submit no.service
submit bad.service
submit odd.service
destroy odd.service glob.service
list-unit-files
`

// The original's client shows the same of our server as our own does, through the units
// API and, where it goes to the keys by itself, through those.
func TestUnitCommandsEqualTheOriginals(t *testing.T) {
	original, err := fleetctl()
	require.NoError(t, err)
	ours, err := built()
	require.NoError(t, err)
	for _, driver := range []string{"API", "etcd"} {
		t.Run(driver, func(t *testing.T) {
			want := fleetSession(t, driver, original)
			have := fleetSession(t, driver, ours, "fleetctl")
			for i := range want {
				assert.Equal(t, want[i], have[i])
			}
		})
	}
}

// later takes out what versions of the original after that one say besides, or say no more.
var later = regexp.MustCompile(`(?m)^(Unit glob.service $|Successfully .*|Error waiting for unit states, .*)\n|\d{4}/\d\d/\d\d \S+ (WARN) \S+:`)

// fleetSession runs the lines against a server of one machine and shows what a person sees.
func fleetSession(t *testing.T, driver string, client ...string) (all []string) {
	t.Helper()
	program, err := built()
	require.NoError(t, err)
	dir := t.TempDir()
	for name, text := range unitFiles {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	id := filepath.Join(dir, "machine-id")
	require.NoError(t, os.WriteFile(id, []byte("1a1a1a1a00000000000000000000aaaa\n"), 0o600))
	s := start(t, "ours", program, "serve", "--units", "process", "--machine-id-file", id, "--units-directory", filepath.Join(dir, "units"),
		"--fleet-socket", filepath.Join(dir, "fleet.sock"), "--metadata", "az=a,disk=ssd", "--public-ip", "10.78.0.11")
	run := func(line string) string {
		args := append(client[1:len(client):len(client)], "--driver="+driver, "--endpoint="+s.url)
		cmd := exec.Command(client[0], append(args, strings.Fields(line)...)...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir}
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run() // the status is compared
		text := fmt.Sprintf("%s\n%s%v\n%s", line, out.String(), cmd.ProcessState, errs.String())
		return later.ReplaceAllString(text, "$2")
	}
	require.Eventually(t, func() bool { return strings.Contains(run("list-machines"), "1a1a1a1a") }, 10*time.Second, 50*time.Millisecond)
	for line := range strings.Lines(strings.TrimSpace(fleetctlLines)) {
		all = append(all, run(strings.TrimSpace(line)))
		if units, ok := strings.CutPrefix(strings.TrimSpace(line), "destroy "); ok { // what has to be stopped is shown for a while
			require.Eventually(t, func() bool { return !s.shows(t, strings.Fields(units)) }, 10*time.Second, 20*time.Millisecond)
		}
	}
	return all
}

// shows tells whether a machine still tells of one of these units.
func (s *server) shows(t *testing.T, units []string) bool {
	t.Helper()
	resp, err := http.Get(s.url + "/fleet/v1/state")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return slices.ContainsFunc(units, func(name string) bool {
		return strings.Contains(string(body), `"`+strings.TrimSuffix(name, ".service"))
	})
}
