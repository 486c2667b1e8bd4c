package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
)

// A member whose cluster has lost its majority for good goes on alone. The log that it
// begins with is written beside the old one first, and last of all the identity to it:
// from then on every start finishes what was begun. Only when the new log and identity
// are in their places is the copy removed, and only then does the member take part.
//
//	forced/*  ▶  forced/identity  ▶  member/* exchanged  ▶  identity  ▶  forced/ removed

const (
	forcedDir  = "forced"
	forcedNote = forcedDir + "/" + identityFile
)

// forced is a new beginning on its way into place.
type forced struct {
	id    *bootstrap.Identity
	files map[string][]byte // of the new log, without a directory
	old   []string          // of the old log, with it
}

// resumeForcing goes on where an earlier life stopped. False says that there is nothing
// to go on with.
func (d *Daemon) resumeForcing(files []string) (bool, error) {
	id := &bootstrap.Identity{}
	found, err := load(d.env.Disk, forcedNote, id)
	if err != nil {
		return false, err
	}
	if !found { // never whole, or done with
		for _, name := range below(files, forcedDir) {
			d.env.Disk.Remove(name, nil)
		}
		return false, nil
	}
	f := &forced{id: id, files: make(map[string][]byte), old: below(files, memberDir)}
	for _, name := range below(files, forcedDir) {
		if name == forcedNote {
			continue
		}
		p, err := d.env.Disk.Load(name)
		if err != nil {
			return false, fmt.Errorf("load %s: %w", name, err)
		}
		f.files[strings.TrimPrefix(name, forcedDir+"/")] = p
	}
	d.env.Rare.Mark("daemon: forced new cluster finished after a crash")
	d.force(f)
	return true, nil
}

func below(files []string, directory string) (all []string) {
	for _, f := range files {
		if strings.HasPrefix(f, directory+"/") {
			all = append(all, f)
		}
	}
	return all
}

// beginForcing makes a new beginning of what this member has, if that is asked for. False
// says that it is not, or was done already.
func (d *Daemon) beginForcing(files []string) (bool, error) {
	switch {
	case !d.cfg.ForceNewCluster:
		return false, nil
	case d.id == nil || !d.id.Begun:
		return false, errors.New("--force-new-cluster: there is no data of a member here to go on with: give the data directory of one, or leave the flag out")
	case d.healing():
		return false, fmt.Errorf("--force-new-cluster: this member's data is bad, it was being rebuilt from the others: give the data directory of another: %s", d.heals.note.Reason)
	case d.id.Forced:
		d.env.Log.Log(env.Warn, "--force-new-cluster is ignored: it was done at an earlier start; leave it out from now on", "cluster", env.NodeID(d.id.Cluster))
		return false, nil
	}
	next := d.id.Alone(d.env.Clock.Wall().Unix())
	made, err := node.MakeAlone(env.In(d.env.Disk, memberDir), d.env.Rare,
		node.Name{Cluster: d.id.Cluster, ID: d.id.ID}, node.Name{Cluster: next.Cluster, ID: next.ID})
	if err != nil {
		return false, fmt.Errorf("--force-new-cluster: this member's log cannot be used, nothing was changed: give the data directory of another: %w", err)
	}
	d.warnOfLoss(next, made)
	d.force(&forced{id: next, files: made.Files, old: below(files, memberDir)})
	return true, nil
}

// warnOfLoss says what an operator must know.
func (d *Daemon) warnOfLoss(next *bootstrap.Identity, made *node.Alone) {
	var left []string
	for _, m := range d.id.Members {
		if m.ID != d.id.ID {
			left = append(left, m.Name+"="+m.ID.String())
		}
	}
	log := d.env.Log
	log.Log(env.Warn, "forcing a new cluster of this member alone", "cluster", env.NodeID(next.Cluster), "was", env.NodeID(d.id.Cluster), "left_behind", strings.Join(left, ","))
	log.Log(env.Warn, "what only the members left behind had acknowledged is lost: this log ends here", "index", made.Index, "term", made.Term)
	if made.Unsure > 0 {
		log.Log(env.Warn, "entries that were not known to be committed are kept: their clients may have been told that the outcome is unknown", "entries", made.Unsure)
	}
}

// force brings a new beginning into its place. Each step may be done again.
func (d *Daemon) force(f *forced) {
	var note bytes.Buffer
	if _, err := encode(f.id).WriteTo(&note); err != nil {
		d.die(err)
		return
	}
	d.writeAll(forcedDir, f.files, func() {
		d.write(forcedNote, note.Bytes(), func() {
			d.removeAll(f.old, func() {
				d.writeAll(memberDir, f.files, func() {
					d.keep(f.id, func() { d.forcedDone(f) })
				})
			})
		})
	})
}

// forcedDone removes the copy, the note first, and begins.
func (d *Daemon) forcedDone(f *forced) {
	d.removeAll([]string{forcedNote}, func() {
		var copies []string
		for _, name := range slices.Sorted(maps.Keys(f.files)) {
			copies = append(copies, forcedDir+"/"+name)
		}
		d.removeAll(copies, func() {
			d.id = f.id
			d.env.Log.Log(env.Warn, "this member is a cluster of its own now: add others anew, with empty data directories, and leave --force-new-cluster out from now on",
				"id", f.id.ID, "cluster", env.NodeID(f.id.Cluster))
			if err := d.open(written{d.env.Disk, f.files}); err != nil {
				d.die(err)
			}
		})
	})
}

// written is a disk whose member directory holds what was just written there: it is not
// read again after the start.
type written struct {
	env.Disk
	files map[string][]byte
}

func (w written) Names() (names []string, err error) {
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		names = append(names, memberDir+"/"+name)
	}
	return names, nil
}

func (w written) Load(name string) ([]byte, error) {
	if p, ok := w.files[strings.TrimPrefix(name, memberDir+"/")]; ok {
		return bytes.Clone(p), nil
	}
	return nil, &fs.PathError{Op: "load", Path: name, Err: fs.ErrNotExist}
}

// writeAll writes files into a directory and goes on when all are durable.
func (d *Daemon) writeAll(directory string, files map[string][]byte, then func()) {
	left := len(files)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		d.write(directory+"/"+name, files[name], func() {
			if left--; left == 0 {
				then()
			}
		})
	}
}

// write writes one file. A full disk is waited for.
func (d *Daemon) write(name string, p []byte, then func()) {
	d.env.Disk.Replace(name, bytes.NewReader(p), func(err error) {
		switch {
		case d.inert():
		case errors.Is(err, env.ErrFull):
			d.env.Log.Log(env.Error, "the disk is full: trying again to write "+name)
			d.env.Clock.After(fullPause, func() {
				if !d.inert() {
					d.write(name, p, then)
				}
			})
		case err != nil:
			d.die(fmt.Errorf("write %s: %w", name, err))
		default:
			then()
		}
	})
}

// removeAll removes files and goes on when all are gone for good.
func (d *Daemon) removeAll(names []string, then func()) {
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
				then()
			}
		})
	}
}
