package lock

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKey(t *testing.T) {
	for group, want := range map[string]string{
		"":              "/coreos.com/updateengine/rebootlock/semaphore",
		"lb":            "/coreos.com/updateengine/rebootlock/groups/lb/semaphore",
		"prod/database": "/coreos.com/updateengine/rebootlock/groups/prod%2Fdatabase/semaphore",
		"a b":           "/coreos.com/updateengine/rebootlock/groups/a+b/semaphore",
	} {
		assert.Equal(t, want, Key(group), "group %q", group)
	}
}

func TestDocumentBytes(t *testing.T) {
	s := New()
	assert.Equal(t, `{"semaphore":1,"max":1,"holders":null}`, string(s.Encode()))
	s, err := s.Lock("aaa")
	require.NoError(t, err)
	assert.Equal(t, `{"semaphore":0,"max":1,"holders":["aaa"]}`, string(s.Encode()))
	s, err = s.Unlock("aaa")
	require.NoError(t, err)
	assert.Equal(t, `{"semaphore":1,"max":1,"holders":[]}`, string(s.Encode()))

	frozen, err := New().SetMax(0)
	require.NoError(t, err)
	assert.Equal(t, `{"semaphore":0,"max":0,"holders":null}`, string(frozen.Encode()))
}

func TestParse(t *testing.T) {
	accepted := map[string]Semaphore{
		`{"semaphore":1,"max":1,"holders":null}`:                              {1, 1, nil},
		`{"semaphore":1,"max":1,"holders":[]}`:                                {1, 1, []string{}},
		`{"semaphore":1,"max":1}`:                                             {1, 1, nil},
		" {\n\t\"holders\" : [ \"b\", \"a\" ],\"max\":2,\"semaphore\":0 }\n ": {0, 2, []string{"b", "a"}},
		`{"semaphore":-1,"max":1,"holders":["a","b"]}`:                        {-1, 1, []string{"a", "b"}},
		`{"semaphore":-2,"max":-2,"holders":[]}`:                              {-2, -2, []string{}},
		`{"semaphore":0,"max":2,"holders":["a","a"]}`:                         {0, 2, []string{"a", "a"}},
	}
	for doc, want := range accepted {
		s, err := Parse([]byte(doc))
		assert.NoError(t, err, "%s", doc)
		assert.Equal(t, want, s, "%s", doc)
	}
	refused := map[string]string{
		``:                                      "reboot lock document: it is empty",
		"  \n":                                  "reboot lock document: it is empty",
		`{"semaphore":1,`:                       "reboot lock document: it ends in the middle",
		`null`:                                  `reboot lock document: member "semaphore" is missing`,
		`[1]`:                                   `reboot lock document: want an object, not array`,
		`{}`:                                    `reboot lock document: member "semaphore" is missing`,
		`{"semaphore":1}`:                       `reboot lock document: member "max" is missing`,
		`{"semaphore":"1","max":1}`:             `reboot lock document: member "semaphore": unexpected string`,
		`{"semaphore":1.5,"max":1}`:             `reboot lock document: member "semaphore": unexpected number 1.5`,
		`{"semaphore":1,"max":1,"holders":"a"}`: `reboot lock document: member "holders": unexpected string`,
		`{"semaphore":0,"max":1,"holders":[null]}`:                                     `reboot lock document: member "holders": item 0 is null`,
		`{"semaphore":1,"max":1,"holders":[],"owner":"me"}`:                            `reboot lock document: json: unknown field "owner"`,
		`{"semaphore":1,"max":1,"holders":[]} x`:                                       "reboot lock document: more text after its end",
		`{"semaphore":1,"max":1,"holders":["a"]}`:                                      "reboot lock document: semaphore 1 with 1 holders: want max 1 less the holders, 0",
		`{"semaphore":9223372036854775807,"max":-9223372036854775808,"holders":["a"]}`: "reboot lock document: max -9223372036854775808: want a number from -2147483647 to 2147483647",
	}
	for doc, want := range refused {
		_, err := Parse([]byte(doc))
		assert.EqualError(t, err, want, "%s", doc)
	}
}

func TestRefusals(t *testing.T) {
	full := Semaphore{0, 1, []string{"aaa"}}
	_, err := full.Lock("bbb")
	require.EqualError(t, err, "semaphore is at 0")
	var fe *FullError
	require.ErrorAs(t, err, &fe)
	assert.Equal(t, "reboot lock default: 1 of 1 slots held by aaa", fe.Detail())
	fe.Group = "lb"
	assert.Equal(t, "reboot lock lb: 1 of 1 slots held by aaa", fe.Detail())

	_, err = full.Lock("aaa")
	require.EqualError(t, err, "semaphore is at 0", "fullness is tested before the holder")
	_, err = Semaphore{-2, 0, []string{"a", "b"}}.Lock("c")
	require.EqualError(t, err, "semaphore is at -2")
	_, err = Semaphore{1, 2, []string{"aaa"}}.Lock("aaa")
	require.ErrorIs(t, err, ErrHeld)
	require.EqualError(t, err, "holder exists")
	_, err = full.Unlock("bbb")
	require.ErrorIs(t, err, ErrNotHeld)
	require.EqualError(t, err, "holder does not exist")
	_, err = full.SetMax(-1)
	require.EqualError(t, err, "maximum -1: want a number from 0 to 2147483647")
	_, err = full.SetMax(math.MaxInt)
	require.Error(t, err)
	_, err = New().Lock("\xff")
	require.EqualError(t, err, `holder "\xff": want valid UTF-8`)

	_, err = Semaphore{}.Lock("a")
	require.ErrorAs(t, err, &fe)
	assert.Equal(t, "reboot lock default: frozen, it has 0 slots", fe.Detail())
}

func TestUnsortedHoldersCanLeave(t *testing.T) {
	s, err := Parse([]byte(`{"semaphore":0,"max":3,"holders":["c","a","b"]}`))
	require.NoError(t, err)
	s, err = s.Unlock("c")
	require.NoError(t, err)
	assert.Equal(t, `{"semaphore":1,"max":3,"holders":["a","b"]}`, string(s.Encode()))
}

func TestEncodePanicsOnCountsThatDoNotAddUp(t *testing.T) {
	assert.Panics(t, func() { Semaphore{2, 1, nil}.Encode() })
}

func ids() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.String().Filter(func(s string) bool {
		return strings.ToValidUTF8(s, "") == s
	}))
}

// TestChanges holds the semaphore against a plain set of holders.
func TestChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, held, slots := New(), map[string]bool{}, 1
		t.Repeat(map[string]func(*rapid.T){
			"lock": func(t *rapid.T) {
				id := ids().Draw(t, "id")
				before := slices.Clone(s.Holders)
				next, err := s.Lock(id)
				assert.Equal(t, before, s.Holders, "the old value stays")
				var full *FullError
				switch {
				case slots-len(held) <= 0:
					assert.ErrorAs(t, err, &full)
				case held[id]:
					assert.ErrorIs(t, err, ErrHeld)
				default:
					assert.NoError(t, err)
					held[id], s = true, next
				}
			},
			"unlock": func(t *rapid.T) {
				id := ids().Draw(t, "id")
				next, err := s.Unlock(id)
				assert.Equal(t, held[id], err == nil)
				if err == nil {
					delete(held, id)
					s = next
				}
			},
			"set max": func(t *rapid.T) {
				n := rapid.IntRange(-1, 5).Draw(t, "n")
				next, err := s.SetMax(n)
				assert.Equal(t, n >= 0, err == nil)
				if err == nil {
					s, slots = next, n
				}
			},
			"": func(t *rapid.T) {
				require.NoError(t, s.Verify())
				require.Len(t, s.Holders, len(held))
				require.True(t, slices.IsSorted(s.Holders))
				back, err := Parse(s.Encode())
				require.NoError(t, err)
				require.Equal(t, s, back)
			},
		})
	})
}

func FuzzParse(f *testing.F) {
	for _, doc := range []string{
		`{"semaphore":1,"max":1,"holders":null}`,
		`{"semaphore":0,"max":1,"holders":["aaa"]}`,
		" { \"max\" : 2, \"holders\" : [\"b\",\"a\"], \"semaphore\" : 0 } ",
		`{"semaphore":-2,"max":-2,"holders":[]}`,
		`{"semaphore":1e0,"max":1}`,
		`[]`, `{`, ``, `{"holders":[null]}`, `{"semaphore":1,"max":1}{}`, "{\"semaphore\":0,\"max\":1,\"holders\":[\"\xff\"]}",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			assert.Equal(t, Semaphore{}, s)
			return
		}
		assert.NoError(t, s.Verify())
		again, err := Parse(s.Encode())
		require.NoError(t, err)
		assert.Equal(t, s.Encode(), again.Encode())
		assert.True(t, json.Valid(s.Encode()))
		if next, err := s.Lock("fuzz"); err == nil {
			assert.NoError(t, next.Verify())
			gone, err := next.Unlock("fuzz")
			assert.NoError(t, err)
			assert.NoError(t, gone.Verify())
		} else {
			var full *FullError
			assert.True(t, errors.As(err, &full) || errors.Is(err, ErrHeld))
		}
	})
}
