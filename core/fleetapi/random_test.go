package fleetapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// plain is the API as the reference describes it, without a store: what each request of a
// sequence must be answered.
type plain struct {
	units map[string]*plainUnit
	page  int
}

type plainUnit struct {
	options string // JSON, as it is shown
	global  bool
	desired string
}

// contents are what units may be made of: how it is sent, how it is shown, and the
// refusal, if it is one.
var contents = []struct {
	sent, shown, refusal string
	global               bool
}{
	{sent: "", shown: ""},
	{
		sent:  `{"section":"Service","name":"ExecStart","value":"/bin/a"}`,
		shown: `{"name":"ExecStart","section":"Service","value":"/bin/a"}`,
	},
	{
		sent:  `{"section":"Service","name":"ExecStart","value":" /bin/b <&> "},{"name":"Environment","section":"Service"}`,
		shown: `{"name":"ExecStart","section":"Service","value":"/bin/b \u003c\u0026\u003e"},{"name":"Environment","section":"Service"}`,
	},
	{
		sent:   `{"section":"X-Fleet","name":"Global","value":"true"}`,
		shown:  `{"name":"Global","section":"X-Fleet","value":"true"}`,
		global: true,
	},
	{
		sent:    `{"section":"X-Fleet","name":"Global","value":"true"},{"section":"X-Fleet","name":"MachineID","value":"1"}`,
		refusal: "MachineID cannot be used with Global",
	},
}

func problem(status int, message string) string {
	text, _ := json.Marshal(message)
	return fmt.Sprintf(`%d {"error":{"code":%d,"message":%s}}`, status, status, text)
}

func (p *plain) put(name string, content int, desired string) string {
	c, u := contents[content], p.units[name]
	if err := unit.CheckName(name); err != nil {
		return problem(400, err.Error())
	}
	replaced := u == nil || c.sent != "" && c.shown != u.options
	switch {
	case u == nil && c.sent == "":
		return problem(409, "unit does not exist and options field empty")
	case replaced && c.refusal != "":
		return problem(400, c.refusal)
	case !replaced && desired == "":
		return problem(409, "must provide DesiredState to update existing unit")
	case desired == "odd":
		return problem(400, `invalid desired state "odd": want inactive, loaded or launched`)
	case strings.Contains(name, "@.") && desired != "" && desired != "inactive":
		return problem(400, fmt.Sprintf("cannot activate template %q", name))
	case !replaced:
		u.desired = desired
		return "204"
	}
	if desired == "" {
		desired = "inactive"
	}
	p.units[name] = &plainUnit{c.shown, c.global, desired}
	return "201"
}

func (p *plain) show(name string) string {
	u := p.units[name]
	current := `"currentState":"inactive",`
	if u.global {
		current = ""
	}
	return fmt.Sprintf(`{%s"desiredState":"%s","name":"%s","options":[%s]}`, current, u.desired, name, u.options)
}

func (p *plain) list(page int) string {
	names := slices.Sorted(maps.Keys(p.units))
	from, to := min((page-1)*p.page, len(names)), min(page*p.page, len(names))
	var shown []string
	for _, name := range names[from:to] {
		shown = append(shown, p.show(name))
	}
	var members []string
	if len(shown) == p.page {
		members = append(members, `"nextPageToken":"`+strings.NewReplacer("+", "-", "/", "_").Replace(tokenOf(p.page, page+1))+`"`)
	}
	if len(shown) > 0 {
		members = append(members, `"units":[`+strings.Join(shown, ",")+`]`)
	}
	return "200 {" + strings.Join(members, ",") + "}"
}

func tokenOf(limit, page int) string {
	text, _ := json.Marshal([]byte{byte(limit), byte(limit >> 8), byte(page), byte(page >> 8)})
	return strings.Trim(string(text), `"`)
}

// Any sequence of requests, each to any member, is answered with the bytes that the plain
// description gives: a read shows what was written anywhere before.
func TestAnySequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const page = 2
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), 3, fleetapi.Options{Page: page})
		w.Delay = rapid.SampledFrom([]time.Duration{0, 50 * time.Millisecond, time.Second}).Draw(t, "delay")
		p := &plain{units: map[string]*plainUnit{}, page: page}
		name := rapid.SampledFrom([]string{"a.service", "b.socket", "c.timer", "t@.service", "t@1.service", "bad.unit"})
		for range rapid.IntRange(1, 25).Draw(t, "requests") {
			n := name.Draw(t, "name")
			var line, want string
			switch rapid.SampledFrom([]string{"put", "put", "put", "get", "list", "delete"}).Draw(t, "verb") {
			case "put":
				content := rapid.IntRange(0, len(contents)-1).Draw(t, "content")
				desired := rapid.SampledFrom([]string{"", "inactive", "loaded", "launched", "odd"}).Draw(t, "desired")
				line = fmt.Sprintf(`PUT /fleet/v1/units/%s {"desiredState":%q,"options":[%s]}`, n, desired, contents[content].sent)
				want = p.put(n, content, desired)
			case "get":
				line = "GET /fleet/v1/units/" + n
				want = problem(404, "unit does not exist")
				if p.units[n] != nil {
					want = "200 " + p.show(n)
				}
			case "list":
				at := rapid.IntRange(1, 4).Draw(t, "page")
				line = "GET /v1-alpha/units?nextPageToken=" + tokenOf(page, at)
				want = p.list(at)
			case "delete":
				line = "DELETE /fleet/v1/units/" + n
				want = problem(404, "unit does not exist")
				if p.units[n] != nil {
					want = "204"
					delete(p.units, n)
				}
			}
			require.Equal(t, want, w.ask(rapid.IntRange(0, 2).Draw(t, "member"), line).line(), line)
		}
	})
}

// Whoever writes at the same time as others gets an answer that fits some order, and what
// is left is whole: contents for every unit, a state that somebody asked for.
func TestAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), 3, fleetapi.Options{})
		w.Delay = 300 * time.Millisecond
		lost := rapid.SampledFrom([]int{0, 0, 20}).Draw(t, "lost")
		w.Lost = lost
		var readers []*reader
		for i := range rapid.IntRange(2, 8).Draw(t, "writers") {
			content := rapid.IntRange(1, 3).Draw(t, "content")
			desired := rapid.SampledFrom([]string{"loaded", "launched"}).Draw(t, "desired")
			line := fmt.Sprintf(`PUT /fleet/v1/units/x.service {"desiredState":%q,"options":[%s]}`, desired, contents[content].sent)
			if rapid.IntRange(0, 3).Draw(t, "destroy") == 0 {
				line = "DELETE /fleet/v1/units/x.service"
			}
			readers = append(readers, w.begin(i%3, request(line)))
			w.Run(time.Duration(rapid.IntRange(0, 200).Draw(t, "pause"))*time.Millisecond, nil)
		}
		w.Lost = 0
		w.Run(5*time.Minute, nil)
		for _, r := range readers {
			require.NotNil(t, r.reply, "everybody is answered")
			allowed := []int{201, 204, 404}
			if lost > 0 {
				allowed = append(allowed, 500, 503)
			}
			assert.Contains(t, allowed, r.reply.Status, r.line())
		}
		for i, m := range w.models {
			u := m.Unit("x.service")
			if u == nil {
				continue
			}
			require.NotNil(t, u.File, "member %d: contents", i)
			if lost == 0 {
				require.NotEqual(t, unit.Inactive, u.Desired, "member %d", i)
			}
		}
	})
}

// Two who create the same unit: one of them does.
func TestCreateOnce(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 3, fleetapi.Options{})
		w.Delay = 200 * time.Millisecond
		var readers []*reader
		for i := range 3 {
			readers = append(readers, w.begin(i, request("PUT /fleet/v1/units/x.service "+sleep)))
		}
		w.Run(time.Minute, nil)
		count := map[string]int{}
		for _, r := range readers {
			count[r.line()]++
		}
		assert.Equal(t, map[string]int{"201": 1, problem(409, "must provide DesiredState to update existing unit"): 2}, count)
	}
}

// Who is told that nothing was done may ask again elsewhere, so it must be true: members
// are cut off at any moment of a write.
func TestUnsentIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"), 2, fleetapi.Options{})
		w.Delay = 200 * time.Millisecond
		rival := w.begin(1, request(`PUT /fleet/v1/units/x.service {"options":[`+contents[2].sent+`]}`))
		w.Run(time.Duration(rapid.IntRange(0, 300).Draw(t, "later"))*time.Millisecond, nil)
		r := w.begin(0, request(`PUT /fleet/v1/units/x.service {"desiredState":"launched","options":[`+contents[1].sent+`]}`))
		for range rapid.IntRange(1, 4).Draw(t, "cuts") {
			w.Run(time.Duration(rapid.IntRange(0, 400).Draw(t, "pause"))*time.Millisecond, nil)
			w.Members[0].Cut = !w.Members[0].Cut
		}
		w.Run(20*time.Second, nil)
		w.Members[0].Cut = false
		w.Run(2*time.Minute, nil)
		require.NotNil(t, rival.reply)
		require.NotNil(t, r.reply)
		if r.header("X-Keelson-Outcome") == "unsent" {
			u := w.models[1].Unit("x.service")
			require.True(t, u == nil || u.Desired == unit.Inactive && u.File.Options[0].Value != "/bin/a", "%s", r.line())
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add("PUT", "/units/x.service", "", sleep)
	f.Add("PATCH", "/machines", "", `[{"op":"add","path":"/a/metadata/b","value":"c"}]`)
	f.Add("PATCH", "/machines", "", `[{"op":"add","path":"/a/metadata/b","value":{"value":"c"}}]`)
	f.Add("GET", "/units", "nextPageToken=ZAABAA==", "")
	f.Add("POST", "/plan", "", `{"units":[{"name":"x.service","options":[{"section":"X-Fleet","name":"MachineOf","value":"x.service"}]}]}`)
	f.Add("POST", "/rebalance", "", `{"budget":1}`)
	f.Add("PUT", "/machines/"+m1+"/cordon", "", `{"state":"draining"}`)
	w := newWorld(f, 1, 1, fleetapi.Options{})
	w.machines()
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		before := w.Truth().Index()
		r := &reader{}
		cancel := w.servers[0].Serve(&gateway.Request{
			Method: method, Path: "/fleet/v1" + path, Query: query, Body: []byte(body), ContentType: "application/json",
		}, r)
		w.Run(100*time.Millisecond, nil)
		require.NotNil(t, r.reply)
		if !r.reply.More && len(r.reply.Body) > 0 {
			require.True(t, json.Valid(r.reply.Body), "%s", r.reply.Body)
		}
		if r.reply.Status >= 400 {
			require.Equal(t, before, w.Truth().Index(), "what is refused changes nothing: %s", r.line())
		}
		require.Less(t, r.reply.Status, 500, r.line())
		cancel()
		for _, u := range w.models[0].Units() {
			require.NoError(t, unit.CheckName(u.Name))
			require.NoError(t, u.PlaceErr)
			require.NotNil(t, u.File)
		}
	})
}

// apart is a source on which the desired state of a unit does not make it into the entry
// of its object: somebody else's comes between, once.
type apart struct {
	*controltest.Member
	cut  bool // and then nobody can be reached
	done bool
}

func (a *apart) Propose(c store.Command, done func(store.Result)) {
	if a.done || !strings.HasSuffix(c.Key, "/target-state") {
		a.Member.Propose(c, done)
		return
	}
	a.done = true
	a.Member.Propose(store.Command{Op: store.OpSet, Key: c.Key, Value: "loaded"}, func(store.Result) {
		a.Cut = a.cut
		done(store.Result{Err: &store.Error{Code: store.CodeExists}})
	})
}

func TestHalfDone(t *testing.T) {
	for _, cut := range []bool{false, true} {
		w := &world{World: controltest.New(1, 1), t: t}
		e := w.Env()
		src := &apart{Member: w.Members[0], cut: cut}
		w.models = append(w.models, registry.Open(src, keys, e.Log))
		w.servers = append(w.servers, fleetapi.New(e, src, w.models[0], nil, fleetapi.Options{}))
		w.Run(time.Second, nil)
		r := w.ask(0, `PUT /fleet/v1/units/x.service {"desiredState":"launched","options":[`+contents[1].sent+`]}`)
		if cut {
			assert.Equal(t, problem(500, "the outcome is unknown: a part was done, and the store is away now"), r.line())
			assert.Empty(t, r.header("X-Keelson-Outcome"))
			continue
		}
		assert.Equal(t, "201", r.line())
		assert.Equal(t, unit.Launched, w.models[0].Unit("x.service").Desired)
	}
}
