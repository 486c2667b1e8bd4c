package fleetapi

import (
	"fmt"
	"strings"

	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// put is a request to create a unit, replace its contents, or set its desired state.
type put struct {
	name    string
	options bool       // contents are given
	file    *unit.File // of them; nil where they cannot be
	bad     error      // why not
	desired unit.State // "" is not given
	tries   int
	created bool // the unit is there, only its desired state is left to be set
}

// triesMax is how often a write is begun again because others were faster.
const triesMax = 10

func (c *call) putUnit() {
	if err := checkContentType(c.req); err != nil {
		c.refuse(415, err.Error())
		return
	}
	p, err := parsePut(c.req, c.names[0], c.s.o.LineMax)
	if err != nil {
		c.refuseBy(err)
		return
	}
	c.fresh(func() { c.put(p) })
}

// putText is the body of such a request.
type putText struct {
	Name         string       `json:"name"`
	DesiredState string       `json:"desiredState"`
	Options      []optionText `json:"options"`
}

func parsePut(req *gateway.Request, name string, lineMax int) (*put, error) {
	var body putText
	if err := decodeBody(req, &body); err != nil {
		return nil, undecoded(err)
	}
	if body.Name != "" && body.Name != name {
		return nil, fmt.Errorf("name in URL %q differs from unit name in request body %q", name, body.Name)
	}
	if err := unit.CheckName(name); err != nil {
		return nil, err
	}
	p := &put{name: name, desired: unit.State(body.DesiredState), options: len(body.Options) > 0}
	p.file, p.bad = readOptions(name, body.Options, lineMax)
	return p, nil
}

// readOptions makes a unit file of options, and says what is wrong with it.
func readOptions(name string, list []optionText, lineMax int) (*unit.File, error) {
	var options []unit.Option
	for _, o := range list {
		options = append(options, unit.Option{Section: o.Section, Name: o.Name, Value: o.Value})
	}
	f, err := unit.FromOptions(options, lineMax)
	if err == nil {
		err = unit.Validate(name, f)
	}
	return f, err
}

// put looks at the unit as it is and does what that asks for.
func (c *call) put(p *put) {
	u := c.s.model.Unit(p.name)
	differs := u != nil && p.options && (p.file == nil || p.file.Hash() != u.Hash)
	switch {
	case p.created && u == nil:
		c.reply(201, nil) // and destroyed again by somebody else
	case u == nil && !p.options:
		c.refuse(409, "unit does not exist and options field empty")
	case (u == nil || differs && !p.created) && p.bad != nil:
		c.refuseBy(p.bad)
	case u != nil && !differs && !p.created && p.desired == "":
		c.refuse(409, "must provide DesiredState to update existing unit")
	case p.check() != nil:
		c.refuseBy(p.check())
	case u == nil:
		c.create(p)
	case differs && !p.created:
		c.replace(p, u)
	default:
		c.setState(p, u)
	}
}

// wanted is the desired state that is to be set.
func (p *put) wanted() unit.State {
	if p.desired == "" {
		return unit.Inactive
	}
	return p.desired
}

func (p *put) check() error {
	if !p.wanted().Valid() {
		return fmt.Errorf("invalid desired state %q: want %s, %s or %s", p.desired, unit.Inactive, unit.Loaded, unit.Launched)
	}
	if unit.Split(p.name).IsTemplate() && p.wanted() != unit.Inactive {
		return fmt.Errorf("cannot activate template %q", p.name)
	}
	return nil
}

// create makes a unit.
func (c *call) create(p *put) {
	c.propose(c.s.model.Create(p.name, p.file, p.wanted()), func(results []store.Result) { c.stored(p, results) })
}

// replace gives a unit other contents.
func (c *call) replace(p *put, u *registry.Unit) {
	c.propose(c.s.model.Replace(u, p.file, p.wanted()), func(results []store.Result) { c.stored(p, results) })
}

// stored goes on after create and replace, whose results are those of contents, object
// and desired state.
func (c *call) stored(p *put, results []store.Result) {
	contents, object, state := results[0], results[1], results[2]
	switch {
	case contents.Stale || object.Stale || object.Err != nil && lost(object.Err):
		c.again(p)
	case object.Err != nil:
		c.unknown("unit "+p.name, object.Err)
	case contents.Err != nil:
		c.unknown("contents of unit "+p.name, contents.Err)
	case state.Err == nil && !state.Stale:
		c.reply(201, nil)
	default:
		p.created = true
		c.again(p)
	}
}

// setState sets the desired state of the very unit u.
func (c *call) setState(p *put, u *registry.Unit) {
	status := 204
	if p.created {
		status = 201
	}
	if u.Desired == p.wanted() {
		c.reply(status, nil)
		return
	}
	c.propose([]store.Command{c.s.model.Desire(u, p.wanted())}, func(results []store.Result) {
		switch r := results[0]; {
		case r.Stale || r.Err != nil && lost(r.Err):
			c.again(p)
		case r.Err != nil:
			c.unknown("desired state of unit "+p.name, r.Err)
		default:
			c.reply(status, nil)
		}
	})
}

// again begins anew with what is true now.
func (c *call) again(p *put) {
	if p.tries++; p.tries >= triesMax {
		c.busy(p.name)
		return
	}
	c.fresh(func() { c.put(p) })
}

// lost says that a write did nothing because what it was judged by is no longer true.
func lost(e *store.Error) bool {
	switch e.Code {
	case store.CodeCompareFailed, store.CodeExists, store.CodeKeyNotFound:
		return true
	}
	return false
}

// propose has commands applied in their order, in one entry of the log wherever possible,
// and tells all their results.
func (c *call) propose(commands []store.Command, done func([]store.Result)) {
	results := make([]store.Result, len(commands))
	left := len(commands)
	for i, command := range commands {
		c.s.src.Propose(c.ticket.Stamp(command), func(r store.Result) {
			results[i] = r
			c.wrote = c.wrote || r.Err == nil && !r.Stale
			if left--; left == 0 && !c.over {
				done(results)
			}
		})
	}
}

// unknown answers where a write may or may not have been done, or could not be.
func (c *call) unknown(what string, e *store.Error) {
	switch {
	case strings.HasPrefix(e.Cause, gateway.CauseFull):
		c.refuse(503, what+": "+e.Cause, unsent)
	case e.Code == store.CodeRaftInternal || e.Code == store.CodeLeaderElection:
		c.refuse(500, what+": the outcome is unknown: "+e.Cause)
	default:
		c.refuse(500, what+": "+e.Error())
	}
}

func (c *call) deleteUnit() { c.destroy(1) }

// destroy removes the unit as it is; try counts from 1.
func (c *call) destroy(try int) {
	c.fresh(func() {
		u := c.known()
		if u == nil {
			return
		}
		c.propose(c.s.model.Destroy(u), func(results []store.Result) {
			switch object := results[0]; {
			case object.Err == nil && !object.Stale:
				c.done()
			case !object.Stale && !lost(object.Err):
				c.unknown("unit "+u.Name, object.Err)
			case try >= triesMax:
				c.busy(u.Name)
			default:
				c.destroy(try + 1)
			}
		})
	})
}

func (c *call) busy(name string) {
	c.refuse(503, "unit "+name+" is being changed by others: ask again")
}
