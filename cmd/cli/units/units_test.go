package units

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

const (
	m1 = "1a1a1a1a00000000000000000000aaaa"
	m2 = "2b2b2b2b00000000000000000000bbbb"
)

// fleet is a cluster of two machines as far as these commands go. Units come about when
// somebody waits, on the first machine, and are active unless broken.
type fleet struct {
	now     time.Duration
	units   map[string]*client.Unit
	active  map[string]string // active state by unit
	broken  map[string]bool   // fails when it is started next
	slow    map[string]time.Duration
	crash   map[string]time.Duration // when it ends and is started again, between two looks
	moves   client.Moves
	asked   []string
	drained bool
}

func newFleet() *fleet {
	return &fleet{units: map[string]*client.Unit{}, active: map[string]string{}, broken: map[string]bool{}, slow: map[string]time.Duration{}, crash: map[string]time.Duration{}}
}

func (f *fleet) Sleep(ctx context.Context, d time.Duration) error {
	f.now += d
	if f.drained {
		f.units = map[string]*client.Unit{}
	}
	return ctx.Err()
}
func (f *fleet) Now() time.Duration { return f.now }
func (f *fleet) Float64() float64   { return 0.5 }

func (f *fleet) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	q, _ := url.ParseQuery(r.Query)
	path := strings.TrimPrefix(r.Path, "/fleet/v1")
	if r.Method != "GET" {
		f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+path+" "+r.Body))
	}
	status, body := f.answer(r, path, q)
	return &client.Response{Status: status, Header: map[string]string{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (f *fleet) answer(r *client.Request, path string, q url.Values) (int, string) {
	name, page, _ := strings.Cut(strings.TrimPrefix(path, "/units/"), "/")
	switch {
	case path == "/machines":
		return 200, fmt.Sprintf(`{"machines":[{"id":%q,"primaryIP":"10.0.0.1","host":"one"},{"id":%q,"primaryIP":"10.0.0.2"}]}`, m1, m2)
	case path == "/plan" || path == "/rebalance" || strings.HasSuffix(path, "/cordon") && r.Method == "PUT":
		return 200, encode(f.moves)
	case strings.HasSuffix(path, "/cordon"):
		return 204, ""
	case path == "/state":
		return 200, encode(map[string]any{"states": f.states(q)})
	case path == "/units":
		var all []client.Unit
		for _, n := range f.names() {
			all = append(all, *f.units[n])
		}
		return 200, encode(map[string]any{"units": all})
	case page == "why" && f.units[name] != nil:
		return 200, `{"able":1,"name":"` + name + `","refusals":[{"machines":2,"reason":"MachineMetadata=disk=ssd"}],"why":"no machine can take it now"}`
	case page == "restart":
		f.start(name)
		return 200, `{"result":"done"}`
	case r.Method == "PUT":
		return f.put(name, r.Body)
	case path == "/events" || f.units[name] == nil:
		return 404, `{"error":{"code":404,"message":"unit does not exist"}}`
	case r.Method == "DELETE":
		delete(f.units, name)
		return 204, ""
	}
	return 200, encode(f.units[name])
}

func (f *fleet) states(q url.Values) []client.UnitState {
	all := []client.UnitState{}
	for _, n := range f.names() {
		u := f.units[n]
		if want := q.Get("unitName"); want != "" && want != n || u.MachineID == "" || q.Get("machineID") == m2 {
			continue
		}
		s := client.UnitState{Name: n, MachineID: u.MachineID, LoadState: "loaded", Hash: u.File().Hash().String(), ActiveState: f.active[n], SubState: "running"}
		if s.Modified = 7; f.now >= f.crash[n] {
			s.Modified = 8
		}
		if s.ActiveState == "failed" {
			s.SubState, s.Result = "failed", "exit-code"
		}
		if f.now < f.slow[n] {
			s.ActiveState, s.SubState = "activating", "start-pre"
		}
		all = append(all, s)
	}
	return all
}

func (f *fleet) put(name, body string) (int, string) {
	var u client.Unit
	_ = json.Unmarshal([]byte(body), &u)
	have := f.units[name]
	if have == nil {
		have = &client.Unit{Name: name}
		f.units[name] = have
	}
	if u.Options != nil {
		have.Options = u.Options
	}
	have.DesiredState, have.CurrentState = u.DesiredState, u.DesiredState
	if u.DesiredState == "launched" {
		have.MachineID = m1
		f.start(name)
	}
	return 201, ""
}

func (f *fleet) start(name string) {
	f.active[name] = "active"
	if f.broken[name] {
		f.active[name] = "failed"
	}
}

func (f *fleet) names() []string {
	var names []string
	for n := range f.units {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func encode(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

type result struct {
	out, err string
	status   int
}

func (f *fleet) run(files tool.Memory, args ...string) result {
	var out, errs bytes.Buffer
	t := &tool.Tool{
		Version: "1.2", In: strings.NewReader(""), Out: &out, Err: &errs,
		Getenv:   func(string) string { return "" },
		Connect:  func(tool.Connection) (client.Doer, error) { return f, nil },
		ReadFile: func(name string) ([]byte, error) { return tool.Load(files, name) },
	}
	status := Run(context.Background(), t, args)
	return result{out.String(), errs.String(), status}
}

const web = "[Service]\nExecStart=/bin/sleep 1\n"

// three instances that run, one that does not, and one that is not numbered.
func (f *fleet) instances() {
	file, _ := unit.Parse(web, 0)
	for name, state := range map[string]string{
		"web@.service": "inactive", "web@2.service": "launched", "web@10.service": "launched", "web@1.service": "launched",
		"web@3.service": "loaded", "web@blue.service": "launched", "other@1.service": "launched",
	} {
		u := &client.Unit{Name: name, DesiredState: state, CurrentState: state, Options: client.UnitOptions(file)}
		if state != "inactive" {
			u.MachineID = m1
		}
		f.units[name], f.active[name] = u, "active"
	}
}

func TestWhy(t *testing.T) {
	f := newFleet()
	f.units["a.service"] = &client.Unit{Name: "a.service"}
	assert.Equal(t, result{"a.service: on no machine: no machine can take it now\n    1 machine could run it\n    2 machines: MachineMetadata=disk=ssd\n", "", 0}, f.run(nil, "why", "a"))
	assert.Equal(t, result{"", "keelson why: b.service: unit does not exist\n", 1}, f.run(nil, "why", "b"))
	assert.Contains(t, f.run(nil, "why", "a", "-o", "json").out, `"reason": "MachineMetadata=disk=ssd"`)
	assert.Equal(t, 1, f.run(nil, "why").status)
}

func TestPlan(t *testing.T) {
	f := newFleet()
	file, _ := unit.Parse(web, 0)
	f.units["a.service"] = &client.Unit{Name: "a.service", Options: client.UnitOptions(file)}
	files := tool.Memory{
		"a.service": []byte(web), "d/b.service": []byte(web + "Restart=always\n"), "bad.service": []byte("[X-Fleet]\nGlobal=true\nMachineOf=a\n"),
		"a.changed/a.service": []byte(web + "Restart=no\n"),
	}
	assert.Equal(t, result{"nothing would change\n", "", 0}, f.run(files, "plan", "a.service"))
	assert.Equal(t, result{"a.service: replace\n", "", 2}, f.run(files, "plan", "a.changed/a.service"))
	f.moves = client.Moves{
		Moves: []client.Move{{Unit: "b.service", To: m1, Why: "fewest units"}, {Unit: "a.service", From: m1, To: m2, Why: "replaced by b.service"}},
		Stay:  []client.Explanation{{Name: "c.service", Why: "no machine qualifies", Refusals: []client.Refusal{{Machines: 1, Reason: "cordoned"}}}},
	}
	r := f.run(files, "plan", "a.service", "d/b.service")
	assert.Equal(t, result{
		"b.service: create\nb.service: to 1a1a1a1a.../10.0.0.1: fewest units\n" +
			"a.service: from 1a1a1a1a.../10.0.0.1 to 2b2b2b2b.../10.0.0.2: replaced by b.service\n" +
			"c.service: nowhere: no machine qualifies\n    1 machine: cordoned\n", "", 2,
	}, r)
	assert.Contains(t, f.run(files, "plan", "-o=json", "a.service").out, `"changes": true`)
	r = f.run(files, "plan", "bad.service")
	assert.Equal(t, result{"", "keelson plan: bad.service: Global cannot be used with Peers\n", 1}, r)
	assert.Equal(t, 1, f.run(files, "plan", "none.service").status)
	assert.Equal(t, 1, f.run(files, "plan", "--bogus").status, "2 is for changes")
	for _, asked := range f.asked {
		assert.True(t, strings.HasPrefix(asked, "POST /plan "), asked)
	}
}

func TestRebalance(t *testing.T) {
	f := newFleet()
	assert.Equal(t, result{"nothing to move\n", "", 0}, f.run(nil, "rebalance", "--dry-run", "--budget=3"))
	f.moves.Moves = []client.Move{{Unit: "a.service", From: m1, To: m2, Why: "2 units less"}}
	assert.Equal(t, result{"a.service: from 1a1a1a1a.../10.0.0.1 to 2b2b2b2b.../10.0.0.2: 2 units less\n", "", 0}, f.run(nil, "rebalance"))
	assert.Equal(t, []string{`POST /rebalance {"budget":3,"dryRun":true}`, `POST /rebalance {}`}, f.asked)
	assert.Equal(t, 1, f.run(nil, "rebalance", "--budget=-1").status)
}

func TestCordonAndDrain(t *testing.T) {
	f := newFleet()
	assert.Equal(t, result{"1a1a1a1a.../10.0.0.1 takes no new units\n", "", 0}, f.run(nil, "cordon", "one"))
	assert.Equal(t, result{"2b2b2b2b.../10.0.0.2 takes units again\n", "", 0}, f.run(nil, "uncordon", "2b2b"))
	assert.Equal(t, "keelson cordon: no machine is called \"x\": see \"fleetctl list-machines\"\n", f.run(nil, "cordon", "x").err)
	assert.Equal(t, result{"1a1a1a1a.../10.0.0.1 is drained\n", "", 0}, f.run(nil, "drain", "10.0.0.1"))

	f.instances()
	f.moves = client.Moves{
		Moves: []client.Move{{Unit: "web@1.service", From: m1, To: m2, Why: "draining"}},
		Stay:  []client.Explanation{{Name: "web@2.service", MachineID: m1, Why: "no other machine can take it", Refusals: []client.Refusal{{Machines: 1, Reason: "Conflicts=web@*"}}}},
	}
	r := f.run(nil, "drain", m1, "--timeout=3s")
	assert.Equal(t, result{
		"web@1.service: from 1a1a1a1a.../10.0.0.1 to 2b2b2b2b.../10.0.0.2: draining\n" +
			"web@2.service: stays on 1a1a1a1a.../10.0.0.1: no other machine can take it\n    1 machine: Conflicts=web@*\n",
		"keelson drain: 1 unit cannot leave 1a1a1a1a.../10.0.0.1\nkeelson drain: not gone after 3s: web@1.service\n", 1,
	}, r)
	assert.Equal(t, 3*time.Second, f.now)
	f.drained, f.moves.Stay = true, nil
	assert.Contains(t, f.run(nil, "drain", "one").out, "is drained\n")
	assert.Equal(t, []string{
		"PUT /machines/" + m1 + `/cordon {"state":"cordoned"}`, "DELETE /machines/" + m2 + "/cordon",
	}, f.asked[:2])
}

func TestRolloutRestart(t *testing.T) {
	f := newFleet()
	f.instances()
	r := f.run(nil, "rollout", "restart", "web@", "--healthy-for=1s")
	assert.Equal(t, result{
		"web@1.service restarted, runs on 1a1a1a1a.../10.0.0.1\nweb@2.service restarted, runs on 1a1a1a1a.../10.0.0.1\n" +
			"web@10.service restarted, runs on 1a1a1a1a.../10.0.0.1\nweb@blue.service restarted, runs on 1a1a1a1a.../10.0.0.1\n4 done\n", "", 0,
	}, r)
	assert.GreaterOrEqual(t, f.now, 4*time.Second, "each has run for a second before the next")

	f.broken["web@2.service"] = true
	r = f.run(nil, "rollout", "restart", "web@.service")
	assert.Equal(t, result{
		"web@1.service restarted, runs on 1a1a1a1a.../10.0.0.1\n",
		"keelson rollout: stopped at web@2.service: it is failed (failed) on 1a1a1a1a...: exit-code\n1 done: web@1.service\n2 not begun: web@10.service web@blue.service\n", 1,
	}, r)
	f.asked = nil
	r = f.run(nil, "rollout", "restart", "-o", "json", "--max-unavailable=3", "web@")
	assert.JSONEq(t, `{"done":[],"failed":"web@2.service","why":"it is failed (failed) on 1a1a1a1a...: exit-code",
		"begun":["web@1.service","web@10.service"],"notBegun":["web@blue.service"]}`, r.out)
	assert.Len(t, f.asked, 3)
	assert.Equal(t, "keelson rollout restart: web.service is no template: want a name such as web@\n", f.run(nil, "rollout", "restart", "web").err)
}

// An instance that crashed and was started again between two looks has not been well.
func TestRolloutSeesCrashes(t *testing.T) {
	f := newFleet()
	f.instances()
	f.crash["web@1.service"] = 4900 * time.Millisecond
	r := f.run(nil, "rollout", "restart", "web@", "--healthy-for=5s")
	require.Zero(t, r.status, r.err)
	assert.GreaterOrEqual(t, f.now, 24900*time.Millisecond)
}

func TestRolloutReplace(t *testing.T) {
	f := newFleet()
	f.instances()
	f.slow["web@2.service"] = 20 * time.Second
	files := tool.Memory{"web@.service": []byte(web + "Restart=always\n")}
	r := f.run(files, "rollout", "replace", "web@.service")
	assert.Equal(t, 0, r.status, r.err)
	assert.True(t, strings.HasPrefix(r.out, "web@.service replaced\nweb@1.service replaced, runs on "), r.out)
	assert.Contains(t, r.out, "\nweb@3.service replaced\n", "it was not launched, so nobody waits for it")
	assert.Greater(t, f.now, 20*time.Second)
	for _, name := range f.names() {
		if strings.HasPrefix(name, "web") {
			assert.Equal(t, string(files["web@.service"]), f.units[name].File().String())
		}
	}
	assert.Equal(t, "loaded", f.units["web@3.service"].DesiredState)
	f.asked = nil
	assert.Equal(t, result{"0 done\n", "", 0}, f.run(files, "rollout", "replace", "web@.service"))
	assert.Empty(t, f.asked, "a second run finds nothing to do")

	f.slow["web@1.service"] = f.now + time.Hour
	files["web@.service"] = []byte(web)
	r = f.run(files, "rollout", "replace", "web@.service", "--timeout", "10s")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.err, "stopped at web@1.service: it has not been running for 5s within 10s\n0 done\n4 not begun: web@2.service web@3.service web@10.service web@blue.service\n")
}

func TestRolloutScale(t *testing.T) {
	f := newFleet()
	f.instances()
	r := f.run(nil, "rollout", "scale", "web@", "4")
	require.Equal(t, 0, r.status, r.err)
	assert.Equal(t, "web@3.service started, runs on 1a1a1a1a.../10.0.0.1\nweb@4.service started, runs on 1a1a1a1a.../10.0.0.1\nweb@10.service destroyed\n3 done\n", r.out)
	r = f.run(nil, "rollout", "scale", "web@", "1")
	assert.Equal(t, "web@4.service destroyed\nweb@3.service destroyed\nweb@2.service destroyed\n3 done\n", r.out)
	assert.Equal(t, []string{"other@1.service", "web@.service", "web@1.service", "web@blue.service"}, f.names())
	assert.Equal(t, 1, f.run(nil, "rollout", "scale", "web@", "x").status)
	assert.Contains(t, f.run(nil, "rollout", "scale", "none@", "1").err, "the cluster knows no template none@.service")
}

func TestHelp(t *testing.T) {
	f := newFleet()
	for _, cmd := range Commands() {
		r := f.run(nil, cmd.Name, "--help")
		assert.Equal(t, 0, r.status, cmd.Name)
		assert.Contains(t, r.out, "keelson "+cmd.Name+" - "+cmd.Usage)
	}
	assert.Equal(t, 1, f.run(nil, "rollout", "bogus").status)
	assert.Empty(t, f.asked)
}

func TestReferencePage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/operations.md")
	require.NoError(t, err)
	page := string(text)
	common := map[string]bool{}
	for _, f := range flags() {
		common[f.Names()[0]] = true
	}
	var list func(parents string, cmd *cli.Command)
	list = func(parents string, cmd *cli.Command) {
		name := strings.TrimSpace(parents + " " + cmd.Name)
		for _, sub := range cmd.Commands {
			list(name, sub)
		}
		if len(cmd.Commands) > 0 {
			return
		}
		assert.Contains(t, page, "### "+strings.TrimSpace(name+" "+cmd.ArgsUsage)+"\n")
		assert.Contains(t, page, "\n\n"+strings.ToUpper(cmd.Usage[:1])+strings.Split(cmd.Usage, ",")[0][1:])
		for _, f := range tool.Flags(cmd) {
			if common[f.Name] {
				continue
			}
			usage, _, _ := strings.Cut(f.Usage, " (default: ")
			assert.Regexp(t, "\n\\| `"+regexp.QuoteMeta(f.Names)+"` \\| [^|]*\\| "+regexp.QuoteMeta(usage)+" \\|\n", page)
		}
	}
	for _, cmd := range Commands() {
		list("", cmd)
	}
}
