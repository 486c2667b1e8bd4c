package fleetctl

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Any command line is understood or refused, and what was understood keeps its words.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"list-machines -l", "--full list_m", "ssh web@1 -- ls -l", "ssh --machine 1a ls -l", "journal -f --lines=3 x", "start -- -x", "-", "--", "--=", "-o", "=",
		"--fields= list-units", "--request-timeout 1e9 start x", "start --block-attempts -1 x",
	} {
		f.Add(line, "5")
	}
	f.Fuzz(func(t *testing.T, line, env string) {
		args := strings.Split(line, " ")
		l, err := parse(args, func(name string) string {
			if name == "FLEETCTL_REQUEST_TIMEOUT" {
				return env
			}
			return ""
		})
		if err != nil {
			assert.NotEmpty(t, err.Error())
			return
		}
		assert.LessOrEqual(t, len(l.args), len(args))
		for name, value := range l.values {
			assert.NoError(t, flagNamed(name).check(value), name)
		}
		assert.GreaterOrEqual(t, l.duration("request-timeout"), time.Duration(0))
	})
}
