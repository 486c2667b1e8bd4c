package script_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/scenarios/script"
)

const sample = `# The leader loses power
# while clients write.
cluster 3 seed=7 snapshot-entries=50

$ etcdctl set /a "two words"
two words

$ etcdctl ls /
| $ odd
| until odd

/a

power off leader
until leader within 5s
n2$ etcdctl watch /a --forever &w
advance 10s
read w
always holders reboot-lock <= 1
`

func TestAScenarioIsReadAndWrittenBack(t *testing.T) {
	f, err := script.Parse("a.scenario", sample)
	require.NoError(t, err)
	assert.Equal(t, sample, f.String())
	assert.Equal(t, "The leader loses power while clients write.", f.Title)

	list := f.Statements()
	require.Len(t, list, 9)
	assert.Equal(t, &script.Cluster{Machines: 3, Seed: 7, Options: map[string]string{"snapshot-entries": "50"}}, list[0].Do)
	assert.Equal(t, &script.Command{Args: []string{"etcdctl", "set", "/a", "two words"}}, list[1].Do)
	assert.Equal(t, "two words\n", list[1].Output)
	assert.Equal(t, "$ odd\nuntil odd\n\n/a\n", list[2].Output)
	assert.Equal(t, &script.Power{Who: []string{"leader"}}, list[3].Do)
	assert.Equal(t, &script.Until{Condition: script.Condition{What: "leader"}, Within: 5 * time.Second}, list[4].Do)
	assert.Equal(t, &script.Command{At: "n2", Args: strings.Fields("etcdctl watch /a --forever"), Background: "w"}, list[5].Do)
}

func TestARewrittenOutputIsReadBack(t *testing.T) {
	f, err := script.Parse("a", "cluster 1\n$ etcdctl get /a\n\n# end\n")
	require.NoError(t, err)
	for _, out := range []string{"", "x\n", "\n", "x\n\n", "# y\n| z\nheal\n", "$ a\n\nb\n"} {
		f.Statements()[1].Output = out
		again, err := script.Parse("a", f.String())
		require.NoError(t, err, f.String())
		assert.Equal(t, out, again.Statements()[1].Output, f.String())
		assert.Equal(t, f.String(), again.String())
	}
}

func TestMistakesAreNamedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "a:1: a scenario begins with: cluster N"},
		{"advance 3s", "a:1: a scenario begins with: cluster N"},
		{"cluster 3\ncluster 3", "a:2: cluster: there is one cluster"},
		{"cluster", "a:1: cluster: the number of machines is missing; usage: cluster N"},
		{"cluster 30", `a:1: cluster: "30" machines: want 0 to 9`},
		{"cluster 3 sed=4", `unknown option "sed"`},
		{"cluster 3\n\nexplode n1", `a:3: "explode" is no statement; known are: $, cluster`},
		{"cluster 3\npower up n1", "a:2: power: want on or off"},
		{"cluster 3\npower off", "a:2: power: a machine is missing"},
		{"cluster 3\npower off m1", `"m1" is no machine`},
		{"cluster 1\npower off n2", `a:2: power: "n2" is no machine`},
		{"cluster 1\nmachine N2", "a:2: machine: want a name of small letters"},
		{"cluster 1\nmachine n1 --proxy on", "a:2: machine: there is a n1 already"},
		{"cluster 1\nmachine a address=here", "address=here: want an address such as"},
		{"cluster 1\nrestart a\nmachine a", `a:2: restart: "a" is no machine`},
		{"cluster 1\ndns srv _x._tcp.example.com a", `dns: "a": want HOST:PORT`},
		{"cluster 1\ndns mx example.com", "want srv, a, slow, fails or works"},
		{"cluster 3\nadvance soon", `"soon" is no duration`},
		{"cluster 3\npartition n1 n2", "want at least two groups"},
		{"cluster 3\npartition n1 | ", "a group is empty"},
		{"cluster 3\ncut n1 n2", "want two machines with ->"},
		{"cluster 3\nuntil pigs fly", `"pigs fly" is no condition: want one of: leader`},
		{"cluster 3\nclock n1 drift 9999999", "parts per million"},
		{"cluster 3\ndisk n1 burn", `"burn": want stall`},
		{"cluster 3\n$ etcdctl set /a \"x", "unfinished quote"},
		{"cluster 3\n$ ", "a command is missing after $"},
		{"cluster 3\n$ sleep 1 &", "needs a name"},
		{"cluster 3\nheal now", `heal: unexpected "now"`},
	} {
		_, err := script.Parse("a", c.text)
		var e *script.Error
		if assert.ErrorAs(t, err, &e, c.text) {
			assert.Contains(t, err.Error(), c.want, c.text)
		}
	}
}

func TestHowADaemonIsStarted(t *testing.T) {
	f, err := script.Parse("a", "cluster 0\nmachine core-01 address=172.16.8.101 ETCD_PROXY=off -name=\"core-01\" --discovery http://d/1\nrestart core-01\nuntil core-01 refuses \"data dir\"\n")
	require.NoError(t, err)
	list := f.Statements()
	assert.Equal(t, &script.Machine{Name: "core-01", Address: "172.16.8.101", Start: script.Start{
		Environ: []string{"ETCD_PROXY=off"}, Flags: []string{"-name=core-01", "--discovery", "http://d/1"},
	}}, list[1].Do)
	assert.Equal(t, &script.Restart{Who: "core-01", Start: script.Start{Environ: []string{}}}, list[2].Do)
	assert.Equal(t, &script.Until{Condition: script.Condition{What: "refuses", Who: "core-01", Value: "data dir"}, Within: script.UntilDefault}, list[3].Do)
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("cluster 1\n$ a 'b\\' c\" d")
	f.Add("cluster 3 seed=9\npartition n1 | n2 n3\nworkload registers clients=5 for=3s\nfault partitions")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := script.Parse("f", text)
		if err != nil {
			return
		}
		again, err := script.Parse("f", file.String())
		if err != nil {
			t.Fatalf("%v in %q", err, file.String())
		}
		if again.String() != file.String() {
			t.Fatalf("%q then %q", file.String(), again.String())
		}
	})
}
