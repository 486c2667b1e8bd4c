package metrics

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestScrape(t *testing.T) {
	answers := true
	m := New(Source{
		Node: func() (Node, bool) {
			return Node{Leader: true, Applied: 7, Succeeded: map[string]uint64{"set": 3}}, answers
		},
		Peers:        func() []Peer { return []Peer{{Name: "n2", Up: true, Sent: 10}} },
		Certificates: func() []Certificate { return []Certificate{{Side: "peer", Until: time.Unix(1234567, 0)}} },
	})
	m.Request("PUT", 201)
	m.Request("PUT", 201)
	m.Request("BREW", 9999)
	m.Write(100, 2*time.Millisecond)
	m.Write(50, 0)
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	text := scrape()
	for _, line := range []string{
		`keelson_http_requests_total{code="201",method="PUT"} 2`,
		`keelson_http_requests_total{code="0",method="other"} 1`,
		`keelson_raft_applied_index 7`,
		`keelson_store_operations_total{operation="set",outcome="success"} 3`,
		`keelson_peer_sent_bytes_total{peer="n2"} 10`,
		`keelson_tls_certificate_expiry_timestamp_seconds{side="peer"} 1.234567e+06`,
		`keelson_disk_written_bytes_total 150`,
		`keelson_disk_sync_seconds_count 1`,
		`go_goroutines`,
		`process_open_fds`,
	} {
		assert.Contains(t, text, line)
	}
	answers = false
	assert.NotContains(t, scrape(), "raft_applied_index", "a member that does not answer shows no old figures")
}
