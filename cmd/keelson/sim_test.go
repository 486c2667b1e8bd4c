package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asSelf runs this test binary as keelson and gives what it printed and its status.
func asSelf(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asKeelson+"=1")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// A constant reader under TLS or a key would be a catastrophe: only the verbs of
// the simulator may swap it, and none of them serves or makes a key.
func TestOnlyTheSimulatorSwapsTheRandomReader(t *testing.T) {
	real := rand.Reader
	certificates := filepath.Join(t.TempDir(), "tls")
	token := &bytes.Buffer{}
	run(context.Background(), []string{"keelson", "ca", "init", "--dir", certificates}, nil, io.Discard, io.Discard)
	run(context.Background(), []string{"keelson", "ca", "token", "--dir", certificates}, nil, token, io.Discard)
	require.Contains(t, token.String(), "keelson1.")
	for _, args := range [][]string{
		{"ca", "init", "--dir", certificates + "2"},
		{"ca", "issue", "x", "--client-only", "--dir", certificates, "--out", certificates},
		{"ca", "renew", "--dir", certificates},
		{"ca", "token", "--dir", certificates},
		{"join", "https://127.0.0.1:1", "--token", token.String(), "--dir", certificates + "3"},
		{"version"},
		{"--help"},
		{"serve", "--help"},
		{"dev", "--help"},
		{"dev", "status"},
		{"serve", "--bogus"},
		{"etcdctl", "--version"},
	} {
		var out bytes.Buffer
		run(context.Background(), append([]string{"keelson"}, args...), strings.NewReader(""), &out, &out)
		require.True(t, real == rand.Reader, "keelson %v swaps the reader", args)
	}

	// Nothing but the command of the simulator asks for it.
	var callers []string
	require.NoError(t, filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if bytes.Contains(src, []byte("sim.Deterministic()")) {
			callers = append(callers, filepath.ToSlash(path))
		}
		return err
	}))
	require.Equal(t, []string{"../../cmd/keelson/sim.go"}, callers)
}

func TestSimRunRepeatsToTheByte(t *testing.T) {
	hash := regexp.MustCompile(`trace hash [0-9a-f]{16}\n`)
	first, stderr, status := asSelf(t, "sim", "run", "--seed", "11", "--duration", "10s")
	require.Zero(t, status, first+stderr)
	again, _, _ := asSelf(t, "sim", "run", "--seed", "11", "--duration", "10s")
	other, _, _ := asSelf(t, "sim", "run", "--seed", "12", "--duration", "10s")
	require.Regexp(t, hash, first)
	require.True(t, strings.HasPrefix(first, "seed 11:"), first)
	require.Equal(t, hash.FindString(first), hash.FindString(again))
	require.NotEqual(t, hash.FindString(first), hash.FindString(other))
}

func TestSimSpeaksJSON(t *testing.T) {
	out, _, status := asSelf(t, "sim", "run", "--seed", "3", "--duration", "5s", "-o", "json")
	require.Zero(t, status)
	var v verdictDoc
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.True(t, v.Passed)
	require.Len(t, v.Hash, 16)
	require.EqualValues(t, 3, v.Seed)
}

func TestSimReplaysACase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "case.txt")
	text := "run seed=5 duration=8s machines=3 rate=20 families=none workloads=registers rare=true\n4s kill leader\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	out, stderr, status := asSelf(t, "sim", "replay", file)
	require.Zero(t, status, out+stderr)
	_, stderr, status = asSelf(t, "sim", "replay", "--expect", "0123456789abcdef", file)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "not 0123456789abcdef")
}

func TestSimRunsAScenarioFile(t *testing.T) {
	out, stderr, status := asSelf(t, "sim", "run", "../../scenarios/disasters/leader-loses-power.txt")
	require.Zero(t, status, out+stderr)
	require.Contains(t, out, "passed")
	require.Contains(t, out, "trace hash ")
}

func TestBadSimulatorCommandLines(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.txt")
	require.NoError(t, os.WriteFile(bad, []byte("cluster 3\nexplode n1\n"), 0o644))
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"sim", "bogus"}, exitUsage, `unknown command "bogus"`},
		{[]string{"sim", "run", "--seed", "x"}, exitUsage, "seed"},
		{[]string{"sim", "run", "--machines", "12"}, exitUsage, "--machines 12: want 1 to 9"},
		{[]string{"sim", "run", "--families", "locusts"}, exitUsage, `unknown family of faults "locusts"`},
		{[]string{"sim", "run", "--workloads", "gold"}, exitUsage, `unknown workload "gold"`},
		{[]string{"sim", "run", "--duration", "-4s"}, exitUsage, "--duration -4s"},
		{[]string{"sim", "run", "-o", "xml"}, exitUsage, "--output xml"},
		{[]string{"sim", "run", bad}, exitFailed, `bad.txt:2: "explode" is no statement`},
		{[]string{"sim", "run", "/nowhere/at/all"}, exitFailed, "/nowhere/at/all"},
		{[]string{"sim", "replay"}, exitUsage, "the file of a case is missing"},
		{[]string{"sim", "replay", bad}, exitFailed, "line 1: want"},
		{[]string{"sim", "swarm", "--seeds", "0"}, exitUsage, "--seeds 0"},
		{[]string{"sim", "shrink", "--seed", "1", "--duration", "2s", "--families", "none"}, exitFailed, "nothing to shrink"},
		{[]string{"sim", "mutate", "--class", "Z"}, exitUsage, `no bug is of class "Z"`},
		{[]string{"sim", "mutate", "--bug", "11"}, exitFailed, "carries no planted bugs"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			out, stderr, status := asSelf(t, c.args...)
			assert.Equal(t, c.status, status, out+stderr)
			assert.Contains(t, stderr, c.want)
			assert.NotContains(t, stderr, "panic")
		})
	}
}
