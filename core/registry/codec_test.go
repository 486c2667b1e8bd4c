package registry

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/unit"
)

// The original programs read these documents where they lie.
func TestDocumentsAreThoseOfTheOriginal(t *testing.T) {
	h := file(t, "[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo \\\"Hello, world\\\"; sleep 1; done\"\n").Hash()
	assert.Equal(t, `{"Name":"hello.service","UnitHash":[229,92,10,235,68,186,11,104,0,76,235,138,32,14,104,81,148,68,139,69]}`, EncodeObject("hello.service", h))
	assert.Equal(t, `{"Raw":"[Service]\nExecStart=/bin/sh -c \"a \u0026\u0026 b\"\n"}`, EncodeContents("[Service]\nExecStart=/bin/sh -c \"a && b\"\n"))
	assert.Equal(t, `{"loadState":"loaded","activeState":"active","subState":"running","machineState":{"ID":"1a"},"unitHash":"e5"}`,
		EncodeState(&UnitState{Name: "x", MachineID: "1a", Load: "loaded", Active: "active", Sub: "running", Hash: "e5"}))
	assert.Equal(t, `{"ID":"1a","PublicIP":"10.0.0.1","Metadata":{"az":"a"},"Capabilities":{"DISABLE_ENGINE":false,"GRPC":false},"Version":"1.0.0"}`,
		EncodeMachine(&Machine{ID: "1a", PublicIP: "10.0.0.1", Metadata: map[string]string{"az": "a"}, Version: "1.0.0", Engine: true}))
	assert.Equal(t, `{"MachineID":"1a","Version":1}`, EncodeLease(Lease{"1a", 1}))

	s, err := DecodeState("x.service", "1a", `{"loadState":"loaded","activeState":"active","subState":"running","machineState":{"ID":"1a","PublicIP":"","Metadata":null,"Capabilities":null,"Version":""},"unitHash":"e5"}`)
	require.NoError(t, err)
	assert.Equal(t, &UnitState{Name: "x.service", MachineID: "1a", Load: "loaded", Active: "active", Sub: "running", Hash: "e5"}, s)
	_, err = DecodeState("x.service", "2b", `{"machineState":{"ID":"1a"}}`)
	require.Error(t, err, "a state at the key of another machine")
}

func TestDocumentsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Filter(func(s string) bool { return strings.ToValidUTF8(s, "") == s })
		m := &Machine{
			ID: "1a", PublicIP: text.Draw(t, "ip"), Metadata: rapid.MapOf(text, text).Draw(t, "metadata"), Version: text.Draw(t, "version"),
			Host: text.Draw(t, "host"), API: text.Draw(t, "api"), Instance: text.Draw(t, "instance"), Boot: text.Draw(t, "boot"), Engine: rapid.Bool().Draw(t, "engine"),
		}
		if rapid.Bool().Draw(t, "capacity") {
			m.Capacity = []unit.Quantity{{Name: "cpu", Amount: 4000}, {Name: "memory", Amount: rapid.Int64().Draw(t, "memory")}}
		}
		got, err := DecodeMachine("1a", EncodeMachine(m))
		require.NoError(t, err)
		require.Equal(t, m, got)
		s := &UnitState{Name: "x.service", MachineID: "1a", Load: text.Draw(t, "load"), Active: text.Draw(t, "active"), Sub: text.Draw(t, "sub"), Result: text.Draw(t, "result")}
		state, err := DecodeState("x.service", "1a", EncodeState(s))
		require.NoError(t, err)
		require.Equal(t, s, state)
		raw := text.Draw(t, "raw")
		back, err := DecodeContents(EncodeContents(raw))
		require.NoError(t, err)
		require.Equal(t, raw, back)
		a := &Assignment{Name: "x.service", Raw: raw, State: unit.Launched, Since: 7}
		assigned, err := DecodeAssignment("x.service", EncodeAssignment(a))
		require.NoError(t, err)
		require.Equal(t, a, assigned)
	})
}

// Whatever lies at a key of the registry, a model can be made of it.
func FuzzDocuments(f *testing.F) {
	for _, text := range []string{
		`{"Name":"a","UnitHash":[1,2,300]}`, `{"UnitHash":"AAAA"}`, `{"Raw":1}`, `{"loadState":null,"machineState":null}`, `{"Capacity":{"a":1e99}}`,
		`{"Raw":"[X-Fleet]\nGlobal=true\nMachineOf=a","State":"loaded"}`, "launched", "\xff", "null", EncodeMachine(&Machine{ID: "m1"}),
	} {
		f.Add(text, "a.service")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		w := controltest.New(1, 1)
		for _, key := range []string{
			keys.Object("a.service"), keys.TargetState("a.service"), keys.Contents(unit.Hash{}), keys.State("a.service", "m1"), keys.MachineObject("m1"),
			keys.Assignment("m1", "a.service"), keys.Global("a.service"), keys.EngineLease(), keys.EngineVersion(), keys.Claim("a.service"),
			keys.Move("a.service"), keys.Cordon("m1"), keys.Metadata("m1", "k"),
		} {
			w.Commit(set(key, text))
		}
		if name != "" && !strings.ContainsAny(name, "/\x00") && name != "." && name != ".." {
			w.Commit(set(keys.Object(name), text), set(keys.MachineObject(name), text), set(keys.State(name, name), text), set(keys.Prefix+"/unit/"+name, text))
		}
		w.Run(1e9, nil)
		m := Open(w.Members[0], keys, w)
		require.NotEmpty(t, picture(m))
	})
}

// The page lists the keys as the package comment does, and as Keys makes them.
func TestKeysPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/units-internals.md")
	require.NoError(t, err)
	source, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	named := Keys{""}
	for _, key := range []string{
		named.Object("NAME"), named.TargetState("NAME"), named.Target("NAME"), named.JobState("NAME"), named.Claim("NAME"), named.State("NAME", "MACHINE"),
		named.MachineObject("ID"), named.Metadata("ID", "KEY"), named.Cordon("ID"), named.Assignment("ID", "NAME"), named.Global("NAME"), named.Move("NAME"),
		named.EngineLease(), named.EngineVersion(), "/unit/SHA1",
	} {
		assert.Contains(t, string(page), "| `"+key[1:]+"` |", "docs/units-internals.md")
		assert.Contains(t, string(source), key[1:]+" ", "doc.go")
	}
}
