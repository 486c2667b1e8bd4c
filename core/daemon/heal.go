package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
)

// healFile is the note of a member that is being rebuilt, or was lately.
const healFile = "healing"

// healNote is what must survive a crash in the middle of it.
type healNote struct {
	// Old is who this machine was, nil where nothing is under way.
	Old    *bootstrap.Identity `json:"old,omitempty"`
	Reason string              `json:"reason,omitempty"`
	// Diverged says that the state was wrong, and not the disk.
	Diverged bool `json:"diverged,omitempty"`
	// Count is how often the machine was rebuilt without going on well for a while.
	Count int `json:"count"`
}

const (
	// healsMax bounds how often a machine is rebuilt: one that goes wrong again and
	// again has bad memory or a bad disk.
	healsMax = 3
	// healedAfter is how long a rebuilt member must go on until it counts as well.
	healedAfter = time.Hour
)

// heals is what the daemon knows of it.
type heals struct {
	note healNote
	log  []string // files of the old member's log
}

func loadHeals(d env.Disk, files []string) (h heals, err error) {
	_, err = load(d, healFile, &h.note)
	for _, f := range files {
		if strings.HasPrefix(f, memberDir+"/") {
			h.log = append(h.log, f)
		}
	}
	return h, err
}

// healing says whether this machine is being rebuilt now.
func (d *Daemon) healing() bool { return d.heals.note.Old != nil }

// Rebuilding says why this machine is being rebuilt from the others, or "". Diverged
// says that its state was another than theirs, which no disk can be blamed for.
func (d *Daemon) Rebuilding() (reason string, diverged bool) {
	if !d.healing() {
		return "", false
	}
	return d.heals.note.Reason, d.heals.note.Diverged
}

// resumeHealing goes on where an earlier life stopped. False says that there is
// nothing to go on with.
func (d *Daemon) resumeHealing() bool {
	old := d.heals.note.Old
	switch {
	case old == nil:
		return false
	case d.id != nil && d.id.ID != old.ID && !d.id.Waiting: // it had come to its end
		d.heals.note.Old = nil
		return false
	}
	var prior *bootstrap.Identity
	if d.id != nil && d.id.Waiting {
		prior = d.id
	}
	d.id = old
	d.rebuild(prior)
	return true
}

// broken takes an error that ends the node. What the others can mend is mended.
func (d *Daemon) broken(err error) {
	if d.inert() {
		return
	}
	if n := d.node; n != nil && d.mendable(err) {
		d.source.detach()
		d.node = nil
		for _, f := range n.Abandon() {
			d.heals.log = append(d.heals.log, memberDir+"/"+f)
		}
		d.heal(err)
		return
	}
	d.die(err)
}

// mendable says whether the others can rebuild this member. A single member has
// nobody, and one that was rebuilt too often is better looked at.
func (d *Daemon) mendable(err error) bool {
	if d.id == nil || !node.MustBeRebuilt(err) || len(d.id.Members) < 2 {
		return false
	}
	if d.heals.note.Count >= healsMax {
		d.env.Log.Log(env.Error, "this member was rebuilt too often: its memory or disk is bad; replace the machine", "times", d.heals.note.Count)
		return false
	}
	return true
}

// openOrHeal opens the member that the disk holds, or has it rebuilt if its log is
// rotten.
func (d *Daemon) openOrHeal() error {
	err := d.open(d.env.Disk)
	if err != nil && d.mendable(err) {
		d.heal(err)
		return nil
	}
	return err
}

// heal begins to have this member rebuilt: first it is written down, so that what is
// on the disk is never used again.
func (d *Daemon) heal(err error) {
	d.env.Rare.Mark("daemon: member rebuilt from the others")
	d.env.Log.Log(env.Error, "this member must be rebuilt from the others", "id", d.id.ID, "reason", err)
	var diverged *node.DivergedError
	d.heals.note = healNote{Old: d.id, Reason: err.Error(), Diverged: errors.As(err, &diverged), Count: d.heals.note.Count + 1}
	d.noteHealing(func() { d.rebuild(nil) })
}

// noteHealing writes the note. A full disk is waited for.
func (d *Daemon) noteHealing(then func()) {
	d.env.Disk.Replace(healFile, encode(d.heals.note), func(err error) {
		switch {
		case d.inert():
		case errors.Is(err, env.ErrFull):
			d.env.Clock.After(fullPause, func() {
				if !d.inert() {
					d.noteHealing(then)
				}
			})
		case err != nil:
			d.die(fmt.Errorf("write %s: %w", healFile, err))
		default:
			then()
		}
	})
}

func (d *Daemon) rebuild(prior *bootstrap.Identity) {
	d.boot = bootstrap.Rebuild(d.cfg.Bootstrap.Name, d.heals.note.Old, prior, d.env, healer{host{d}}, d.clearLog)
}

// clearLog removes the old member's log, when the others have committed to do without.
func (d *Daemon) clearLog(then func()) {
	slices.Sort(d.heals.log)
	names := slices.Compact(d.heals.log)
	left := len(names)
	if left == 0 {
		then()
		return
	}
	for _, name := range names {
		d.env.Disk.Remove(name, func(err error) {
			switch {
			case d.inert():
				return
			case err != nil:
				d.die(fmt.Errorf("remove %s: %w", name, err))
				return
			}
			if left--; left == 0 {
				d.heals.log = nil
				then()
			}
		})
	}
}

// healer is the host of a rebuilding.
type healer struct{ host }

// Done ends it: the new identity is written before the note goes, so that a crash in
// between finds one or the other.
func (h healer) Done(o *bootstrap.Outcome, err error) {
	d := h.Daemon
	if d.inert() {
		return
	}
	if err != nil {
		d.die(err)
		return
	}
	d.keep(o.Identity, func() {
		d.id = o.Identity
		d.heals.note.Old = nil
		d.noteHealing(func() {
			d.env.Log.Log(env.Warn, "this machine goes on as a new member", "id", d.id.ID, "reason", d.heals.note.Reason)
			d.boot = nil
			if err := d.open(nothing{d.env.Disk}); err != nil {
				d.die(err)
			}
		})
	})
}

// recovered forgets former rebuildings once the member has gone on well for a while.
func (d *Daemon) recovered() {
	if d.heals.note.Count == 0 {
		return
	}
	n := d.node
	d.env.Clock.After(healedAfter, func() {
		if !d.inert() && d.node == n && !d.healing() {
			d.heals.note = healNote{}
			d.noteHealing(func() {})
		}
	})
}
