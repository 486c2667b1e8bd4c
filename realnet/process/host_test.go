package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

// machine is a rig with a life, and words for tests.
type machine struct {
	*rig
	env *env.Env
}

func newMachine(t *testing.T) *machine {
	m := &machine{rig: newRig(t)}
	m.Start(func(e *env.Env) { m.env = e })
	return m
}

// wait runs fn on the loop and waits for what it is told.
func wait[T any](m *machine, fn func(done func(T))) (got T) {
	m.Helper()
	c := make(chan T, 1)
	m.Do(func() { fn(func(v T) { c <- v }) })
	select {
	case got = <-c:
	case <-time.After(20 * time.Second):
		require.Fail(m, "no answer")
	}
	return got
}

// write writes units: pairs of name and text.
func (m *machine) write(pairs ...string) {
	m.Helper()
	var c env.UnitChange
	for i := 0; i < len(pairs); i += 2 {
		c.Write = append(c.Write, env.UnitText{Name: pairs[i], Text: pairs[i+1]})
	}
	failed := wait(m, func(done func([]env.UnitError)) {
		m.env.Systemd.Change(c, func(f []env.UnitError, err error) {
			assert.NoError(m, err)
			done(f)
		})
	})
	require.Empty(m, failed)
}

type answer struct {
	result env.JobResult
	err    error
}

func (m *machine) job(verb env.JobVerb, name string) answer {
	m.Helper()
	return wait(m, func(done func(answer)) {
		m.env.Systemd.Job(verb, name, func(r env.JobResult, err error) { done(answer{r, err}) })
	})
}

func (m *machine) does(verb env.JobVerb, name string, want env.JobResult) {
	m.Helper()
	require.Equal(m, answer{result: want}, m.job(verb, name), "%s %s", verb, name)
}

func (m *machine) status(name string) (s env.UnitStatus) {
	m.Helper()
	units := wait(m, func(done func([]env.UnitStatus)) {
		m.env.Systemd.Units(func(u []env.UnitStatus, _ error) { done(u) })
	})
	i := slices.IndexFunc(units, func(u env.UnitStatus) bool { return u.Name == name })
	require.GreaterOrEqual(m, i, 0, name)
	return units[i]
}

// becomes waits until a unit is active/sub.
func (m *machine) becomes(name, active, sub string) env.UnitStatus {
	m.Helper()
	var s env.UnitStatus
	require.Eventually(m, func() bool {
		s = m.status(name)
		return s.Active == active && s.Sub == sub
	}, 20*time.Second, 10*time.Millisecond, name)
	return s
}

// script is a service that notes what it does in a file.
func script(m *machine, lines ...string) (text, file string) {
	file = filepath.Join(m.TempDir(), "notes")
	return strings.ReplaceAll("[Service]\n"+strings.Join(lines, "\n")+"\n", "NOTE", file), file
}

func notes(file string) []string {
	p, _ := os.ReadFile(file)
	return strings.Fields(string(p))
}

func TestEveryStepRunsInOrder(t *testing.T) {
	m := newMachine(t)
	text, file := script(m,
		"Environment=WHO=%p",
		`ExecStartPre=/bin/sh -c 'echo pre-$$WHO >>NOTE'`,
		`ExecStart=/bin/sh -c 'echo start >>NOTE; exec sleep 1000'`,
		`ExecStartPost=/bin/sh -c 'echo post >>NOTE'`,
		`ExecStop=/bin/sh -c 'echo stop-$$MAINPID >>NOTE'`,
		`ExecStopPost=/bin/sh -c 'echo end-$$SERVICE_RESULT >>NOTE'`)
	m.write("a.service", text)
	m.does(env.JobStart, "a.service", env.JobDone)
	pid := m.RunOf("a.service")
	require.Eventually(t, func() bool { return len(notes(file)) == 3 }, 5*time.Second, 10*time.Millisecond)
	m.does(env.JobStop, "a.service", env.JobDone)
	all := notes(file)
	slices.Sort(all[1:3]) // the main process and what follows its start
	assert.Equal(t, []string{"pre-a", "post", "start", "stop-" + pid, "end-success"}, all)
}

func TestAProgramThatDoesNotEndIsKilled(t *testing.T) {
	m := newMachine(t)
	m.write("a.service", "[Service]\nTimeoutStopSec=300ms\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	time.Sleep(100 * time.Millisecond) // until it does not hear
	m.does(env.JobStop, "a.service", env.JobDone)
	assert.Equal(t, "timeout", m.becomes("a.service", "failed", "failed").Result)
}

// What a unit started and left behind ends with it, unless it says otherwise.
func TestNothingOfAUnitIsLeft(t *testing.T) {
	for mode, left := range map[string]bool{"control-group": false, "mixed": false, "process": true} {
		t.Run(mode, func(t *testing.T) {
			m := newMachine(t)
			text, file := script(m, "KillMode="+mode, `ExecStart=/bin/sh -c 'setsid sleep 1234 & echo $$! >NOTE; exec sleep 1000'`)
			m.write("a.service", text)
			m.does(env.JobStart, "a.service", env.JobDone)
			require.Eventually(t, func() bool { return len(notes(file)) == 1 }, 5*time.Second, 10*time.Millisecond)
			m.does(env.JobStop, "a.service", env.JobDone)
			var pid int
			fmt.Sscan(notes(file)[0], &pid)
			s, ok := readStat(pid)
			assert.Equal(t, left, ok && !s.zombie)
			if left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		require.NotEqual(t, "true", os.Getenv("CI"), "only root can, as the tests on machines with systemd")
		t.Skip("only root can")
	}
	m := newMachine(t)
	m.write(
		"a.service", "[Service]\nType=oneshot\nUser=nobody\nExecStart=/bin/sh -c 'test $(id -un) = nobody'\nExecStart=+/bin/sh -c 'test $(id -u) = 0'\n",
		"b.service", "[Service]\nType=oneshot\nUser=no-such-user\nExecStart=/bin/true\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	m.does(env.JobStart, "b.service", env.JobFailed)
}

// A sidekick starts after its main unit, with it, and ends with it.
func TestASidekick(t *testing.T) {
	m := newMachine(t)
	m.write(
		"main.service", "[Service]\nExecStartPre=/bin/sleep 0.3\nExecStart=/bin/sleep 1000\n",
		"side.service", "[Unit]\nBindsTo=main.service\nAfter=main.service docker.service\nRequires=docker.service\n\n[Service]\nExecStart=/bin/sleep 1000\n")
	m.does(env.JobStart, "side.service", env.JobDone)
	assert.Equal(t, "active", m.status("main.service").Active)
	m.does(env.JobStop, "main.service", env.JobDone)
	m.becomes("side.service", "inactive", "dead")

	m.write("main.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
	m.does(env.JobStart, "side.service", env.JobDependency)
	assert.Equal(t, "inactive", m.status("side.service").Active)
}

// Units that wait for one another in a circle start all the same.
func TestACircle(t *testing.T) {
	m := newMachine(t)
	m.write(
		"a.service", "[Unit]\nRequires=b.service\nAfter=b.service\n\n[Service]\nExecStart=/bin/sleep 1000\n",
		"b.service", "[Unit]\nRequires=a.service\nAfter=a.service\n\n[Service]\nExecStart=/bin/sleep 1000\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	m.becomes("b.service", "active", "running")
}

func TestAHostThatIsKilled(t *testing.T) {
	m := newMachine(t)
	m.write(
		"a.service", "[Service]\nExecStart=/bin/sh -c 'i=0; while :; do echo line$i; i=$((i+1)); sleep 0.1; done'\n",
		"slow.service", "[Service]\nExecStartPre=/bin/sleep 1000\nExecStart=/bin/true\n",
		"once.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	m.does(env.JobStart, "once.service", env.JobDone)
	m.Do(func() { m.env.Systemd.Job(env.JobStart, "slow.service", func(env.JobResult, error) {}) })
	m.becomes("slow.service", "activating", "start-pre")
	run, host := m.RunOf("a.service"), m.hostPID()
	require.NoError(t, syscall.Kill(host, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		conn, err := dial(m.dir)
		if err != nil {
			return false
		}
		conn.Close()
		return m.hostPID() != host
	}, 10*time.Second, 10*time.Millisecond, "another host")
	require.Eventually(t, func() bool {
		return wait(m, func(done func(bool)) { m.env.Systemd.Units(func(_ []env.UnitStatus, err error) { done(err == nil) }) })
	}, 10*time.Second, 10*time.Millisecond)
	assert.Equal(t, run, m.RunOf("a.service"))
	assert.Equal(t, "running", m.status("a.service").Sub)
	assert.Equal(t, "exited", m.status("once.service").Sub)
	assert.Equal(t, "failed", m.status("slow.service").Active, "it was on its way")

	// Nothing that it said meanwhile is lost.
	require.Eventually(t, func() bool {
		lines, _ := openLog(filepath.Join(m.dir, hostDir), "a.service").past(-1, false)
		next := 0
		for _, l := range lines {
			if l.text == fmt.Sprint("line", next) {
				next++
			} else {
				assert.False(t, strings.HasPrefix(l.text, "line"), "%s after line%d", l.text, next-1)
			}
		}
		return next > 3
	}, 10*time.Second, 100*time.Millisecond)
	m.does(env.JobStop, "a.service", env.JobDone)
	assert.Empty(t, m.RunOf("a.service"))
	m.does(env.JobStart, "a.service", env.JobDone)
}

// What restarts by itself does so whether or not its host lives to see its end.
func TestAHostThatIsKilledWithWhatItRuns(t *testing.T) {
	m := newMachine(t)
	m.write(
		"always.service", "[Service]\nExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=10ms\n",
		"never.service", "[Service]\nExecStart=/bin/sleep 1000\n",
		"waits.service", "[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1h\n")
	for _, name := range []string{"always.service", "never.service", "waits.service"} {
		m.does(env.JobStart, name, env.JobDone)
	}
	m.becomes("waits.service", "activating", "auto-restart")
	run, host := m.RunOf("always.service"), m.hostPID()
	require.NoError(t, syscall.Kill(host, syscall.SIGKILL))
	for _, r := range []string{run, m.RunOf("never.service")} {
		var pid int
		fmt.Sscan(r, &pid)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.Eventually(t, func() bool {
		return m.RunOf("always.service") != "" && m.RunOf("always.service") != run
	}, 10*time.Second, 10*time.Millisecond)
	m.becomes("always.service", "active", "running")
	m.becomes("never.service", "failed", "failed")
	m.becomes("waits.service", "activating", "auto-restart")
	m.does(env.JobStop, "waits.service", env.JobDone)
	m.becomes("waits.service", "inactive", "dead")
	assert.NoFileExists(t, filepath.Join(m.dir, hostDir, "waits.service"+stateEnd))
}

// A unit that says more than is kept keeps the last of it.
func TestAFloodOfLines(t *testing.T) {
	m := newMachine(t)
	m.write("a.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'seq 400000; printf %%060000d 1; echo; echo the end'\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	l := openLog(filepath.Join(m.dir, hostDir), "a.service")
	require.Eventually(t, func() bool {
		lines, _ := l.past(3, false)
		return slices.ContainsFunc(lines, func(l line) bool { return l.text == "the end" })
	}, 10*time.Second, 20*time.Millisecond)
	size := int64(0)
	for _, end := range []string{".log", ".log.1"} {
		if info, err := os.Stat(l.path + end); err == nil {
			size += info.Size()
		}
	}
	assert.Greater(t, size, int64(logMax/2))
	assert.LessOrEqual(t, size, int64(2*logMax+2*lineCut))
}

func TestWhatNeedsSystemdSaysSo(t *testing.T) {
	m := newMachine(t)
	m.write("a.service", "[Service]\nType=forking\nExecStart=/bin/true\n", "b.timer", "[Timer]\nOnBootSec=1\n", "c.target", "[Unit]\nDescription=x\n")
	assert.ErrorContains(t, m.job(env.JobStart, "a.service").err, "Type=forking needs systemd")
	assert.ErrorContains(t, m.job(env.JobStart, "b.timer").err, "timer units need systemd")
	assert.Equal(t, "loaded", m.status("b.timer").Load)
	m.does(env.JobStart, "c.target", env.JobDone)
	assert.Equal(t, "active", m.status("c.target").Active)
	m.does(env.JobStop, "c.target", env.JobDone)
}

func TestPowerOff(t *testing.T) {
	m := newMachine(t)
	m.write("a.service", "[Service]\nExecStart=/bin/sleep 1000\n")
	m.does(env.JobStart, "a.service", env.JobDone)
	run := m.RunOf("a.service")
	m.Kill()
	require.NoError(t, PowerOff(m.dir))
	var pid int
	fmt.Sscan(run, &pid)
	s, ok := readStat(pid)
	assert.False(t, ok && !s.zombie)
	m.Start(func(e *env.Env) { m.env = e })
	assert.Equal(t, "inactive", m.status("a.service").Active)
}
