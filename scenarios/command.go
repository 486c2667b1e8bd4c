package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/cmd/cli/discovery"
	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/fleetctl"
	"github.com/keelson/keelson/cmd/cli/locksmithctl"
	"github.com/keelson/keelson/cmd/cli/member"
	"github.com/keelson/keelson/cmd/cli/snapshot"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/cmd/cli/units"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
)

// command runs a command line to its end, or starts it in the background.
func (r *runner) command(s *script.Statement, d *script.Command) error {
	j, err := r.spawn(d)
	if err != nil {
		return err
	}
	if d.Background != "" {
		if _, taken := r.jobs[d.Background]; taken {
			return fmt.Errorf("there is a command named %s already", d.Background)
		}
		r.jobs[d.Background] = j
		return nil
	}
	if !r.cluster.Await(j.proc, commandMax) && r.cluster.Failure() == nil {
		return fmt.Errorf("not done after %v%s", commandMax, r.picture())
	}
	s.Output = j.output()
	lines := strings.Split(strings.TrimSpace(s.Output), "\n")
	r.last = lines[len(lines)-1]
	return nil
}

// output is what a person at a terminal would see: what was printed, then each
// line of standard error with a mark, then the status if it is not 0.
func (j *job) output() string {
	var b strings.Builder
	b.Write(j.stdout.Bytes()[j.shown:])
	j.shown = j.stdout.Len()
	for line := range strings.Lines(j.stderr.String()) {
		b.WriteString("! " + line)
	}
	j.stderr.Reset()
	if j.status != 0 {
		fmt.Fprintf(&b, "[exit %d]\n", j.status)
	}
	return b.String()
}

// endpoints is where a client looks that knows all machines of the cluster: those
// that were ever seen in it.
func (r *runner) endpoints() []string {
	var urls []string
	for _, m := range r.cluster.Machines() {
		if r.cluster.Inside(m) {
			urls = append(urls, m.URL())
		}
	}
	if urls == nil {
		return r.cluster.Endpoints()
	}
	return urls
}

func (r *runner) read(s *script.Statement, d *script.Read) error {
	j, ok := r.jobs[d.Name]
	if !ok {
		return fmt.Errorf("no command in the background is named %s", d.Name)
	}
	s.Output = j.output()
	return nil
}

func (r *runner) spawn(d *script.Command) (*job, error) {
	run := tools[d.Args[0]]
	endpoints := r.endpoints()
	var at *sim.Machine
	if d.At != "" {
		var err error
		if at, err = r.machine(d.At); err != nil {
			return nil, err
		}
		endpoints = []string{at.URL()}
	}
	r.count++
	j := &job{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
	args := r.filled(d.Args)
	if d.At != "" && args[0] == "etcdctl" {
		args = append([]string{"etcdctl", "--no-sync"}, args[1:]...)
	}
	j.proc = r.cluster.Spawn(fmt.Sprintf("cli-%d", r.count), func(p *sim.Proc) {
		doer := restarts{r.load.Doer(p), r}
		j.status = run(p, view(p, doer, r.filesOf(at), endpoints, j), args)
	})
	return j, nil
}

// restarts sees requests that have a running unit restarted, which is no mistake of the
// machine's then.
type restarts struct {
	client.Doer
	r *runner
}

// Do implements client.Doer.
func (d restarts) Do(ctx context.Context, req *client.Request) (*client.Response, error) {
	name, asked := strings.CutSuffix(req.Path, "/restart")
	if name, ok := strings.CutPrefix(name, "/fleet/v1/units/"); asked && ok && d.r.units != nil {
		if name, err := url.PathUnescape(name); err == nil {
			d.r.units.Excuse(name)
		}
	}
	return d.Doer.Do(ctx, req)
}

// program is a command line of a scenario.
type program func(p *sim.Proc, t *tool.Tool, args []string) int

// of makes a program of a tool's Run.
func of(run func(context.Context, *tool.Tool, []string) int) program {
	return func(p *sim.Proc, t *tool.Tool, args []string) int { return run(p.Context(), t, args) }
}

// tools are the programs that a command line may begin with.
var tools = map[string]program{
	"etcdctl":      of(etcdctl.Run),
	"fleetctl":     of(fleetctl.Run),
	"locksmithctl": of(locksmithctl.Run),
	"curl":         curl,
	"keelson":      keelson,
}

// verbs are the words that may follow keelson: those that need no process of their own.
var verbs = map[string]program{
	"discovery": of(discovery.Run),
	"member":    of(member.Run),
	"snapshot":  of(snapshot.Run),

	"cordon":    of(units.Run),
	"drain":     of(units.Run),
	"plan":      of(units.Run),
	"rebalance": of(units.Run),
	"rollout":   of(units.Run),
	"uncordon":  of(units.Run),
	"why":       of(units.Run),
}

func keelson(p *sim.Proc, t *tool.Tool, args []string) int {
	if len(args) > 1 && verbs[args[1]] != nil {
		return verbs[args[1]](p, t, args[1:])
	}
	fmt.Fprintf(t.Err, "keelson: a scenario knows of its verbs only %s\n", strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
	return 2
}

// view is the world that a command sees inside the simulator. Processes cannot be
// started there.
func view(p *sim.Proc, doer client.Doer, fs files, endpoints []string, j *job) *tool.Tool {
	env := map[string]string{
		"ETCDCTL_ENDPOINTS":     strings.Join(endpoints, ","),
		"LOCKSMITHCTL_ENDPOINT": strings.Join(endpoints, ","),
		"FLEETCTL_ENDPOINT":     strings.Join(endpoints, ","),
	}
	return &tool.Tool{
		Version:  "simulated",
		In:       strings.NewReader(""),
		Out:      j.stdout,
		Err:      j.stderr,
		Getenv:   func(name string) string { return env[name] },
		Environ:  func() []string { return nil },
		Connect:  func(tool.Connection) (client.Doer, error) { return doer, nil },
		ReadFile: func(name string) ([]byte, error) { return tool.Load(fs, name) },
		Files:    fs,
		Random:   func() [8]byte { return binaryOf(p) },
	}
}

// binaryOf draws from the stream of the command's own.
func binaryOf(p *sim.Proc) (b [8]byte) {
	for i := range b {
		b[i] = byte(p.Float64() * 256)
	}
	return b
}

// curl sends one request as it is: curl [-i] [-X METHOD] [-d FORM] PATH|URL. It prints
// the status, unless it is 200, the head with -i, and the body.
func curl(p *sim.Proc, t *tool.Tool, args []string) int {
	req := &client.Request{Endpoint: strings.Split(t.Getenv("ETCDCTL_ENDPOINTS"), ",")[0], Method: "GET"}
	head := false
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "-X" && i+1 < len(args):
			i++
			req.Method = args[i]
		case args[i] == "-d" && i+1 < len(args):
			i++
			req.Body, req.ContentType = args[i], "application/x-www-form-urlencoded"
		case args[i] == "-i":
			head = true
		default:
			req.Endpoint, req.Path = address(req.Endpoint, args[i])
			req.Path, req.Query, _ = strings.Cut(req.Path, "?")
		}
	}
	doer, err := t.Connect(tool.Connection{})
	if err != nil {
		fmt.Fprintf(t.Err, "curl: %v\n", err)
		return 1
	}
	resp, err := doer.Do(p.Context(), req)
	if err != nil {
		fmt.Fprintf(t.Err, "curl: %v\n", err)
		return 7
	}
	defer resp.Body.Close()
	if resp.Status != 200 || head {
		fmt.Fprintf(t.Out, "status %d\n", resp.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		if head {
			fmt.Fprintf(t.Out, "%s: %s\n", name, resp.Header[name])
		}
	}
	if _, err := io.Copy(t.Out, resp.Body); err != nil {
		fmt.Fprintf(t.Err, "curl: %v\n", err)
		return 18
	}
	return 0
}

// address parts a URL; a path alone is one of the server that is asked.
func address(server, text string) (endpoint, path string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return server, text
	}
	host, path, _ := strings.Cut(rest, "/")
	return scheme + "://" + host, "/" + path
}
