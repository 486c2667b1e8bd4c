package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// livesKey is a hidden directory of the store: the life to which each place was
// granted that the cluster granted as a whole.
const livesKey = "/_etcd/lives"

// claims is what this process answers to members that begin with an empty log. The
// rule, and why it is safe, is in the comment of core/bootstrap.
type claims struct {
	admitted map[string]string // member to life
	durable  bool              // written in this life, and not only read
	writing  bool
	waiting  []func() // claims that came meanwhile
}

// admittedNote is what is written of it.
type admittedNote struct {
	Admitted map[string]string `json:"admitted"`
}

func loadAdmitted(d env.Disk) (map[string]string, error) {
	note := admittedNote{}
	if _, err := load(d, admittedFile, &note); err != nil {
		return nil, err
	}
	if note.Admitted == nil {
		note.Admitted = make(map[string]string)
	}
	return note.Admitted, nil
}

func isClaim(path string) bool {
	return strings.HasPrefix(path, "/members/") && strings.HasSuffix(path, "/claim")
}

// claim is one question: may this life have this member's place?
type claim struct {
	id      env.NodeID
	cluster uint64
	life    string
	join    bool // the cluster runs already
	over    bool
	r       gateway.Responder
}

// lifeMax bounds the text of a life.
const lifeMax = 64

func parseClaim(req *gateway.Request) (*claim, error) {
	c := &claim{}
	name := strings.TrimSuffix(strings.TrimPrefix(req.Path, "/members/"), "/claim")
	id, err := strconv.ParseUint(name, 16, 64)
	q, qerr := url.ParseQuery(req.Query)
	if err == nil {
		c.cluster, err = strconv.ParseUint(q.Get("cluster"), 16, 64)
	}
	c.id, c.life, c.join = env.NodeID(id), q.Get("life"), q.Get("join") == "true"
	switch {
	case err != nil || qerr != nil || id == 0:
		return nil, errors.New("want a member and a cluster, as hexadecimal numbers")
	case c.life == "" || len(c.life) > lifeMax:
		return nil, errors.New("want a life")
	case req.Method != "PUT":
		return nil, errors.New("want PUT")
	}
	return c, nil
}

func (c *claim) answer(status int, v any) {
	if !c.over {
		c.over = true
		c.r.Reply(jsonReply(status, v))
	}
}

func (c *claim) refuse(status int, format string, args ...any) {
	c.answer(status, map[string]string{"message": fmt.Sprintf(format, args...)})
}

func (c *claim) grant(sure bool) { c.answer(200, bootstrap.Grant{Sure: sure}) }

func (c *claim) taken() { c.refuse(409, "member %v has already been bootstrapped", c.id) }

func jsonReply(status int, v any) *gateway.Reply {
	body, err := json.Marshal(v)
	if err != nil { // strings and booleans always encode
		panic(err)
	}
	return &gateway.Reply{Status: status, Header: []gateway.Header{{Name: "Content-Type", Value: "application/json"}}, Body: append(body, '\n')}
}

// claim answers a member that begins with an empty log.
func (d *Daemon) claim(req *gateway.Request, r gateway.Responder) (cancel func()) {
	c, err := parseClaim(req)
	if err != nil {
		r.Reply(jsonReply(400, map[string]string{"message": err.Error()}))
		return func() {}
	}
	c.r = r
	mine := d.mine()
	switch {
	case d.inert():
		c.refuse(503, "this server is stopping")
	case mine != nil && mine.ID == c.id && mine.Life != c.life:
		c.taken() // somebody else at this member's place
	case d.healing():
		c.refuse(503, "this server is being rebuilt")
	case d.proxy != nil:
		c.refuse(412, "this server is a proxy")
	case d.node != nil:
		d.memberClaim(c)
	default:
		d.founderClaim(c)
	}
	return func() { c.over = true }
}

// mine is who this process is or is about to be, or nil.
func (d *Daemon) mine() *bootstrap.Identity {
	if d.id == nil && d.boot != nil {
		return d.boot.Founder()
	}
	return d.id
}

// mismatched refuses who is of another cluster.
func (c *claim) mismatched(cluster uint64) bool {
	if c.cluster == cluster {
		return false
	}
	c.refuse(412, "request cluster ID mismatch (got %x want %x)", c.cluster, cluster)
	return true
}

// founderClaim answers while this process itself is not a member yet.
func (d *Daemon) founderClaim(c *claim) {
	id := d.mine()
	switch {
	case id == nil || id.Join || c.join:
		c.refuse(503, "this server is not a member yet")
	case c.mismatched(id.Cluster):
	case !slices.ContainsFunc(id.Members, func(m gateway.Member) bool { return m.ID == c.id }):
		c.refuse(412, "member %v is not in the list of this server", c.id)
	default:
		d.admit(c)
	}
}

// memberClaim answers as a member: for the whole cluster if it has a leader, else
// for this member alone.
func (d *Daemon) memberClaim(c *claim) {
	switch life := d.claims.admitted[c.id.String()]; {
	case c.mismatched(d.id.Cluster):
	case life != "" && life != c.life, d.published(c.id):
		c.taken()
	case d.node.Info().Leader != 0:
		d.clusterClaim(c)
	case c.join:
		c.refuse(503, "the cluster has no leader now")
	case !d.listed(c.id): // it was removed, and what it had published with it
		c.refuse(404, "member %v is not in this cluster", c.id)
	default:
		if life := d.livesOf(c.id); life != "" && life != c.life {
			c.taken()
			return
		}
		d.admit(c)
	}
}

// published tells whether a member has said who it is, which none does before it has
// taken part.
func (d *Daemon) published(id env.NodeID) bool {
	return slices.ContainsFunc(d.node.Info().Members, func(m gateway.Member) bool { return m.ID == id && m.Started })
}

// livesOf is the life to which the cluster has granted a place, or "".
func (d *Daemon) livesOf(id env.NodeID) string {
	n, missing := d.node.View().Get(livesKey+"/"+id.String(), false)
	if missing != nil {
		return ""
	}
	return n.Value
}

// clusterClaim grants a place in the store, where it can be granted once.
func (d *Daemon) clusterClaim(c *claim) {
	d.node.ReadIndex(func(err *store.Error) {
		switch life := d.livesOf(c.id); {
		case c.over:
		case err != nil:
			c.refuse(503, "the cluster gives no answer now: %v", err)
		case !d.listed(c.id):
			c.refuse(404, "member %v is not in this cluster", c.id)
		case d.published(c.id), life != "" && life != c.life:
			c.taken()
		case life == c.life:
			c.grant(true)
		default:
			d.node.Propose(store.Command{Op: store.OpCreate, Key: livesKey + "/" + c.id.String(), Value: c.life}, func(res store.Result) {
				switch {
				case res.Err == nil:
					c.grant(true)
				default: // asked again, it finds what is there
					c.refuse(503, "the cluster gives no answer now: %v", res.Err)
				}
			})
		}
	})
}

// listed tells whether a member is one, as this node knows.
func (d *Daemon) listed(id env.NodeID) bool {
	s := d.node.Status()
	return slices.Contains(s.Voters, id) || slices.Contains(s.Learners, id)
}

// admit grants a place on this member's own disk, once.
func (d *Daemon) admit(c *claim) {
	name := c.id.String()
	if d.claims.writing {
		d.claims.waiting = append(d.claims.waiting, func() { d.admit(c) })
		return
	}
	switch life := d.claims.admitted[name]; {
	case c.over:
		return
	case life == c.life && d.claims.durable:
		c.grant(false)
		return
	case life != "" && life != c.life:
		c.taken()
		return
	}
	next := admittedNote{Admitted: maps.Clone(d.claims.admitted)}
	next.Admitted[name] = c.life
	d.claims.writing = true
	d.env.Disk.Replace(admittedFile, encode(next), func(err error) { d.admittedWritten(c, next, err) })
}

func (d *Daemon) admittedWritten(c *claim, next admittedNote, err error) {
	d.claims.writing = false
	switch {
	case d.inert():
		return
	case errors.Is(err, env.ErrFull):
		c.refuse(503, "the disk of this server is full")
	case err != nil:
		d.die(fmt.Errorf("write %s: %w", admittedFile, err))
		return
	default:
		d.claims.admitted, d.claims.durable = next.Admitted, true
		d.env.Log.Log(env.Info, "granted a member its place", "id", c.id, "life", c.life)
		c.grant(false)
	}
	waiting := d.claims.waiting
	d.claims.waiting = nil
	for _, again := range waiting {
		again()
	}
}
