package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Shells ask the binary under each of its names.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"__complete roll":                  "rollout\trestart, replace or scale",
		"__complete fleetctl list-m":       "list-machines\t",
		"fleetctl __complete list-m":       "list-machines\t",
		"__complete etcdctl member a":      "add\t",
		"__complete locksmithctl set":      "set-max\t",
		"__complete snapshot s":            "save\t",
		"__complete rollout scale --heal":  "--healthy-for\t",
		"__complete completion f":          "fish",
		"__complete serv":                  "serve\t",
		"completion bash":                  "complete -o default -F _keelson keelson etcdctl fleetctl locksmithctl\n",
		"completion fish":                  "complete -c fleetctl ",
		"fleetctl --version":               "fleetctl version ",
		"why x --endpoints=http://[::1]:1": "keelson why: no server answered\n",
	} {
		p := launch(t, nil, strings.Fields(line)...)
		p.end(t)
		assert.Contains(t, p.output.String(), want, line)
	}
	assert.Equal(t, 2, launch(t, nil, "completion", "tcsh").end(t))
	p := launch(t, []string{"FLEETCTL_ENDPOINT=unix:///nowhere"}, "fleetctl", "list-machines")
	assert.Equal(t, 1, p.end(t))
	assert.Contains(t, p.output.String(), "Error retrieving list of active machines from fleet API (dial unix /nowhere: connect: no such file or directory)\nPossible issues:\n")
}
