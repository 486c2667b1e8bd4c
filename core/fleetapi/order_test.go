package fleetapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleetapi"
)

// op is one request about x.service.
type op struct {
	verb    string // PUT, GET, DELETE
	content int
	desired string
}

func (o op) line() string {
	if o.verb == "PUT" {
		return fmt.Sprintf(`PUT /fleet/v1/units/x.service {"desiredState":%q,"options":[%s]}`, o.desired, contents[o.content].sent)
	}
	return o.verb + " /fleet/v1/units/x.service"
}

// one is x.service as it is: the zero value is that there is none.
type one struct {
	there            bool
	options, desired string
}

// step is what the plain description makes of a request.
func (s one) step(o op) (next one, line string) {
	p := &plain{units: map[string]*plainUnit{}}
	if s.there {
		p.units["x.service"] = &plainUnit{options: s.options, desired: s.desired}
	}
	u := p.units["x.service"]
	switch {
	case o.verb == "PUT":
		line = p.put("x.service", o.content, o.desired)
	case u == nil:
		line = problem(404, "unit does not exist")
	case o.verb == "GET":
		line = "200 " + p.show("x.service")
	default:
		line = "204"
		delete(p.units, "x.service")
	}
	if u = p.units["x.service"]; u != nil {
		next = one{true, u.options, u.desired}
	}
	return next, line
}

// order is the API of one unit to the checker of histories. What was answered with 500 or
// not at all may have been done; what is called unsent was not.
var order = porcupine.NondeterministicModel{
	Init: func() []any { return []any{one{}} },
	Step: func(state, input, output any) []any {
		s, got := state.(one), output.(string)
		next, want := s.step(input.(op))
		switch {
		case strings.HasPrefix(got, "5"):
			return []any{s, next}
		case strings.HasPrefix(got, "unsent"):
			return []any{s}
		case got == want:
			return []any{next}
		}
		return nil
	},
}

// Whatever clients ask of any members at the same time, the answers fit one order of
// their requests, each between its question and its answer.
func TestOneOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), 3, fleetapi.Options{})
		w.Delay = 300 * time.Millisecond
		w.Lost = rapid.SampledFrom([]int{0, 0, 10}).Draw(t, "lost")
		var history []porcupine.Operation
		readers := map[int]*reader{}
		answered := func() {
			for i, r := range readers {
				if r.reply == nil {
					continue
				}
				if history[i].Output = r.line(); r.header("X-Keelson-Outcome") == "unsent" {
					history[i].Output = "unsent"
				} else if r.reply.Status < 500 {
					history[i].Return = int64(w.Now())
				}
				delete(readers, i)
			}
		}
		for i := range rapid.IntRange(2, 12).Draw(t, "requests") {
			o := op{verb: rapid.SampledFrom([]string{"PUT", "PUT", "PUT", "GET", "GET", "DELETE"}).Draw(t, "verb")}
			if o.verb == "PUT" {
				o.content = rapid.IntRange(0, 2).Draw(t, "content")
				o.desired = rapid.SampledFrom([]string{"", "loaded", "launched"}).Draw(t, "desired")
			}
			history = append(history, porcupine.Operation{ClientId: i, Input: o, Call: int64(w.Now()), Output: "500", Return: int64(time.Hour)})
			readers[i] = w.begin(rapid.IntRange(0, 2).Draw(t, "member"), request(o.line()))
			w.Run(time.Duration(rapid.IntRange(0, 400).Draw(t, "pause"))*time.Millisecond, answered)
		}
		w.Run(5*time.Minute, answered)
		require.Empty(t, readers, "everybody is answered")
		if !porcupine.CheckOperations(order.ToModel(), history) {
			for _, o := range history {
				t.Logf("%v %v  %v..%v  %v", o.ClientId, o.Input, env.Instant(o.Call), env.Instant(o.Return), o.Output)
			}
			t.Fatal("no order fits")
		}
	})
}
