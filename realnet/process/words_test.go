package process

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func texts(words []word) (all []string) {
	for _, w := range words {
		all = append(all, w.text)
	}
	return all
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		``:                               nil,
		`  a  b	c `:                      {"a", "b", "c"},
		`"a b" 'c d'`:                    {"a b", "c d"},
		`a"b c"d`:                        {"ab cd"},
		`"it's" 'say "x"'`:               {"it's", `say "x"`},
		`"say \"x\""`:                    {`say "x"`},
		`""`:                             {""},
		`\x41\102\u0043 \t\s\\`:          {"ABC", "\t \\"},
		`\q \`:                           {`\q`, `\`},
		`sh -c "while true; do x; done"`: {"sh", "-c", "while true; do x; done"},
	} {
		words, err := split(line)
		require.NoError(t, err, line)
		assert.Equal(t, want, texts(words), line)
	}
	for _, line := range []string{`"a`, `a 'b`, `"a\"`} {
		_, err := split(line)
		assert.ErrorContains(t, err, "unbalanced quoting", line)
	}
}

// Whatever is quoted comes out as it was.
func TestSplitUndoesQuoting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.StringMatching(`[ -~\t\n]{0,12}`), 1, 5).Draw(t, "words")
		var line []string
		for _, w := range want {
			line = append(line, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(w)+`"`)
		}
		words, err := split(strings.Join(line, " "))
		require.NoError(t, err)
		assert.Equal(t, want, texts(words))
	})
}

func TestCommands(t *testing.T) {
	s := specifiersOf("web@a-b.service", "0123456789abcdef0123456789abcdef")
	all, err := commands(`-/bin/echo %i %I %n %% %Z $$A "${B}x" $C ; @/bin/sh name -c ':' ; :/bin/echo $C ; +-echo \; ";"`, s)
	require.NoError(t, err)
	require.Len(t, all, 4)
	assert.Equal(t, command{path: "/bin/echo", argv: []string{"/bin/echo", "a-b", "a/b", "web@a-b.service", "%", "%Z", "$$A", "${B}x", "$C"}, ignore: true}, all[0])
	lookup := func(name string) string { return map[string]string{"B": "b b", "C": ` c "d e" `}[name] }
	assert.Equal(t, []string{"/bin/echo", "a-b", "a/b", "web@a-b.service", "%", "%Z", "$A", "b bx", "c", "d e"}, all[0].withVariables(lookup))
	assert.Equal(t, command{path: "/bin/sh", argv: []string{"name", "-c", ":"}}, all[1])
	assert.Equal(t, []string{"/bin/echo", "$C"}, all[2].withVariables(lookup))
	assert.Equal(t, command{path: "echo", argv: []string{"echo", `\;`, ";"}, ignore: true, full: true}, all[3])

	for line, text := range map[string]string{
		`bin/echo`: "neither a path", `;`: "no program", `@/bin/sh`: "is missing", `-`: "neither a path", `/bin/a ; ; b`: "no program",
	} {
		_, err := commands(line, s)
		assert.ErrorContains(t, err, text, line)
	}
}

func TestSpans(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"5": 5 * time.Second, "500ms": 500 * time.Millisecond, "1min 30s": 90 * time.Second, "1min30": 90 * time.Second,
		"2h": 2 * time.Hour, "1.5s": 1500 * time.Millisecond, "infinity": 0, "0": 0, "1d 1h": 25 * time.Hour, "3 min": 3 * time.Minute,
	} {
		d, err := parseSpan(v)
		require.NoError(t, err, v)
		assert.Equal(t, want, d, v)
	}
	for _, v := range []string{"", "x", "5 parsecs", "-1", "1..2"} {
		_, err := parseSpan(v)
		assert.Error(t, err, v)
	}
}

func TestEnvironmentFile(t *testing.T) {
	assert.Equal(t, []string{"A=1", "B=two words", "C=x y", "D=a#b", "E="}, parseEnvironment(
		"# no\n; no\nA=1\nB=\"two words\"\n C = 'x y' \nno line\nD=a#b\nE=\n1F=bad\n"))
}

func TestSettings(t *testing.T) {
	s := specifiersOf("a.service", "")
	parse := func(lines ...string) *settings {
		return read("a.service", "[Service]\n"+strings.Join(lines, "\n")+"\n", s)
	}
	u := parse("ExecStart=/bin/a", "ExecStart=", "ExecStart=/bin/b", `Environment=A=1 "B=2 3"`, "Environment=C=%n", "TimeoutSec=5", "KillSignal=SIGQUIT", "EnvironmentFile=-/etc/none")
	require.NoError(t, u.bad)
	assert.Equal(t, "simple", u.kind)
	assert.Len(t, u.start, 1)
	assert.Equal(t, []string{"A=1", "B=2 3", "C=a.service"}, u.environment)
	assert.Equal(t, 5*time.Second, u.startMax)
	assert.Equal(t, 5*time.Second, u.stopMax)
	assert.Equal(t, []optional{{"/etc/none", true}}, u.files)
	assert.Zero(t, parse("Type=oneshot", "ExecStart=/bin/a").startMax)

	for _, lines := range []string{
		"", "ExecStart=/bin/a\nExecStart=/bin/b", "Type=oneshot", "Type=magic\nExecStart=/bin/a", "ExecStart=bin/a", "ExecStart=/bin/a\nRestart=sometimes",
		"ExecStart=/bin/a\nKillSignal=SIGNOTHING", "ExecStart=/bin/a\nTimeoutStartSec=soon", "ExecStart=/bin/a\nEnvironment=novalue",
		"ExecStart=/bin/a\nWorkingDirectory=here", "ExecStart=/bin/a\nEnvironmentFile=here", "ExecStart=/bin/a\nRemainAfterExit=perhaps",
	} {
		assert.Error(t, parse(lines).bad, lines)
	}
	for _, kind := range []string{"forking", "notify", "dbus"} {
		u := parse("Type="+kind, "ExecStart=/bin/a")
		assert.NoError(t, u.bad)
		assert.ErrorContains(t, u.unsupported, "needs systemd")
	}
	assert.ErrorContains(t, read("a.timer", "[Timer]\nOnBootSec=1\n", s).unsupported, "timer units need systemd")
}

func FuzzRead(f *testing.F) {
	f.Add("a.service", "[Service]\nExecStart=-/bin/sh -c \"x \\\" $A ${B}\" ; b\nEnvironment=A=1\nRestartSec=1min 2s\n")
	f.Add("x@y.timer", "[Unit]\nAfter=a b\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		u := read(name, text, specifiers{'n': name, '%': "%"})
		for _, c := range u.start {
			c.withVariables(func(string) string { return "a b" })
		}
		parseEnvironment(text)
	})
}
