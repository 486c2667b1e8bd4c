// Package metrics shows a member's figures to Prometheus.
//
// Hot paths only add to counters; everything else is asked for when somebody
// looks.
package metrics

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Node is what a member says about itself when asked.
type Node struct {
	Leader, HasLeader bool
	Term              uint64
	Commit, Applied   uint64 // raft indexes
	Index             uint64 // of the store
	LeaderChanges     uint64
	Pending, Reads    int // commands and linearizable reads without an outcome
	Watchers          int
	Full              bool   // the disk is full
	Compared          uint64 // raft index up to which all members were seen to have the same state
	Differing         uint64 // comparisons in which one had not
	// Succeeded and Failed count operations by name.
	Succeeded, Failed map[string]uint64
}

// Peer is what goes to and comes from one other member.
type Peer struct {
	Name           string
	Up             bool
	Sent, Received uint64 // bytes
	Dropped        uint64 // frames
	Queued         int    // bytes
}

// Certificate is one that this member shows.
type Certificate struct {
	Side  string // client or peer: who is shown it
	Until time.Time
}

// Source gives the figures of a moment. Node's false says that the member does
// not answer. Both may be called from any goroutine.
type Source struct {
	Node  func() (Node, bool)
	Peers func() []Peer
	// Certificates may be nil.
	Certificates func() []Certificate
}

// Metrics counts, and answers scrapes.
type Metrics struct {
	registry *prometheus.Registry
	source   Source
	requests [len(methods) + 1][statusMax]atomic.Uint64
	sync     prometheus.Histogram
	written  prometheus.Counter
}

// methods are counted by name; anything else is "other".
var methods = [...]string{"GET", "PUT", "POST", "DELETE", "HEAD"}

const statusMax = 600

var (
	descRequests = describe("http_requests_total", "Answers to clients.", "method", "code")
	descLeader   = describe("raft_is_leader", "Whether this member leads.")
	descHas      = describe("raft_has_leader", "Whether this member knows a leader.")
	descChanges  = describe("raft_leader_changes_total", "Changes of the leader that this member saw.")
	descTerm     = describe("raft_term", "The term of the consensus.")
	descCommit   = describe("raft_commit_index", "The last entry known to be committed.")
	descApplied  = describe("raft_applied_index", "The last entry applied.")
	descIndex    = describe("store_index", "The store's index, as X-Etcd-Index shows it.")
	descOps      = describe("store_operations_total", "Operations on the store, which every member counts alike, and local reads.", "operation", "outcome")
	descPending  = describe("proposals_pending", "Commands of this member's clients without an outcome.")
	descReads    = describe("reads_pending", "Linearizable reads without an answer.")
	descWatchers = describe("watchers", "Open watches.")
	descCompared = describe("state_compared_index", "Entry of the log up to which the states of all members were seen to be equal.")
	descDiffers  = describe("state_differs_total", "Comparisons of states in which a member differed from this one.")
	descFull     = describe("disk_full", "Whether the disk has no space left.")
	descUp       = describe("peer_up", "Whether a stream to the peer stands.", "peer")
	descSent     = describe("peer_sent_bytes_total", "Bytes sent to the peer.", "peer")
	descReceived = describe("peer_received_bytes_total", "Bytes received from the peer.", "peer")
	descDropped  = describe("peer_dropped_frames_total", "Frames for the peer that were not sent.", "peer")
	descCert     = describe("tls_certificate_expiry_timestamp_seconds", "When the certificate that is shown to clients or peers comes to its end, since 1970.", "side")
	descQueued   = describe("peer_queued_bytes", "Bytes that wait to be sent to the peer.", "peer")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("keelson_"+name, help, labels, nil)
}

// New makes metrics over s.
func New(s Source) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		source:   s,
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keelson_disk_sync_seconds", Help: "How long a sync of the log took.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "keelson_disk_written_bytes_total", Help: "Bytes written to the log and to snapshots."}),
	}
	m.registry.MustRegister(m, m.sync, m.written, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Request counts an answer to a client.
func (m *Metrics) Request(method string, status int) {
	if status < 0 || status >= statusMax {
		status = 0
	}
	m.requests[place(method)][status].Add(1)
}

func place(method string) int {
	for i, name := range methods {
		if name == method {
			return i
		}
	}
	return len(methods)
}

// Write counts a write to disk. Sync is 0 where none was owed.
func (m *Metrics) Write(bytes int, sync time.Duration) {
	m.written.Add(float64(bytes))
	if sync > 0 {
		m.sync.Observe(sync.Seconds())
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRequests, descLeader, descHas, descChanges, descTerm, descCommit, descApplied, descIndex, descOps,
		descPending, descReads, descWatchers, descFull, descCompared, descDiffers, descUp, descSent, descReceived, descDropped, descQueued, descCert,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	s := sink(ch)
	for i := range m.requests {
		method := "other"
		if i < len(methods) {
			method = methods[i]
		}
		for status := range m.requests[i] {
			if n := m.requests[i][status].Load(); n > 0 {
				s.count(descRequests, n, method, strconv.Itoa(status))
			}
		}
	}
	for _, p := range m.source.Peers() {
		s.flag(descUp, p.Up, p.Name)
		s.count(descSent, p.Sent, p.Name)
		s.count(descReceived, p.Received, p.Name)
		s.count(descDropped, p.Dropped, p.Name)
		s.level(descQueued, float64(p.Queued), p.Name)
	}
	if m.source.Certificates != nil {
		for _, c := range m.source.Certificates() {
			s.level(descCert, float64(c.Until.Unix()), c.Side)
		}
	}
	if n, ok := m.source.Node(); ok {
		s.node(&n)
	}
}

type sink chan<- prometheus.Metric

func (s sink) node(n *Node) {
	s.flag(descLeader, n.Leader)
	s.flag(descHas, n.HasLeader)
	s.count(descChanges, n.LeaderChanges)
	s.level(descTerm, float64(n.Term))
	s.level(descCommit, float64(n.Commit))
	s.level(descApplied, float64(n.Applied))
	s.level(descIndex, float64(n.Index))
	s.level(descPending, float64(n.Pending))
	s.level(descReads, float64(n.Reads))
	s.level(descWatchers, float64(n.Watchers))
	s.flag(descFull, n.Full)
	s.level(descCompared, float64(n.Compared))
	s.count(descDiffers, n.Differing)
	for op, count := range n.Succeeded {
		s.count(descOps, count, op, "success")
	}
	for op, count := range n.Failed {
		s.count(descOps, count, op, "fail")
	}
}

func (s sink) count(d *prometheus.Desc, n uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (s sink) level(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) flag(d *prometheus.Desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	s.level(d, v, labels...)
}
