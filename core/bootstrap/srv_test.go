package bootstrap

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func records(w *world) Config {
	w.names["a.example"], w.names["b.example"] = "10.0.0.1", "10.0.0.2"
	w.srv["_etcd-server._tcp.example"] = []env.Service{{Target: "b.example", Port: 2380}, {Target: "a.example.", Port: 2380}, {Target: "gone.example", Port: 2380}}
	w.srv["_etcd-server-ssl._tcp.example"] = []env.Service{{Target: "10.0.0.3", Port: 2380}}
	return Config{Name: "ann", PeerURLs: []string{"http://a.example:2380"}, DiscoverySRV: "example", Token: "t"}
}

func TestRecordsOfBothServicesCount(t *testing.T) {
	w := newWorld()
	p := start(w, records(w), nil)
	w.hosts["http://b.example:2380"] = granter{}.serve
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	got := make(map[string]string)
	for _, m := range p.outcome.Identity.Members {
		got[m.PeerURLs[0]] = m.Name
	}
	assert.Equal(t, map[string]string{"http://a.example:2380": "ann", "http://b.example:2380": "1", "https://10.0.0.3:2380": "0"}, got)
	assert.True(t, w.said("gone.example"))
}

func TestARecordMayNameTheAddressOfThisMember(t *testing.T) {
	w := newWorld()
	conf := records(w)
	conf.PeerURLs = []string{"http://10.0.0.1:2380"}
	w.hosts["http://b.example:2380"] = granter{}.serve
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	assert.Equal(t, MemberID([]string{"http://a.example:2380"}, "t"), p.outcome.Identity.ID, "the ID is that of the record's text")
}

func TestTheOwnAddressMustBeAmongTheRecords(t *testing.T) {
	w := newWorld()
	conf := records(w)
	conf.PeerURLs = []string{"http://10.0.0.9:2380"}
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, `cannot find local etcd member "ann" in SRV records`)

	conf.Proxy = On
	p = start(w, conf, nil)
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	assert.Len(t, p.outcome.Proxy.PeerURLs, 3)
}

func TestADomainWithoutRecordsIsAnError(t *testing.T) {
	w := newWorld()
	conf := records(w)
	conf.DiscoverySRV = "nowhere"
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "discovery-srv=nowhere")
}

func FuzzRecords(f *testing.F) {
	f.Add("a.example", uint16(2380), "10.0.0.1", "http://10.0.0.1:2380")
	f.Add("..", uint16(0), "", "https://x:1")
	f.Add("a,b=c", uint16(1), "::1", "http://[::1]:1")
	f.Fuzz(func(t *testing.T, target string, port uint16, addr, own string) {
		c := Config{Name: "n", PeerURLs: []string{own}, DiscoverySRV: "d", Token: "t"}
		urls := srvURLs("http", []env.Service{{Target: target, Port: port}, {Target: "b.example", Port: 1}})
		members, err := c.fromRecords(urls, map[string]string{target: addr, "b.example": "10.0.0.2"})
		if err != nil {
			return
		}
		if _, err := c.local(members); err != nil {
			t.Fatalf("a list without this member was made of %q: %v", target, err)
		}
		if len(members) > 2 {
			t.Fatalf("%d members out of two records: %v", len(members), members)
		}
	})
}
