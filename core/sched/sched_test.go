package sched_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

func TestASiblingGoesToEachMachine(t *testing.T) {
	s := sched.New(sched.Options{})
	for _, id := range []string{"c", "a", "b"} {
		s.SetMachine(sched.Machine{ID: id})
	}
	p := &unit.Placement{Conflicts: []string{"web@*.service"}}
	for _, name := range []string{"web@3.service", "web@1.service", "web@4.service", "web@2.service"} {
		s.SetUnit(sched.Unit{Name: name, Place: p, State: unit.Launched})
	}
	var got []string
	for _, d := range s.Plan() {
		got = append(got, d.Unit+" "+d.From+">"+d.To)
	}
	assert.Equal(t, []string{"web@1.service >a", "web@2.service >b", "web@3.service >c"}, got)
	assert.Empty(t, s.Plan())
	assert.Equal(t, "no machine qualifies: 3 tried, 3 Conflicts=web@*.service", s.Explain("web@4.service").Why)
}
