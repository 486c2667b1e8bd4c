package gateway

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// What /version claims: the API level that this server keeps, as the original's
// version numbers, because clients branch on them.
const (
	apiServer  = "2.3.8"
	apiCluster = "2.3.0"
)

// page answers what needs nothing but the backend's info.
func (m *Mux) page(op *Operation) *Reply {
	info := m.b.Info()
	switch op.Kind {
	case KindMembersLeader:
		return leaderReply(info)
	case KindMembersOther:
		return membersReply(info, 404, message("Not found"))
	case KindMachines:
		return &Reply{Status: 200, Header: plainType(), Body: machines(info.Members)}
	case KindStatsStore:
		return jsonReply(200, m.appendStoreStats(nil, info))
	case KindStatsSelf:
		return jsonReply(200, appendSelfStats(nil, info, m.counted()))
	case KindStatsMembers:
		return m.followingReply(info)
	case KindStatsLeader:
		return leaderStats(info, m.counted())
	default:
		return jsonReply(200, m.version(info))
	}
}

func jsonReply(status int, body []byte) *Reply {
	return &Reply{Status: status, Header: []Header{{"Content-Type", "application/json"}}, Body: body}
}

func plainType() []Header { return []Header{{"Content-Type", "text/plain; charset=utf-8"}} }

func membersReply(info *Info, status int, body []byte) *Reply {
	r := jsonReply(status, body)
	r.Header = append(r.Header, Header{"X-Etcd-Cluster-Id", strconv.FormatUint(info.ClusterID, 16)})
	return r
}

// message is the body of an error outside the keys API.
func message(text string) []byte {
	return append(appendString([]byte(`{"message":`), text), '}')
}

// membersTimeoutMS bounds the wait for a leader, because those who ask wait a
// second. In milliseconds.
const membersTimeoutMS = 700

// members lists the members as the cluster knows them now, or, without a leader, as
// this member does.
func (m *Mux) members(kind Kind, c *call) {
	if m.b.Info().Leader == 0 {
		c.reply(m.membersNow(kind))
		return
	}
	m.b.ReadIndex(func(*store.Error) {
		if !c.over {
			c.reply(m.membersNow(kind))
		}
	})
}

// membersNow is the list as this member has it, in the shape for members or for clients.
func (m *Mux) membersNow(kind Kind) *Reply {
	info := m.b.Info()
	switch {
	case info.Removed:
		return removedReply(info)
	case kind == KindPeerMembers:
		return peerMembersReply(info)
	default:
		return membersReply(info, 200, appendMembers(nil, info.Members))
	}
}

func leaderReply(info *Info) *Reply {
	for i := range info.Members {
		if info.Leader != 0 && info.Members[i].ID == info.Leader {
			return membersReply(info, 200, append(appendMember(nil, &info.Members[i]), '\n'))
		}
	}
	return membersReply(info, 503, message("During election"))
}

func appendMembers(dst []byte, members []Member) []byte {
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1 // IDs are unique
	})
	dst = append(dst, `{"members":[`...)
	for i := range sorted {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendMember(dst, &sorted[i])
	}
	return append(dst, "]}\n"...)
}

func appendMember(dst []byte, m *Member) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendID(dst, m.ID)
	dst = append(dst, `,"name":`...)
	dst = appendString(dst, m.Name)
	dst = append(dst, `,"peerURLs":`...)
	dst = appendStrings(dst, m.PeerURLs)
	dst = append(dst, `,"clientURLs":`...)
	dst = appendStrings(dst, m.ClientURLs)
	if m.Learner {
		dst = append(dst, `,"isLearner":true`...)
	}
	return append(dst, '}')
}

func appendID(dst []byte, id env.NodeID) []byte {
	dst = append(dst, '"')
	return append(strconv.AppendUint(dst, uint64(id), 16), '"')
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

func machines(members []Member) []byte {
	var urls []string
	for _, m := range members {
		urls = append(urls, m.ClientURLs...)
	}
	slices.Sort(urls)
	return []byte(strings.Join(urls, ", "))
}

func (m *Mux) version(info *Info) []byte {
	cluster := apiCluster
	if info.Leader == 0 && info.RaftIndex == 0 {
		cluster = "not_decided"
	}
	b := append([]byte(`{"etcdserver":"`), apiServer+`","etcdcluster":"`+cluster+`"`...)
	if m.o.Version != "" {
		b = appendString(append(b, `,"keelson":`...), m.o.Version)
	}
	return append(b, '}')
}

// healthTimeoutMS bounds a health check, because those who ask wait about a
// second for it. In milliseconds.
const healthTimeoutMS = 750

// health is good when a linearizable read can be answered.
func (m *Mux) health(c *call) {
	if m.b.Info().Leader == 0 {
		c.reply(healthReply(false))
		return
	}
	m.b.ReadIndex(func(err *store.Error) { c.reply(healthReply(err == nil)) })
}

func healthReply(ok bool) *Reply {
	if ok {
		return &Reply{Status: 200, Header: plainType(), Body: []byte(`{"health":"true"}`)}
	}
	return refuse("GET", 503, `{"health":"false"}`+"\n").Reply
}

// appendStoreStats lists the counters in the order in which clients know them.
func (m *Mux) appendStoreStats(dst []byte, info *Info) []byte {
	c := &info.Store
	dst = append(dst, '{')
	for i, n := range []struct {
		name  string
		count uint64
	}{
		{"getsSuccess", m.gets.success},
		{"getsFail", m.gets.fail},
		{"setsSuccess", c.SetsSuccess},
		{"setsFail", c.SetsFail},
		{"deleteSuccess", c.DeleteSuccess},
		{"deleteFail", c.DeleteFail},
		{"updateSuccess", c.UpdateSuccess},
		{"updateFail", c.UpdateFail},
		{"createSuccess", c.CreateSuccess},
		{"createFail", c.CreateFail},
		{"compareAndSwapSuccess", c.CompareAndSwapSuccess},
		{"compareAndSwapFail", c.CompareAndSwapFail},
		{"compareAndDeleteSuccess", c.CompareAndDeleteSuccess},
		{"compareAndDeleteFail", c.CompareAndDeleteFail},
		{"expireCount", c.ExpireCount},
		{"watchers", info.Watchers},
	} {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, n.name), ':')
		dst = strconv.AppendUint(dst, n.count, 10)
	}
	return append(dst, '}')
}

func (m *Mux) counted() *Traffic {
	if c, ok := m.b.(Counter); ok {
		return c.Traffic()
	}
	return &Traffic{}
}

func appendSelfStats(dst []byte, info *Info, t *Traffic) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, info.Name)
	dst = append(dst, `,"id":`...)
	dst = appendID(dst, info.Self)
	dst = append(dst, `,"state":"`+info.Role.String()+`","startTime":`...)
	dst = appendWall(dst, info.Started)
	dst = append(dst, `,"leaderInfo":{"leader":`...)
	dst = appendID(dst, info.Leader)
	dst = append(dst, `,"uptime":"`+info.LeaderUptime.String()+`","startTime":`...)
	dst = appendWall(dst, info.LeaderSince)
	dst = append(dst, `},"recvAppendRequestCnt":`...)
	dst = appendFlow(dst, &t.Received, "recv")
	dst = append(dst, `,"sendAppendRequestCnt":`...)
	dst = appendFlow(dst, &t.Sent, "send")
	return append(dst, '}')
}

// appendFlow writes the count of f and, unless they are zero, its rates in
// messages and bytes per second.
func appendFlow(dst []byte, f *Flow, direction string) []byte {
	dst = strconv.AppendUint(dst, f.Messages, 10)
	if f.Span <= 0 || f.Recent == 0 {
		return dst
	}
	dst = append(dst, `,"`+direction+`PkgRate":`...)
	dst = appendRate(dst, f.Recent, f.Span)
	dst = append(dst, `,"`+direction+`BandwidthRate":`...)
	return appendRate(dst, f.RecentBytes, f.Span)
}

func appendRate(dst []byte, n uint64, span time.Duration) []byte {
	return strconv.AppendFloat(dst, float64(n)/span.Seconds(), 'f', 2, 64)
}

func appendWall(dst []byte, ns int64) []byte {
	dst = append(dst, '"')
	return append(time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano), '"')
}

func leaderStats(info *Info, t *Traffic) *Reply {
	if info.Role != Leader {
		return jsonReply(403, message("not current leader"))
	}
	b := appendID([]byte(`{"leader":`), info.Self)
	b = append(b, `,"followers":{`...)
	for i, p := range t.Followers {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendProgress(b, p)
	}
	return jsonReply(200, append(b, '}', '}'))
}

func appendProgress(dst []byte, p Progress) []byte {
	dst = append(appendID(dst, p.ID), `:{"latency":{"current":`...)
	dst = appendMilliseconds(dst, p.Current)
	dst = appendMilliseconds(append(dst, `,"average":`...), p.Average)
	dst = appendMilliseconds(append(dst, `,"standardDeviation":`...), p.Deviation)
	dst = appendMilliseconds(append(dst, `,"minimum":`...), p.Minimum)
	dst = appendMilliseconds(append(dst, `,"maximum":`...), p.Maximum)
	dst = strconv.AppendUint(append(dst, `},"counts":{"fail":`...), p.Failed, 10)
	dst = strconv.AppendUint(append(dst, `,"success":`...), p.Succeeded, 10)
	return append(dst, '}', '}')
}

// appendMilliseconds writes d with all its digits and no floating point.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	if d < 0 {
		d = 0
	}
	dst = strconv.AppendInt(dst, int64(d/time.Millisecond), 10)
	rest := int64(d % time.Millisecond)
	if rest == 0 {
		return dst
	}
	dst = strconv.AppendInt(append(dst, '.'), rest+int64(time.Millisecond), 10)
	dst = slices.Delete(dst, len(dst)-7, len(dst)-6) // the 1 that kept the zeros
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}
