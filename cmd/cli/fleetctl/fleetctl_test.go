package fleetctl

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

const hello = "[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo \\\"Hello, world\\\"; sleep 1; done\"\n"

func service(exec string, fleet ...string) []byte {
	text := "[Service]\nExecStart=" + exec + "\n"
	if fleet != nil {
		text += "\n[X-Fleet]\n" + strings.Join(fleet, "\n") + "\n"
	}
	return []byte(text)
}

func newConsole() (*console, *fleet) {
	f := newFleet()
	return &console{doer: f, env: map[string]string{}, files: tool.Memory{
		"hello.service":      []byte(hello),
		"home/hello.service": []byte(hello),
		"web@.service":       service("/bin/sleep %i", "Conflicts=web@*.service"),
		"side@.service":      []byte("[Unit]\nDescription=Sidekick %i\n[Service]\nExecStart=/bin/true\n"),
		"glob.service":       service("/bin/sleep 1", "Global=true"),
		"rep.service":        service("/bin/sleep 1"),
		"odd.service":        service("/bin/sleep 1", "Bogus=1"),
		"broken.service":     []byte("[Service]\nnothing\n"),
	}}, f
}

// The session that was captured from the original, with its defects put right.
func TestCapturedSession(t *testing.T) {
	c, _ := newConsole()
	c.session(t, `
$ fleetctl list-machines
MACHINE		IP		METADATA
1a1a1a1a...	10.78.0.11	az=a,disk=ssd,region=us-east
2b2b2b2b...	10.78.0.12	az=b,disk=hdd,region=us-east
3c3c3c3c...	10.78.0.13	az=c,disk=ssd,region=us-west
$ fleetctl list-machines --full
MACHINE					IP		METADATA
1a1a1a1a00000000000000000000aaaa	10.78.0.11	az=a,disk=ssd,region=us-east
2b2b2b2b00000000000000000000bbbb	10.78.0.12	az=b,disk=hdd,region=us-east
3c3c3c3c00000000000000000000cccc	10.78.0.13	az=c,disk=ssd,region=us-west
$ fleetctl list-units
UNIT	MACHINE	ACTIVE	SUB
$ fleetctl list-unit-files
UNIT	HASH	DSTATE	STATE	TARGET
$ fleetctl submit hello.service
Unit hello.service inactive
$ fleetctl list-unit-files
UNIT		HASH	DSTATE		STATE		TARGET
hello.service	e55c0ae	inactive	inactive	-
$ fleetctl load hello.service
Unit hello.service loaded on 1a1a1a1a.../10.78.0.11
$ fleetctl list-unit-files
UNIT		HASH	DSTATE	STATE	TARGET
hello.service	e55c0ae	loaded	loaded	1a1a1a1a.../10.78.0.11
$ fleetctl list-units
UNIT		MACHINE			ACTIVE		SUB
hello.service	1a1a1a1a.../10.78.0.11	inactive	dead
$ fleetctl start hello.service
Unit hello.service launched on 1a1a1a1a.../10.78.0.11
$ fleetctl list-unit-files
UNIT		HASH	DSTATE		STATE		TARGET
hello.service	e55c0ae	launched	launched	1a1a1a1a.../10.78.0.11
$ fleetctl list-units
UNIT		MACHINE			ACTIVE	SUB
hello.service	1a1a1a1a.../10.78.0.11	active	running
$ fleetctl stop hello.service
Unit hello.service loaded on 1a1a1a1a.../10.78.0.11
2> Successfully stopped units [hello.service].
$ fleetctl stop hello.service
2> Successfully stopped units [].
$ fleetctl unload hello.service
Unit hello.service inactive
2> Successfully unloaded units [hello.service].
$ fleetctl stop hello.service
2> Unable to stop unit hello.service in state inactive
[1]
$ fleetctl destroy hello.service
Destroyed hello.service
$ fleetctl destroy hello.service
2> Units not found in registry
$ fleetctl submit web@.service side@.service
Unit web@.service inactive
Unit side@.service inactive
$ fleetctl start web@.service
2> Error starting units: googleapi: Error 400: cannot activate template "web@.service"
[1]
$ fleetctl start web@1 web@2.service web@3
Unit web@1.service inactive
Unit web@2.service inactive
Unit web@3.service inactive
Unit web@1.service launched on 1a1a1a1a.../10.78.0.11
Unit web@2.service launched on 2b2b2b2b.../10.78.0.12
Unit web@3.service launched on 3c3c3c3c.../10.78.0.13
$ fleetctl start web@4 --block-attempts=2
Unit web@4.service inactive
2> Error waiting for units: timed out waiting for unit web@4.service to report state launched
2> Error waiting for unit states, exit status: timed out waiting for unit web@4.service to report state launched
[1]
$ fleetctl list-units --fields=unit,load,active,sub,machine
UNIT		LOAD	ACTIVE	SUB	MACHINE
web@1.service	loaded	active	running	1a1a1a1a.../10.78.0.11
web@2.service	loaded	active	running	2b2b2b2b.../10.78.0.12
web@3.service	loaded	active	running	3c3c3c3c.../10.78.0.13
$ fleetctl list-unit-files --fields=unit,desc,global,target
UNIT		DESC		GLOBAL	TARGET
side@.service	Sidekick %i	false	-
web@.service	-		false	-
web@1.service	-		false	1a1a1a1a.../10.78.0.11
web@2.service	-		false	2b2b2b2b.../10.78.0.12
web@3.service	-		false	3c3c3c3c.../10.78.0.13
web@4.service	-		false	-
$ fleetctl destroy web@*
Destroyed web@.service
Destroyed web@1.service
Destroyed web@2.service
Destroyed web@3.service
Destroyed web@4.service
$ fleetctl destroy side@
Destroyed side@.service
$ fleetctl start glob.service
Triggered global unit glob.service start
$ fleetctl list-unit-files --fields=unit,dstate,state,target
UNIT		DSTATE		STATE	TARGET
glob.service	launched	-	global
$ fleetctl list-units
UNIT		MACHINE			ACTIVE	SUB
glob.service	1a1a1a1a.../10.78.0.11	active	running
glob.service	2b2b2b2b.../10.78.0.12	active	running
glob.service	3c3c3c3c.../10.78.0.13	active	running
$ fleetctl stop glob.service
Triggered global unit glob.service stop
2> Successfully stopped units [].
`)
}

func TestReplace(t *testing.T) {
	c, _ := newConsole()
	c.session(t, `
$ fleetctl start rep
Unit rep.service inactive
Unit rep.service launched on 1a1a1a1a.../10.78.0.11
`)
	c.files["rep.service"] = service("/bin/sleep 2")
	c.session(t, `
$ fleetctl start rep.service
2> WARNING: Unit rep.service in registry differs from local unit file rep.service. Add --replace to override.
$ fleetctl submit --replace rep.service
2> Warning: can not replace Unit(rep.service) in state 'launched', use the appropriate command
`)
	c.session(t, `
$ fleetctl start -replace rep.service
Unit rep.service launched on 1a1a1a1a.../10.78.0.11
$ fleetctl start --replace rep.service
Found same Unit(rep.service) in Registry, nothing to do
$ fleetctl restart rep
Unit rep.service loaded on 1a1a1a1a.../10.78.0.11
Unit rep.service launched on 1a1a1a1a.../10.78.0.11
2> INFO Unit(rep.service) was restarted.
$ fleetctl submit --replace web@5
Unit web@5.service inactive
$ fleetctl submit --replace other@5
2> Error creating units: unable to find template Unit(other@.service) in Registry or on filesystem
[1]
`)
	delete(c.files, "rep.service")
	c.session(t, `
$ fleetctl start --replace rep
2> Error creating units: error Unit rep.service does not seem to be a template unit
[1]
`)
}

func TestMistakes(t *testing.T) {
	c, f := newConsole()
	for _, verb := range []string{"submit", "load", "start", "stop", "restart", "unload", "destroy"} {
		assert.Equal(t, result{"", "No units given\n", 0}, c.run(verb), verb)
	}
	c.session(t, `
$ fleetctl bogus
2> fleetctl: unknown command: "bogus"
2> Run 'fleetctl help' for usage.
[1]
$ fleetctl list
2> fleetctl: ambiguous command: "list" may be list-machines, list-unit-files, list-units
2> Run 'fleetctl help' for usage.
[1]
$ fleetctl list-units --bogus
2> fleetctl: unknown flag: --bogus
2> Run 'fleetctl help' for usage.
[1]
$ fleetctl list-units --lines 3
2> fleetctl: unknown flag: --lines
2> Run 'fleetctl help' for usage.
[1]
$ fleetctl journal --lines x hello
2> fleetctl: invalid value "x" for flag --lines
2> Run 'fleetctl help' for usage.
[1]
$ fleetctl journal --lines=-1 hello
2> --lines=-1: want 0 or more
[1]
$ fleetctl list-units --fields=
2> Must define output format
[1]
$ fleetctl list-units --fields unit,bogus
2> Invalid key in output format: "bogus"
[1]
$ fleetctl --driver foo list-units
2> Unable to initialize client: unrecognized driver "foo"
[1]
$ fleetctl --endpoint unix://var/run/fleet.sock list-units
2> Unable to initialize client: unable to connect to host "var" with scheme "unix"
[1]
$ fleetctl --endpoint /var/run/fleet.sock list-units
2> Unable to initialize client: URL scheme undefined
[1]
$ fleetctl start nothing
2> Error creating units: unable to find Unit(nothing.service) in Registry or on filesystem
[1]
$ fleetctl start nothing*
2> Error creating units: unable to find Unit(nothing*.service) in Registry or on filesystem
[1]
$ fleetctl submit nothing@1
2> Error creating units: unable to find template Unit(nothing@.service) in Registry or on filesystem
[1]
$ fleetctl submit broken
2> Error creating units: failed getting Unit(broken.service) from file: unexpected newline encountered while parsing option name
[1]
$ fleetctl submit odd
Unit odd.service inactive
2> WARN Unit odd.service: unrecognized requirement in [X-Fleet] section: "Bogus"
$ fleetctl cat
2> One unit file must be provided
[1]
$ fleetctl cat nothing
2> Unit nothing.service not found
[1]
$ fleetctl status nothing
2> Unit nothing.service does not exist.
[1]
$ fleetctl status odd
2> Unit odd.service does not appear to be loaded.
[1]
$ fleetctl journal
2> One unit file must be provided.
[1]
$ fleetctl journal odd
2> Unit odd.service does not appear to be running.
[1]
$ fleetctl stop nothing
2> Units not found in registry
$ fleetctl restart odd
2> Unable to restart unit odd.service in state inactive
$ fleetctl restart nothing
2> Error creating units: unable to find Unit(nothing.service) in Registry or on filesystem
[1]
$ fleetctl ssh
2> Unable to proceed: one machine or unit must be provided
[1]
$ fleetctl ssh --machine 1a --unit odd
2> Both machine and unit flags provided, please specify only one.
[1]
$ fleetctl ssh nothing
2> Unable to proceed: could not find matching unit or machine
[1]
$ fleetctl verify odd
2> WARNING: The signed/verified units feature is DEPRECATED and cannot be used.
[2]
$ fleetctl version
fleetctl version 1.0.0
$ fleetctl --version
fleetctl version 1.0.0
$ fleetctl list-units -v
fleetctl version 1.0.0
`)
	f.down = true
	r := c.run("list-machines")
	assert.Equal(t, 1, r.status)
	assert.True(t, strings.HasPrefix(r.err, "Error retrieving list of active machines from fleet API (dial unix /var/run/fleet.sock: connect: no such file or directory)\nPossible issues:\n"), r.err)
	assert.Len(t, strings.Split(strings.TrimSpace(r.err), "\n"), 4)
}

// Flags stand anywhere and take one dash or two; a command may be cut short.
func TestFlagsAnywhere(t *testing.T) {
	c, _ := newConsole()
	c.env["FLEETCTL_ENDPOINT"] = "http://10.0.0.1:49153"
	full := c.run("list-machines", "--full").out
	for _, args := range []string{
		"list-machines -l", "-l list-machines", "--l list-m", "list_machines -full", "list-machines --full=true", "--full list_machines --request-timeout 5",
		"--endpoint=http://a list-machines -l", "-endpoint http://a list-machines -l", "list-machines --endpoint file:///run/fleet.sock -l --ssh-timeout=3",
	} {
		assert.Equal(t, result{full, "", 0}, c.run(strings.Fields(args)...), args)
	}
	c.session(t, `
$ fleetctl --no-block start hello
Unit hello.service inactive
Triggered unit hello.service start
$ fleetctl cat home/hello
[Unit]
Description=Hello World

[Service]
ExecStart=/bin/bash -c "while true; do echo \"Hello, world\"; sleep 1; done"
$ fleetctl list-units -no-legend
hello.service	1a1a1a1a.../10.78.0.11	active	running
`)
	c.env["FLEETCTL_REQUEST_TIMEOUT"] = "soon"
	assert.Equal(t, 1, c.run("list-units").status)
}

func TestGlobs(t *testing.T) {
	c, _ := newConsole()
	c.session(t, `
$ fleetctl submit web@ web@1 web@2 hello
Unit web@.service inactive
Unit web@1.service inactive
Unit web@2.service inactive
Unit hello.service inactive
$ fleetctl start web@*
Unit web@1.service launched on 1a1a1a1a.../10.78.0.11
Unit web@2.service launched on 2b2b2b2b.../10.78.0.12
$ fleetctl stop *
Unit web@1.service loaded on 1a1a1a1a.../10.78.0.11
Unit web@2.service loaded on 2b2b2b2b.../10.78.0.12
2> Successfully stopped units [web@1.service web@2.service].
$ fleetctl unload web@[13]
Unit web@1.service inactive
2> Successfully unloaded units [web@1.service].
$ fleetctl unload zzz*
2> Units not found in registry
`)
}

// What systemd refuses to start is never launched, and nobody waits for that.
func TestStartOfWhatCannotBeStarted(t *testing.T) {
	c, f := newConsole()
	f.behaves["rep.service"] = client.UnitState{LoadState: "bad-setting", ActiveState: "inactive", SubState: "dead", Result: "start: refused"}
	c.session(t, `
$ fleetctl start rep
Unit rep.service inactive
2> Error waiting for units: Failed to find an active unit rep.service within 2s, err: its file is bad-setting on 1a1a1a1a...: start: refused
2> Error waiting for systemd unit states, err: Failed to find an active unit rep.service within 2s, err: its file is bad-setting on 1a1a1a1a...: start: refused
[1]
`)
	f.behaves["web@1.service"] = client.UnitState{LoadState: "loaded", ActiveState: "inactive", SubState: "dead", Result: "start web@1.service: the service manager refuses: Type=notify is not supported"}
	assert.Contains(t, c.run("start", "web@1").err, "it is inactive (dead) on 1a1a1a1a...: start web@1.service: the service manager refuses: Type=notify is not supported")
}

// A start is judged by what became of it.
func TestStartIsJudged(t *testing.T) {
	c, f := newConsole()
	f.behaves["rep.service"] = client.UnitState{ActiveState: "failed", SubState: "failed", Result: "exit-code"}
	c.session(t, `
$ fleetctl start rep
Unit rep.service inactive
Unit rep.service launched on 1a1a1a1a.../10.78.0.11
2> Error waiting for units: Failed to find an active unit rep.service within 2s, err: it is failed (failed) on 1a1a1a1a...: exit-code
2> Error waiting for systemd unit states, err: Failed to find an active unit rep.service within 2s, err: it is failed (failed) on 1a1a1a1a...: exit-code
[1]
`)
	f.behaves["hello.service"] = client.UnitState{ActiveState: "inactive", SubState: "dead", Result: "success"}
	c.session(t, `
$ fleetctl start hello
Unit hello.service inactive
Unit hello.service launched on 1a1a1a1a.../10.78.0.11
`)
	f.behaves["odd.service"] = client.UnitState{ActiveState: "inactive", SubState: "dead"}
	began := f.now
	r := c.run("start", "odd")
	assert.Equal(t, 0, r.status, "a server that does not tell: %s", r.err)
	assert.GreaterOrEqual(t, f.now-began, attempt)

	f.behaves["web@1.service"] = client.UnitState{ActiveState: "activating", SubState: "start-pre"}
	r = c.run("start", "web@1", "--block-attempts", "3")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.err, "Failed to find an active unit web@1.service within 6s, err: it is not yet started")
}

// A wait bears with servers that do not answer for a while, and not for ever.
func TestWaitOutlivesAnOutage(t *testing.T) {
	c, f := newConsole()
	f.behaves["hello.service"] = client.UnitState{ActiveState: "activating", SubState: "start"}
	f.away = [2]time.Duration{2 * time.Second, 14 * time.Second}
	r := c.run("start", "hello", "--block-attempts=10")
	assert.Contains(t, r.err, "within 20s, err: it is not yet started")

	f.away = [2]time.Duration{f.now + time.Second, f.now + time.Hour}
	f.behaves["rep.service"] = f.behaves["hello.service"]
	began := f.now
	r = c.run("start", "rep")
	assert.Equal(t, 1, r.status)
	assert.Equal(t, "Error waiting for systemd unit states, err: dial unix /var/run/fleet.sock: connect: no such file or directory\n", r.err)
	assert.InDelta(t, 16, (f.now - began).Seconds(), 1)
}

func TestStatusAndJournal(t *testing.T) {
	c, f := newConsole()
	f.ours = true
	c.session(t, `
$ fleetctl start --no-block hello glob
Unit hello.service inactive
Triggered global unit glob.service start
Triggered unit hello.service start
$ fleetctl list-unit-files --no-legend --fields unit
glob.service
hello.service
$ fleetctl status hello hello
● hello.service on 1a
[3]
$ fleetctl status glob
● glob.service on 1a

● glob.service on 2b

● glob.service on 3c
[3]
$ fleetctl journal hello
hello.service lines=10 follow= output=short
$ fleetctl journal -f --lines 3 --output=json hello
hello.service lines=3 follow=true output=json
$ fleetctl journal glob
2> Unable to retrieve journal of global unit glob.service.
[1]
`)
}

// Where the server has no pages for it, machines are asked by SSH, and this one directly.
func TestOverSSH(t *testing.T) {
	c, _ := newConsole()
	c.run("start", "hello")
	var ran []string
	c.tool = func(t *tool.Tool) {
		t.SSH = func(_ context.Context, how tool.SSH, address string, p *tool.Process) (int, error) {
			ran = append(ran, how.User+"@"+address+" "+how.Tunnel+"$ "+p.Args[0])
			_, err := p.Out.Write([]byte("said\n"))
			return 3, err
		}
		t.Run = func(_ context.Context, p *tool.Process) error {
			ran = append(ran, "local$ "+p.Args[2])
			return nil
		}
	}
	assert.Equal(t, result{"said\n", "", 3}, c.run("status", "hello"))
	assert.Equal(t, result{"said\n", "", 3}, c.run("journal", "-f", "--sudo", "hello", "--ssh-port=2222"))
	assert.Equal(t, result{"said\n", "", 3}, c.run("--tunnel=t", "--ssh-username", "me", "ssh", "hello", "ls", "-l", "--", "x"))
	assert.Equal(t, result{"said\n", "", 3}, c.run("ssh", "2b", "-A", "--", "exit 7"))
	assert.Equal(t, result{"said\n", "", 3}, c.run("ssh", "--machine", "3c3c", "uptime", "-p"))
	c.files["/etc/machine-id"] = []byte("1a1a1a1a00000000000000000000aaaa\n")
	assert.Equal(t, result{}, c.run("status", "hello"))
	assert.Equal(t, []string{
		"core@10.78.0.11:22 $ systemctl status -l hello.service",
		"core@10.78.0.11:2222 $ sudo journalctl --unit hello.service --no-pager -n 10 --output short -f",
		"me@10.78.0.11:22 t$ ls -l -- x",
		"core@10.78.0.12:22 $ exit 7",
		"core@10.78.0.13:22 $ uptime -p",
		"local$ systemctl status -l hello.service",
	}, ran)
	c.tool = func(t *tool.Tool) {
		t.SSH = func(context.Context, tool.SSH, string, *tool.Process) (int, error) { return 0, errors.New("no way") }
	}
	assert.Equal(t, result{"", "Failed building SSH client: no way\n", 1}, c.run("ssh", "2b"))
}

func TestJSON(t *testing.T) {
	c, _ := newConsole()
	assert.JSONEq(t, `[{"unit":"hello.service","event":"inactive"},
		{"unit":"hello.service","event":"launched","machineID":"1a1a1a1a00000000000000000000aaaa","primaryIP":"10.78.0.11"}]`, c.run("start", "-o", "json", "hello").out)
	assert.JSONEq(t, `[{"name":"hello.service","hash":"e55c0aeb44ba0b68004ceb8a200e685194448b45","desiredState":"launched","currentState":"launched",
		"machineID":"1a1a1a1a00000000000000000000aaaa","global":false,"description":"Hello World"}]`, c.run("list-unit-files", "-o=json").out)
	assert.Equal(t, result{"[]\n", "Units not found in registry\n", 0}, c.run("destroy", "-o", "json", "nothing"))
	assert.Contains(t, c.run("list-units", "--output", "json").out, `"systemdActiveState": "active"`)
	assert.Contains(t, c.run("list-machines", "--o", "json").out, `"primaryIP": "10.78.0.13"`)
	assert.Contains(t, c.run("cat", "hello", "-o", "json").out, `"section": "Unit"`)
	assert.Equal(t, "--output=yaml: want json\n", c.run("cat", "hello", "-o", "yaml").err)
}

func TestHelp(t *testing.T) {
	c, f := newConsole()
	help := c.run()
	assert.Equal(t, 0, help.status)
	assert.Equal(t, help, c.run("help"))
	for _, v := range verbs() {
		assert.Contains(t, help.out, v.name)
		one := c.run("help", v.name)
		assert.Equal(t, one, c.run(v.name, "--help"))
		for _, name := range v.flags {
			require.NotNil(t, flagNamed(name), name)
			assert.Contains(t, one.out, "--"+name)
		}
	}
	assert.Empty(t, f.asked, "none of this needs a server")
}

func TestReferencePage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/fleetctl.md")
	require.NoError(t, err)
	page := string(text)
	for _, v := range verbs() {
		assert.Containsf(t, page, strings.TrimSpace("### "+v.name+" "+v.args)+"\n\n"+strings.ReplaceAll(v.help, "\n\n", "\n")+"\n", "help of %s", v.name)
	}
	for i := range flags {
		f := &flags[i]
		env := ""
		if f.global && f.name != "version" && f.name != "help" {
			env = "`" + f.environment() + "`"
		}
		assert.Contains(t, page, strings.TrimRight("| `"+f.names()+"` | "+env, " ")+" | "+f.doc)
	}
}
