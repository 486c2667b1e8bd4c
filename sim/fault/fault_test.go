package fault

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func machines(n int) []string { return []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7"}[:n] }

func TestPlansReadBackAsPrinted(t *testing.T) {
	for seed := range uint64(200) {
		p := Draw(seed, Shape{machines(1 + int(seed%7)), time.Second, 40 * time.Second}, Families())
		require.NotEmpty(t, p)
		require.NoError(t, p.Check())
		back, err := Parse(p.String())
		require.NoError(t, err)
		require.Equal(t, p.String(), back.String())
	}
}

func TestDrawDependsOnTheSeedAlone(t *testing.T) {
	s := Shape{machines(5), 0, 30 * time.Second}
	assert.Equal(t, Draw(7, s, Families()), Draw(7, s, Families()))
	assert.NotEqual(t, Draw(7, s, Families()).String(), Draw(8, s, Families()).String())
}

// What one family does is the same with and without the others.
func TestFamiliesDoNotShiftEachOther(t *testing.T) {
	s := Shape{machines(3), 0, 30 * time.Second}
	kills, _ := Named("kills")
	alone := Draw(7, s, []Family{kills})
	var among Plan
	for _, a := range Draw(7, s, Families()) {
		if a.Verb == "kill" {
			among = append(among, a)
		}
	}
	assert.Equal(t, alone, among)
}

func TestDamageIsRationed(t *testing.T) {
	for seed := range uint64(100) {
		for n := 1; n <= 7; n++ {
			hit := map[string]bool{}
			for _, a := range Draw(seed, Shape{machines(n), 0, time.Minute}, Families()) {
				if a.Verb == "rot" || a.Verb == "failsync" {
					hit[a.Groups[0][0]] = true
				}
			}
			assert.LessOrEqual(t, len(hit), (n-1)/2)
		}
	}
}

func TestSwarmLeavesOut(t *testing.T) {
	few, many := 0, 0
	for seed := range uint64(200) {
		n := len(Swarm(seed))
		assert.Less(t, n, len(Families()))
		if n <= len(Families())/4 {
			few++
		}
		if n > len(Families())/3 {
			many++
		}
	}
	assert.Greater(t, few, 30)
	assert.Greater(t, many, 80)
}

func TestParseNamesTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"1s":                                "no verb",
		"\n# why\n1x kill n1":               "plan line 3: time \"1x\" is not a duration",
		"-1s kill n1":                       "not between",
		"1s dance n1":                       "unknown verb \"dance\"",
		"1s kill":                           "kill: want machines",
		"1s kill n1 n2 | n3":                "kill: want machines, in one group",
		"1s partition n1":                   "at least two groups",
		"1s partition n1 | | n2":            "nobody on one side",
		"1s cut n1 | n2":                    "no machine",
		"1s links loss=2":                   "loss=2: want a number from 0 to 1",
		"1s links loss=0.1 loss=0.2":        "given twice",
		"1s links speed=1":                  "unknown parameter \"speed\"",
		"1s drift n1":                       "ppm= is missing",
		"1s drift n1 ppm=9999999":           "out of range",
		"1s rot n1 for 2s":                  "takes no \"for\"",
		"1s kill n1 for 0s":                 "never ends",
		"1s kill n1 for ever":               "for \"ever\" is not a duration",
		"1s flap n1 | n2 period=-1s":        "not negative",
		"1s links loss=NaN":                 "want a number from 0 to 1",
		"1s full n1 room=99999999999999999": "out of range",
	} {
		_, err := Parse(text)
		require.Errorf(t, err, "%q", text)
		assert.Containsf(t, err.Error(), want, "%q", text)
		assert.Contains(t, err.Error(), "plan line ")
	}
}

func TestShrinkFindsTheCause(t *testing.T) {
	p := Draw(3, Shape{machines(5), 0, time.Minute}, Families())
	tried := 0
	small := p.Shrink(10_000, func(q Plan) bool {
		tried++
		var kill, part bool
		for _, a := range q {
			kill = kill || a.Verb == "kill"
			part = part || a.Verb == "partition" && a.For >= 500*time.Millisecond
		}
		return kill && part
	})
	require.Len(t, small, 2, small.String())
	assert.Less(t, tried, 1000)
	for _, a := range small {
		if a.Verb == "partition" {
			assert.Less(t, a.For, 1100*time.Millisecond)
			assert.Len(t, a.Groups[0], 1)
		}
	}
}

func TestHelpNamesEveryVerb(t *testing.T) {
	for _, v := range verbs() {
		assert.True(t, strings.Contains(Help(), v.name+" ") || strings.Contains(Help(), v.name+"\n"), v.name)
	}
}

func FuzzParse(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(Draw(seed, Shape{machines(3), 0, 20 * time.Second}, Families()).String())
	}
	f.Add("1s partition n1 n2 | n2 n3 for 1s\n2s cut n1 -> n2\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		require.NoError(t, p.Check())
		back, err := Parse(p.String())
		require.NoError(t, err, p.String())
		require.Equal(t, p.String(), back.String())
	})
}
