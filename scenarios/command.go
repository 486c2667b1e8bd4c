package scenarios

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/locksmithctl"
	"github.com/keelson/keelson/cmd/cli/tool"
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
	endpoints := r.cluster.Endpoints()
	if d.At != "" {
		m, err := r.machine(d.At)
		if err != nil {
			return nil, err
		}
		endpoints = []string{m.URL()}
	}
	r.count++
	j := &job{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}
	args := d.Args
	if d.At != "" && args[0] == "etcdctl" {
		args = append([]string{"etcdctl", "--no-sync"}, args[1:]...)
	}
	j.proc = r.cluster.Spawn(fmt.Sprintf("cli-%d", r.count), func(p *sim.Proc) {
		doer := r.load.Doer(p)
		j.status = run(p, view(doer, d.At, endpoints, j), args)
	})
	return j, nil
}

// tools are the programs that a command line may begin with.
var tools = map[string]func(p *sim.Proc, t *tool.Tool, args []string) int{
	"etcdctl":      func(p *sim.Proc, t *tool.Tool, args []string) int { return etcdctl.Run(p.Context(), t, args) },
	"locksmithctl": func(p *sim.Proc, t *tool.Tool, args []string) int { return locksmithctl.Run(p.Context(), t, args) },
	"curl":         curl,
}

// view is the world that a command sees inside the simulator. Processes cannot be
// started there, and the only file is the machine's name.
func view(doer client.Doer, at string, endpoints []string, j *job) *tool.Tool {
	env := map[string]string{
		"ETCDCTL_ENDPOINTS":     strings.Join(endpoints, ","),
		"LOCKSMITHCTL_ENDPOINT": strings.Join(endpoints, ","),
	}
	return &tool.Tool{
		Version: "simulated",
		In:      strings.NewReader(""),
		Out:     j.stdout,
		Err:     j.stderr,
		Getenv:  func(name string) string { return env[name] },
		Environ: func() []string { return nil },
		Connect: func(tool.Connection) (client.Doer, error) { return doer, nil },
		ReadFile: func(name string) ([]byte, error) {
			if name == "/etc/machine-id" && at != "" {
				return []byte(at + "\n"), nil
			}
			return nil, fmt.Errorf("open %s: no such file in a scenario", name)
		},
	}
}

// curl sends one request as it is: curl [-X METHOD] [-d FORM] PATH. It prints the
// status, unless it is 200, and the body.
func curl(p *sim.Proc, t *tool.Tool, args []string) int {
	req := &client.Request{Endpoint: strings.Split(t.Getenv("ETCDCTL_ENDPOINTS"), ",")[0], Method: "GET"}
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "-X" && i+1 < len(args):
			i++
			req.Method = args[i]
		case args[i] == "-d" && i+1 < len(args):
			i++
			req.Body, req.ContentType = args[i], "application/x-www-form-urlencoded"
		default:
			req.Path, req.Query, _ = strings.Cut(args[i], "?")
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
	if resp.Status != 200 {
		fmt.Fprintf(t.Out, "status %d\n", resp.Status)
	}
	if _, err := io.Copy(t.Out, resp.Body); err != nil {
		fmt.Fprintf(t.Err, "curl: %v\n", err)
		return 18
	}
	return 0
}
