package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What the original's peer handler gives, and what a founder that asks needs besides.
func TestPeersSeeWhoHasStarted(t *testing.T) {
	s := newServer(Options{})
	s.info.Members[0].Started = true
	s.info.Members[1].Learner = true
	req := request("GET /members")
	req.Peer = true
	r := newReader()
	s.Serve(req, r)
	assert.Equal(t, 200, r.reply.Status)
	assert.Equal(t, "7e27652122e8b2ae", r.reply.header("X-Etcd-Cluster-Id"))
	assert.JSONEq(t, `[
		{"id":65535,"peerURLs":["http://10.0.0.3:2380"],"name":"rc","clientURLs":["http://10.0.0.3:4001","http://10.0.0.3:2379"],"started":false},
		{"id":2657891847502279730,"peerURLs":["http://10.0.0.2:2380"],"name":"","clientURLs":[],"started":false,"learner":true},
		{"id":12428976124636271536,"peerURLs":["http://127.0.0.1:2380"],"name":"ra","clientURLs":["http://127.0.0.1:2379"],"started":true}
	]`, string(r.reply.Body))
}

func TestPeersGetWhatThisMemberKnowsWithoutALeader(t *testing.T) {
	s := newServer(Options{})
	s.held = true
	req := request("GET /members")
	req.Peer = true
	r := newReader()
	s.Serve(req, r)
	assert.Nil(t, r.reply, "asked the leader first")
	s.alarms[0]()
	assert.Equal(t, 200, r.reply.Status)

	s.info.Leader = 0
	r = newReader()
	s.Serve(req, r)
	assert.Equal(t, 200, r.reply.Status)
}

func TestClientsDoNotSeeThePeersPage(t *testing.T) {
	s := newServer(Options{})
	assert.Equal(t, 404, s.do("GET /members").Status)
}
