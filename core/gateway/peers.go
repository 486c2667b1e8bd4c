package gateway

import (
	"slices"
	"strconv"
	"strings"
)

// peerMembersPath is the page that members, joiners and proxies read on a peer URL.
const peerMembersPath = "/members"

// parsePeer reads a request that came in where members talk. Nobody is asked who he is
// there but by certificates, so there is no more than members need: who belongs to the
// cluster, and a place for one that has to be made anew.
func parsePeer(req *Request, p string) (Operation, error) {
	sub, ok := below(p, peerMembersPath)
	switch {
	case ok && sub == "":
		return parsePage(req, page{kind: KindPeerMembers, methods: "GET"})
	case ok && req.Method == "POST" && strings.HasSuffix(sub, "/replace"):
		return parseRepair(req, sub)
	case p == "/version":
		return parsePage(req, page{kind: KindVersion, methods: "GET"})
	}
	return Operation{}, refuse(req.Method, 404, "404 page not found\n")
}

// parseRepair reads what a member asks for that has to be made anew: its own place,
// where it is.
func parseRepair(req *Request, sub string) (Operation, error) {
	if len(req.Body) > 0 {
		return Operation{}, &MemberRefusal{Status: 400, Message: "a member asks for a place at its own URLs: others are given on a client URL"}
	}
	op, err := parseMembersChange(req, sub)
	if err == nil {
		op.Change.Repair = true
	}
	return op, err
}

// peerMembersReply has the shape of the original, IDs as numbers. Besides, it says who
// has started and who does not vote.
func peerMembersReply(info *Info) *Reply {
	sorted := slices.Clone(info.Members)
	slices.SortStableFunc(sorted, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1 // IDs are unique
	})
	dst := []byte{'['}
	for i := range sorted {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendPeerMember(dst, &sorted[i])
	}
	r := jsonReply(200, append(dst, "]\n"...))
	r.Header = append(r.Header, Header{"X-Etcd-Cluster-Id", strconv.FormatUint(info.ClusterID, 16)})
	return r
}

func appendPeerMember(dst []byte, m *Member) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(m.ID), 10)
	dst = appendStrings(append(dst, `,"peerURLs":`...), m.PeerURLs)
	dst = appendString(append(dst, `,"name":`...), m.Name)
	dst = appendStrings(append(dst, `,"clientURLs":`...), m.ClientURLs)
	dst = strconv.AppendBool(append(dst, `,"started":`...), m.Started)
	if m.Learner {
		dst = append(dst, `,"learner":true`...)
	}
	return append(dst, '}')
}
