package unit_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/unit"
)

// fleet makes a file of lines of [X-Fleet].
func fleet(lines ...string) string { return "[X-Fleet]\n" + strings.Join(lines, "\n") }

func placement(t require.TestingT, name string, lines ...string) *unit.Placement {
	p, err := parse(t, fleet(lines...)).Placement(name)
	require.NoError(t, err, lines)
	return p
}

func TestPlacement(t *testing.T) {
	eq := func(key, value string) unit.Condition {
		return unit.Condition{Key: key, Op: "=", Values: []string{value}}
	}
	for _, c := range []struct {
		lines []string
		want  unit.Placement
	}{
		{nil, unit.Placement{}},
		{[]string{"MachineID=b", "X-ConditionMachineID=a"}, unit.Placement{MachineID: "b"}},
		{[]string{"X-ConditionMachineBootID=c", "X-ConditionMachineID=a", "X-ConditionMachineID=b"}, unit.Placement{MachineID: "a"}},
		{[]string{`MachineID="562999f8"`}, unit.Placement{MachineID: "562999f8"}},
		{[]string{"MachineID="}, unit.Placement{}},
		{[]string{"MachineOf=b.service", "X-ConditionMachineOf=a.service"}, unit.Placement{Peers: []string{"a.service", "b.service"}}},
		{[]string{"MachineOf=a%i.service"}, unit.Placement{Peers: []string{"a1.service"}}},
		{[]string{"MachineOf=%n %N %p %i %%i"}, unit.Placement{Peers: []string{"web@1.service web@1 web 1 %1"}}},
		{[]string{`MachineMetadata="a=1" "b=2"`}, unit.Placement{Metadata: []unit.Condition{eq("a", "1"), eq("b", "2")}}},
		{[]string{`MachineMetadata="a=1 2"`}, unit.Placement{Metadata: []unit.Condition{eq("a", "1 2")}}},
		{[]string{"MachineMetadata=region=us-east disk=hdd", "MachineMetadata=a", "MachineMetadata==b", "MachineMetadata=c="}, unit.Placement{}},
		{[]string{"MachineMetadata=disk=ssd", "X-ConditionMachineMetadata=az=a"}, unit.Placement{Metadata: []unit.Condition{eq("az", "a"), eq("disk", "ssd")}}},
		{[]string{"Conflicts=b* c*", "X-Conflicts=a*"}, unit.Placement{Conflicts: []string{"a*", "b*", "c*"}}},
		{[]string{"Replaces=b*"}, unit.Placement{Replaces: []string{"b*"}}},
		{[]string{"X-Replaces=b*", "X-MachineOf=c", "machineid=d", "X-Global=true"}, unit.Placement{}},
		{[]string{"Global=true", "Global=no"}, unit.Placement{}},
		{[]string{"Global=nope", "Global=YES"}, unit.Placement{Global: true}},
		{[]string{"Global=on", "Conflicts=a", "MachineMetadata=a=b"}, unit.Placement{Global: true, Conflicts: []string{"a"}, Metadata: []unit.Condition{eq("a", "b")}}},
		{[]string{"MachineMetadata=disk!=hdd", "MachineMetadata=cores >= 4"}, unit.Placement{Metadata: []unit.Condition{{"disk", "!=", []string{"hdd"}}, {"cores", ">=", []string{"4"}}}}},
		{[]string{"MachineMetadata=disk in ssd,nvme"}, unit.Placement{Metadata: []unit.Condition{{"disk", "in", []string{"ssd", "nvme"}}}}},
		{[]string{"Singleton=true"}, unit.Placement{Singleton: true}},
		{[]string{"Resources=memory=2G cpu=500m", "Resources=gpu=1"}, unit.Placement{Resources: []unit.Quantity{{"cpu", 500}, {"gpu", 1}, {"memory", 2 << 30}}}},
		{[]string{"Weight=3", "MostFree=1", "Spread=az", "MaxPerMachine=2"}, unit.Placement{Weight: 3, MostFree: true, Spread: "az", MaxPerMachine: 2}},
		{[]string{"Prefer=disk=ssd"}, unit.Placement{Prefer: []unit.Condition{eq("disk", "ssd")}}},
	} {
		if c.want.Weight == 0 {
			c.want.Weight = 1
		}
		assert.Equal(t, &c.want, placement(t, "web@1.service", c.lines...), "%q", c.lines)
	}
}

func TestRefusedPlacements(t *testing.T) {
	for lines, want := range map[string]string{
		"MachineOf=a1.service;Conflicts=a*":                       `unresolvable requirements: peer "a1.service" matches conflict "a*"`,
		"MachineOf=a1.service;Replaces=a*":                        `unresolvable requirements: peer "a1.service" matches replace "a*"`,
		"MachineOf=a%i.service;Conflicts=a1*":                     `unresolvable requirements: peer "a1.service" matches conflict "a1*"`,
		"MachineID=a;MachineOf=b;Conflicts=c;Global=1;Replaces=d": "MachineID cannot be used with Peers",
		"MachineID=a;Conflicts=c;Global=1;Replaces=d":             "MachineID cannot be used with Conflicts",
		"MachineID=a;Global=1;Replaces=d":                         "MachineID cannot be used with Global",
		"MachineID=a;Replaces=d":                                  "MachineID cannot be used with Replaces",
		"Global=1;MachineOf=b;Replaces=d":                         "Global cannot be used with Peers",
		"Global=1;Replaces=d;Conflicts=e":                         "Global cannot be used with Replaces",
		"Conflicts=c;Replaces=d":                                  "Conflicts cannot be used with Replaces",
		"Global=1;Singleton=1":                                    "Global cannot be used with Singleton",
		"Weight=0":                                                `Weight: "0": want a number from 1 to 1000000`,
		"MaxPerMachine=many":                                      `MaxPerMachine: "many": want a number from 1 to 1000000`,
		"Resources=memory":                                        `Resources: "memory": want NAME=AMOUNT, such as memory=2G`,
		"Resources=memory=lots":                                   `Resources: "memory=lots": want a whole number, or one with K, M, G, T or P`,
		"Resources=cpu=1G":                                        `Resources: "cpu=1G": want a number of processors, or of thousandths such as 500m`,
		"MachineMetadata=cores>=many":                             `MachineMetadata: "cores>=many": want a number after >=, such as 4 or 6.1`,
		"MachineMetadata=>4":                                      `MachineMetadata: ">4": want a metadata key before >`,
		"MachineMetadata=disk in ssd,":                            `MachineMetadata: "disk in ssd,": want a value after in`,
		"Prefer=ssd":                                              `Prefer: "ssd": want KEY=VALUE or another condition on metadata`,
	} {
		_, err := parse(t, fleet(strings.Split(lines, ";")...)).Placement("web@1.service")
		assert.EqualError(t, err, want, lines)
	}
}

func TestUnknown(t *testing.T) {
	f := parse(t, "[X-Fleet]\nBogus=1\nGlobal=true\nX-Conflicts=a\nX-MachineOf=b\nBogus=2\n[Service]\nOther=1\n")
	assert.Equal(t, []string{"Bogus", "X-MachineOf"}, f.Unknown())
}

func TestDoubts(t *testing.T) {
	f := parse(t, fleet("MachineMetadata=region=us-east disk=hdd", "Conflicts=a* [", "MachineOf=%p.service", "MachineOf=b", "X-Conflicts=[", "MachineMetadata=a=b", "Prefer=a=b"))
	assert.Equal(t, []string{
		"MachineOf=a.service is the unit itself, which so can run nowhere",
		"MachineOf=b is no name of a unit, so this one can run nowhere",
		"MachineMetadata=region=us-east disk=hdd is ignored: want one KEY=VALUE, or a list of them in quotes",
		"X-Conflicts=[ is ignored: [ is no pattern",
		"Conflicts=a* [ is ignored: [ is no pattern",
	}, f.Doubts("a.service"))
	assert.Empty(t, parse(t, hello).Doubts("hello.service"))
}

func TestConditionsHold(t *testing.T) {
	metadata := map[string]string{"disk": "ssd", "cores": "8", "kernel": "6.10", "rack": "x7"}
	for text, want := range map[string]bool{
		"disk=ssd": true, "disk=hdd": false, "none=x": false,
		"disk!=hdd": true, "disk!=ssd": false, "none!=x": true,
		"disk in hdd,ssd": true, "disk in hdd": false, "none in x": false,
		"cores>=8": true, "cores>8": false, "cores<=8": true, "cores<9": true, "cores>10": false,
		"kernel>6.9": true, "kernel<6.9": false, "kernel>=6.10.0": true, "kernel>6": true,
		"rack>1": false, "rack<1": false, "none>1": false, "none<1": false,
	} {
		c, ok, err := unit.ParseCondition(text)
		require.NoError(t, err, text)
		require.True(t, ok, text)
		assert.Equal(t, want, c.Holds(metadata), text)
		assert.Equal(t, text, c.String())
	}
}

func TestUnmet(t *testing.T) {
	metadata := map[string]string{"disk": "ssd", "az": "a"}
	for lines, want := range map[string]string{
		"disk=ssd":                  "",
		"disk=hdd;disk=ssd":         "",
		"disk=hdd;az=a;disk=nvme":   "disk=hdd|nvme",
		"az=b":                      "az=b",
		"disk=ssd;disk!=ssd":        "disk!=ssd",
		"disk in hdd,ssd;disk!=hdd": "",
		"disk=ssd;disk in hdd;az=b": "disk in hdd",
	} {
		var all []string
		for _, c := range strings.Split(lines, ";") {
			all = append(all, "MachineMetadata="+c)
		}
		assert.Equal(t, want, unit.Unmet(placement(t, "a.service", all...).Metadata, metadata), lines)
	}
}

// Quantities are printed as they may be written.
func TestQuantities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"cpu", "memory", "gpu"}).Draw(t, "name")
		q := unit.Quantity{Name: name, Amount: rapid.Int64Range(0, 1<<62).Draw(t, "amount") >> rapid.IntRange(0, 60).Draw(t, "shift")}
		list, err := unit.ParseQuantities(q.String())
		require.NoError(t, err)
		require.Equal(t, []unit.Quantity{q}, list)
	})
	list, err := unit.ParseQuantities("memory=2G, cpu=2 cpu=250m\tgpu=1")
	require.NoError(t, err)
	assert.Equal(t, "cpu=250m gpu=1 memory=2G", unit.ShowQuantities(list))
	_, err = unit.ParseQuantities("memory=9000000000P")
	assert.Error(t, err)
	list, err = unit.ParseQuantities("")
	assert.NoError(t, err)
	assert.Empty(t, list)
}

// TestReferencePage: the page lists every option, and every combination that is refused,
// as the code has them.
func TestReferencePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/units.md")
	require.NoError(t, err)
	for _, o := range unit.Options() {
		legacy := "–"
		if len(o.Legacy) > 0 {
			legacy = "`" + strings.Join(o.Legacy, "` `") + "`"
		}
		row := fmt.Sprintf("| `%s=%s` | %s | %s | %s |", o.Name, o.Value, legacy, o.Many, o.Doc)
		assert.Contains(t, string(page), "\n"+row+"\n")
	}
	for i, pair := range unit.Refused() {
		assert.Contains(t, string(page), fmt.Sprintf("\n%d. `%s cannot be used with %s`\n", i+2, pair[0], pair[1]))
	}
	for _, suffix := range unit.Types() {
		assert.Contains(t, string(page), "`"+suffix+"`")
	}
}

func TestLargeUnitsAreRefused(t *testing.T) {
	line := unit.Option{Section: "Service", Name: "Environment", Value: strings.Repeat("x", 1024)}
	f := &unit.File{Options: slices.Repeat([]unit.Option{line}, 1000)}
	require.NoError(t, unit.Validate("a.service", f))
	f = &unit.File{Options: slices.Repeat([]unit.Option{line}, 1024)}
	require.EqualError(t, unit.Validate("a.service", f), "unit file too large: 1061898 bytes (max 1048576)")
}
