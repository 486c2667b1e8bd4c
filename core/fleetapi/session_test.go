package fleetapi_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/unit"
)

const sleep = `{"options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 3000"}]}`

// The session that was captured from the original, byte for byte.
func TestCapturedSession(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	w.is(t, "GET /fleet/v1/units", `200 {}`)
	w.is(t, "GET /fleet/v1/state", `200 {}`)
	w.is(t, "GET /fleet/v1/machines", `200 {"machines":[`+
		`{"id":"1a1a1a1a00000000000000000000aaaa","metadata":{"az":"a","disk":"ssd","region":"us-east"},"primaryIP":"10.78.0.11"},`+
		`{"id":"2b2b2b2b00000000000000000000bbbb","metadata":{"az":"b","disk":"hdd","region":"us-east"},"primaryIP":"10.78.0.12"},`+
		`{"id":"3c3c3c3c00000000000000000000cccc","metadata":{"az":"c","disk":"ssd","region":"us-west"},"primaryIP":"10.78.0.13"}]}`)
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, "201")
	w.is(t, "GET /fleet/v1/units/x.service", `200 {"currentState":"inactive","desiredState":"inactive","name":"x.service","options":[{"name":"ExecStart","section":"Service","value":"/bin/sleep 3000"}]}`)
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, `409 {"error":{"code":409,"message":"must provide DesiredState to update existing unit"}}`)
	w.is(t, `PUT /fleet/v1/units/x.service {"desiredState":"launched"}`, "204")
	w.run("x.service", m1, unit.Launched)
	w.is(t, "GET /fleet/v1/units/x.service", `200 {"currentState":"launched","desiredState":"launched","machineID":"1a1a1a1a00000000000000000000aaaa","name":"x.service","options":[{"name":"ExecStart","section":"Service","value":"/bin/sleep 3000"}]}`)
	w.is(t, "GET /v1-alpha/state", `200 {"states":[{"hash":"7dc08eb00f0c705e84a61e030d98e8cc3c994954","machineID":"1a1a1a1a00000000000000000000aaaa","name":"x.service","systemdActiveState":"active","systemdLoadState":"loaded","systemdSubState":"running"}]}`)
	w.is(t, "GET /fleet/v1/units?nextPageToken=ZAAAAA==", `400 {"error":{"code":400,"message":"token page must be greater than zero"}}`)
	w.is(t, "GET /fleet/v1/units?nextPageToken=ZAACAA==", `200 {}`)
	w.is(t, "GET /fleet/v1/units/none.service", `404 {"error":{"code":404,"message":"unit does not exist"}}`)
	w.is(t, "DELETE /fleet/v1/units/x.service", "204")
	w.is(t, "DELETE /fleet/v1/units/x.service", `404 {"error":{"code":404,"message":"unit does not exist"}}`)
	assert.Contains(t, w.ask(0, "GET /fleet/v1/state").line(), `"name":"x.service"`, "until the machine has stopped it")
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	for _, name := range []string{"x", "y"} {
		w.is(t, "PUT /fleet/v1/units/"+name+".service "+sleep, "201")
	}
	for line, body := range map[string]bool{
		"GET /fleet/v1/units": true,
		"GET /fleet/v1/none":  true,
		`PUT /fleet/v1/units/x.service {"desiredState":"loaded"}`: false,
		"DELETE /fleet/v1/units/y.service":                        false,
		"HEAD /fleet/v1/units":                                    true,
		"GET /fleet/v1/discovery":                                 true,
	} {
		r := w.ask(0, line)
		assert.Equal(t, "fleetd/1.0.0", r.header("Server"), line)
		assert.Equal(t, body, r.header("Content-Type") == "application/json", line)
		assert.NotContains(t, string(r.reply.Body), "\n", line)
	}
}

func TestRoutes(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	const get = `405 {"error":{"code":405,"message":"only GET supported against this resource"}}`
	const none = `404 {"error":{"code":404,"message":""}}`
	const empty = `405 {"error":{"code":405,"message":""}}`
	for line, want := range map[string]string{
		"GET /":                             empty,
		"GET /fleet/v1":                     empty,
		"POST /v1-alpha":                    empty,
		"GET /fleet/v1/":                    none,
		"GET /fleet/v1/units/":              none,
		"GET /fleet/v1/units/a.service/b":   none,
		"GET /fleet/v1/units/a%2Fb.service": none,
		"GET /fleet/v1/%zz":                 none,
		"GET /fleet/v1/machines/":           none,
		"GET /fleet/v2/units":               none,
		"GET /fleet/v1x":                    none,
		"POST /fleet/v1/units":              get,
		"DELETE /fleet/v1/state":            get,
		"PUT /fleet/v1/state/a.service":     get,
		"POST /fleet/v1/units/a.service":    `405 {"error":{"code":405,"message":"only GET, PUT and DELETE supported against this resource"}}`,
		"PUT /fleet/v1/machines":            `405 {"error":{"code":405,"message":"only GET and PATCH supported against this resource"}}`,
		"POST /fleet/v1/discovery":          `400 {"error":{"code":400,"message":"only HTTP GET supported against this resource"}}`,
		"HEAD /fleet/v1/units":              "405",
		"GET /fleet/v1/state/a.service":     `404 {"error":{"code":404,"message":"unit state does not exist"}}`,
	} {
		w.is(t, line, want)
	}
}

// What is refused gets these words, in this order, and changes nothing.
func TestRefusedPuts(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.is(t, "PUT /fleet/v1/units/known.service "+sleep, "201")
	w.is(t, "PUT /fleet/v1/units/t@.service "+sleep, "201")
	before := w.Truth().Index()
	fleet := func(lines ...string) string {
		var options []string
		for _, line := range lines {
			name, value, _ := strings.Cut(line, "=")
			text, _ := json.Marshal(value)
			options = append(options, `{"section":"X-Fleet","name":"`+name+`","value":`+string(text)+`}`)
		}
		return `{"options":[` + strings.Join(options, ",") + `]}`
	}
	long, _ := json.Marshal(strings.Repeat("x", 1<<20))
	for _, c := range []struct{ name, body, want string }{
		{"x.service", `{`, "400 unable to decode body: unexpected EOF"},
		{"x.service", "{\"name\":\"\xff\"}", "400 unable to decode body: not valid UTF-8"},
		{"x.service", `{"name":"y.service"}`, `400 name in URL "x.service" differs from unit name in request body "y.service"`},
		{"x", sleep, `400 unit name must contain "."`},
		{"x.", sleep, `400 unit name cannot end in "."`},
		{"x.foo", sleep, `400 invalid unit type: "foo"`},
		{"x@.mount", sleep, `400 invalid unit type for template: "mount"`},
		{"x%20y.service", sleep, `400 invalid character ' ' in unit name`},
		{"@x.service", sleep, `400 unit name cannot start in "@"`},
		{strings.Repeat("x", 256) + ".service", sleep, `400 unit name exceeds maximum length (256)`},
		{"x.service", `{}`, "409 unit does not exist and options field empty"},
		{"x.service", `null`, "409 unit does not exist and options field empty"},
		{"x.service", `{"options":[],"desiredState":"launched"}`, "409 unit does not exist and options field empty"},
		{"x.service", `{"options":[{"section":"Service","name":"ExecStart","value":"a\nb"}]}`, "400 unexpected newline encountered while parsing option name"},
		{"x.service", `{"options":[{"section":"Service","name":"ExecStart","value":` + string(long) + `}]}`, "400 line too long (max 2048 bytes)"},
		{"x.service", `{"options":[{"section":"Service","name":"ExecStart","value":"a\u0000b"}]}`, "400 line 2: NUL in a unit file"},
		{"a2.service", fleet("MachineOf=a1.service", "Conflicts=a*"), `400 unresolvable requirements: peer "a1.service" matches conflict "a*"`},
		{"a2.service", fleet("MachineOf=a1.service", "Replaces=a*"), `400 unresolvable requirements: peer "a1.service" matches replace "a*"`},
		{"x.service", fleet("MachineID=1", "MachineOf=b.service"), "400 MachineID cannot be used with Peers"},
		{"x.service", fleet("MachineID=1", "Conflicts=b", "Global=true"), "400 MachineID cannot be used with Conflicts"},
		{"x.service", fleet("MachineID=1", "Global=true"), "400 MachineID cannot be used with Global"},
		{"x.service", fleet("MachineID=1", "Replaces=b"), "400 MachineID cannot be used with Replaces"},
		{"x.service", fleet("Global=true", "MachineOf=b.service"), "400 Global cannot be used with Peers"},
		{"x.service", fleet("Global=true", "Replaces=b"), "400 Global cannot be used with Replaces"},
		{"x.service", fleet("Conflicts=c", "Replaces=b"), "400 Conflicts cannot be used with Replaces"},
		{"x.service", fleet("Weight=heavy"), `400 Weight: "heavy": want a number from 1 to 1000000`},
		{"x.service", fleet("MachineMetadata=cores>=many"), `400 MachineMetadata: "cores>=many": want a number after >=, such as 4 or 6.1`},
		{"x.service", `{"desiredState":"Launched","options":[{"section":"S","name":"A","value":"b"}]}`, `400 invalid desired state "Launched": want inactive, loaded or launched`},
		{"u@.service", `{"desiredState":"launched","options":[{"section":"S","name":"A","value":"b"}]}`, `400 cannot activate template "u@.service"`},
		{"known.service", fleet("MachineID=1", "Global=true"), "400 MachineID cannot be used with Global"},
		{"known.service", `{"desiredState":"running"}`, `400 invalid desired state "running": want inactive, loaded or launched`},
		{"known.service", `{}`, "409 must provide DesiredState to update existing unit"},
		{"t@.service", `{"desiredState":"loaded"}`, `400 cannot activate template "t@.service"`},
	} {
		status, message, _ := strings.Cut(c.want, " ")
		text, _ := json.Marshal(message)
		want := status + ` {"error":{"code":` + status + `,"message":` + string(text) + `}}`
		w.is(t, "PUT /fleet/v1/units/"+c.name+" "+c.body, want)
	}
	req := request("PUT /fleet/v1/units/x.service " + sleep)
	for kind, want := range map[string]string{
		"":           `415 {"error":{"code":415,"message":"expected 1 Content-Type, got 0"}}`,
		"text/plain": `415 {"error":{"code":415,"message":"only acceptable Content-Type is application/json"}}`,
	} {
		req.ContentType = kind
		r := w.begin(0, req)
		w.Run(time.Second, nil)
		assert.Equal(t, want, r.line())
	}
	assert.Equal(t, before, w.Truth().Index(), "nothing was changed")
	w.is(t, `PUT /fleet/v1/units/ok.service `+fleet("MachineOf=ok.service", "Conflicts=[", "MachineMetadata=a=b=c", "Bogus=1"), "201")
}

func TestReplace(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, "201")
	w.is(t, `PUT /fleet/v1/units/x.service {"desiredState":"launched"}`, "204")
	created := w.models[0].Unit("x.service").Created
	w.is(t, `PUT /fleet/v1/units/x.service {"options":[{"section":"Service","name":"ExecStart","value":"/bin/true"}]}`, "201")
	w.is(t, "GET /fleet/v1/units/x.service", `200 {"currentState":"inactive","desiredState":"inactive","name":"x.service","options":[{"name":"ExecStart","section":"Service","value":"/bin/true"}]}`)
	w.is(t, `PUT /fleet/v1/units/x.service {"desiredState":"loaded","options":[{"section":"Service","name":"ExecStart","value":"/bin/true"}]}`, "204")
	assert.Equal(t, created, w.models[0].Unit("x.service").Created, "it is the same unit")
	w.is(t, `PUT /fleet/v1/units/t@.service `+sleep, "201")
	w.is(t, `PUT /fleet/v1/units/t@.service {"desiredState":"inactive"}`, "204")
}

// A unit that was destroyed halfway, or by an older program, gives way to a new one.
func TestLeftovers(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.set(keys.TargetState("x.service"), "launched")
	w.set(keys.TargetState("y.service"), "nonsense")
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, "201")
	w.is(t, "PUT /fleet/v1/units/y.service "+sleep, "201")
	w.is(t, "GET /fleet/v1/units/x.service", `200 {"currentState":"inactive","desiredState":"inactive","name":"x.service","options":[{"name":"ExecStart","section":"Service","value":"/bin/sleep 3000"}]}`)
	w.set(keys.TargetState("y.service"), "nonsense")
	w.is(t, `PUT /fleet/v1/units/y.service {"desiredState":"loaded"}`, "204")
	n, err := w.Truth().Get(keys.TargetState("y.service"), false)
	require.Nil(t, err)
	assert.Equal(t, "loaded", n.Value)
}

func TestStates(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	w.is(t, `PUT /fleet/v1/units/g.service {"desiredState":"launched","options":[{"section":"X-Fleet","name":"Global","value":"Yes"}]}`, "201")
	for _, m := range []string{m2, m1} {
		w.says("g.service", m, "active", "running")
	}
	w.says("a.service", m2, "failed", "failed")
	w.says("old.service", "4d4d4d4d00000000000000000000dddd", "active", "running")
	g := func(m string) string {
		return `{` + `"hash":"` + w.models[0].Unit("g.service").Hash.String() + `","machineID":"` + m + `","name":"g.service","systemdActiveState":"active","systemdLoadState":"loaded","systemdSubState":"running"}`
	}
	a := `{"machineID":"` + m2 + `","name":"a.service","systemdActiveState":"failed","systemdLoadState":"loaded","systemdSubState":"failed"}`
	w.Run(time.Second, nil)
	w.is(t, "GET /fleet/v1/state", `200 {"states":[`+a+","+g(m1)+","+g(m2)+`]}`)
	w.is(t, "GET /fleet/v1/state?unitName=g.service", `200 {"states":[`+g(m1)+","+g(m2)+`]}`)
	w.is(t, "GET /fleet/v1/state?machineID="+m2, `200 {"states":[`+a+","+g(m2)+`]}`)
	w.is(t, "GET /fleet/v1/state?unitName=g.service&machineID="+m2, `200 {"states":[`+g(m2)+`]}`)
	w.is(t, "GET /fleet/v1/state?unitName=g.service&machineID=2b2b2b2b", `200 {}`)
	w.is(t, "GET /fleet/v1/state/g.service", "200 "+g(m1))
	assert.NotContains(t, w.ask(0, "GET /fleet/v1/units/g.service").line(), "currentState", "a global unit has none")
	assert.NotContains(t, w.ask(0, "GET /fleet/v1/units").line(), "currentState")
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	patch := func(ops string) string { return "PATCH /fleet/v1/machines [" + ops + "]" }
	bad := func(message string) string { return `400 {"error":{"code":400,"message":"` + message + `"}}` }
	w.Run(time.Second, nil)
	before := w.Truth().Index()
	good := `{"op":"add","path":"/` + m1 + `/metadata/rack","value":"7"}`
	for ops, want := range map[string]string{
		`{"op":"set","path":"/x/metadata/a","value":"b"}`:              "invalid op: expect add, remove, or replace",
		`{"op":"add","path":"/x/data/a","value":"b"}`:                  "machine metadata path invalid",
		`{"op":"add","path":"x/metadata/a","value":"b"}`:               "machine metadata path invalid",
		`{"op":"add","path":"/x/metadata/a b","value":"b"}`:            "machine metadata path invalid",
		`{"op":"add","path":"/x/metadata/","value":"b"}`:               "machine metadata path invalid",
		`{"op":"add","path":"/../metadata/a","value":"b"}`:             "machine metadata path invalid",
		`{"op":"add","path":"/x/metadata/..","value":"b"}`:             "machine metadata path invalid",
		`{"op":"add","path":"/x/metadata/a/b","value":"b"}`:            "machine metadata path invalid",
		`{"op":"add","path":"/x/metadata/a"}`:                          "invalid value: add and replace require a value",
		`{"op":"replace","path":"/x/metadata/a","value":{"value":""}}`: "invalid value: add and replace require a value",
	} {
		w.is(t, patch(good+","+ops), bad(want))
	}
	assert.Contains(t, w.ask(0, "PATCH /fleet/v1/machines {}").line(), "400 ")
	assert.Equal(t, before, w.Truth().Index(), "all are checked before the first is done")

	w.is(t, patch(good+`,{"op":"replace","path":"/`+m1+`/metadata/disk","value":{"value":"nvme"}},{"op":"remove","path":"/`+m1+`/metadata/az"},{"op":"add","path":"/unknown/metadata/a","value":"b"}`), "204")
	w.is(t, "PATCH /fleet/v1/machines []", "204")
	w.is(t, "GET /fleet/v1/machines", `200 {"machines":[`+
		`{"id":"`+m1+`","metadata":{"disk":"nvme","rack":"7","region":"us-east"},"primaryIP":"10.78.0.11"},`+
		`{"id":"`+m2+`","metadata":{"az":"b","disk":"hdd","region":"us-east"},"primaryIP":"10.78.0.12"},`+
		`{"id":"`+m3+`","metadata":{"az":"c","disk":"ssd","region":"us-west"},"primaryIP":"10.78.0.13"}]}`)
}

func TestPages(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{Page: 2})
	for _, name := range []string{"d", "a", "c", "b"} {
		w.is(t, "PUT /fleet/v1/units/"+name+".service "+sleep, "201")
	}
	var names []string
	next, requests := "", 0
	for {
		var page struct {
			Units []struct{ Name string }
			Next  string `json:"nextPageToken"`
		}
		require.NoError(t, json.Unmarshal(w.ask(0, "GET /fleet/v1/units"+next).reply.Body, &page))
		for _, u := range page.Units {
			names = append(names, u.Name)
		}
		requests++
		if page.Next == "" {
			break
		}
		next = "?nextPageToken=" + page.Next
	}
	assert.Equal(t, []string{"a.service", "b.service", "c.service", "d.service"}, names)
	assert.Equal(t, 3, requests, "behind an exact multiple there is one empty page")
	for token, want := range map[string]string{
		"AgABAA==&nextPageToken=AgABAA==": "too many values for page token",
		"ZAABAA==":                        "token limit must be 2",
		"AgAAAA==":                        "token page must be greater than zero",
		"x":                               `page token \"x\" cannot be read`,
	} {
		w.is(t, "GET /fleet/v1/machines?nextPageToken="+token, `400 {"error":{"code":400,"message":"`+want+`"}}`)
	}
	w.is(t, "GET /fleet/v1/units?nextPageToken=AgD__w==", `200 {}`)
}

// Without a quorum nobody can tell; a write whose outcome nobody knows says so.
func TestCutOff(t *testing.T) {
	w := newWorld(t, 1, 2, fleetapi.Options{})
	const unavailable = `503 {"error":{"code":503,"message":"fleet server unable to communicate with etcd"}}`
	w.Members[0].Cut = true
	for _, line := range []string{"GET /fleet/v1/units", "PUT /fleet/v1/units/x.service " + sleep, "DELETE /fleet/v1/units/x.service", "GET /fleet/v1/events"} {
		asked := w.Now()
		r := w.ask(0, line)
		assert.Equal(t, unavailable, r.line())
		assert.Less(t, w.Now().Sub(asked), 3*time.Second, "before clients give up")
		assert.Equal(t, "unsent", r.header("X-Keelson-Outcome"))
	}
	w.Members[0].Cut = false
	w.Run(time.Second, nil)
	w.is(t, "GET /fleet/v1/units", "200 {}")
	w.Lost = 100
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, `500 {"error":{"code":500,"message":"unit x.service: the outcome is unknown: outcome unknown"}}`)
	w.Lost = 0
}

func TestNotYet(t *testing.T) {
	r := fleetapi.NotYet(request("GET /fleet/v1/units"), version)
	require.NotNil(t, r)
	assert.Equal(t, `{"error":{"code":503,"message":"fleet server unable to communicate with etcd"}}`, string(r.Body))
	assert.Nil(t, fleetapi.NotYet(request("GET /v2/keys"), version))
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	var d struct {
		ID        string
		Resources map[string]struct {
			Methods map[string]struct{ Path string }
		}
	}
	require.NoError(t, json.Unmarshal(w.ask(0, "GET /fleet/v1/discovery").reply.Body, &d))
	assert.Equal(t, "fleet:v1", d.ID)
	assert.Equal(t, "units/{unitName}", d.Resources["Units"].Methods["Set"].Path)
}

// Whatever may be a name is one: no unit is hidden, lost or taken for another.
func TestOddNames(t *testing.T) {
	w := newWorld(t, 1, 2, fleetapi.Options{})
	names := []string{".service", "..service", "_hidden.service", `a\x2db.mount`, "a:b.slice", "job.target", "object.scope", strings.Repeat("n", 248) + ".service"}
	for _, name := range names {
		path := "/fleet/v1/units/" + strings.ReplaceAll(name, `\`, "%5C")
		w.is(t, "PUT "+path+" "+sleep, "201")
		shown, _ := json.Marshal(name)
		assert.Contains(t, w.ask(1, "GET "+path).line(), `"name":`+string(shown), name)
	}
	var list struct{ Units []struct{ Name string } }
	require.NoError(t, json.Unmarshal(w.ask(1, "GET /fleet/v1/units").reply.Body, &list))
	assert.Len(t, list.Units, len(names))
}
