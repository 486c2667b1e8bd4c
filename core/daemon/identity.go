package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/gateway"
)

// loadIdentity gives nil where none was written.
func loadIdentity(d env.Disk) (*bootstrap.Identity, error) {
	id := &bootstrap.Identity{}
	found, err := load(d, identityFile, id)
	if err != nil || !found {
		return nil, err
	}
	if id.ID == 0 {
		return nil, fmt.Errorf("%s: names no member", identityFile)
	}
	return id, nil
}

// load reads a note. False says that there is none.
func load(d env.Disk, name string, to any) (bool, error) {
	text, err := d.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = bootstrap.OpenNote(text, to)
	var unknown *format.UnknownError
	if errors.As(err, &unknown) {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		return false, fmt.Errorf("%s cannot be read: %w: put it back, or clear the data directory and have the member replaced (keelson member replace)", name, err)
	}
	return true, nil
}

// encode is v as the content of a note.
func encode(v any) io.WriterTo {
	text, err := bootstrap.SealNote(v)
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return bytes.NewReader(text)
}

// errLogLost is the refusal of a member whose log is gone: with an empty one it
// could vote against what it has acknowledged.
func errLogLost(id *bootstrap.Identity) error {
	return fmt.Errorf("%s says that this is member %v, which has taken part in its cluster, but there is no log in %s: put the log back, or clear the data directory and have the member replaced",
		identityFile, id.ID, memberDir)
}

// fullPause is how long a write waits that found no room.
const fullPause = time.Second

// keep writes an identity down and goes on with then.
func (d *Daemon) keep(id *bootstrap.Identity, then func()) {
	d.writing = true
	d.env.Disk.Replace(identityFile, encode(id), func(err error) {
		d.writing = false
		switch {
		case d.inert():
		case errors.Is(err, env.ErrFull):
			d.env.Log.Log(env.Error, "the disk is full: trying again to write "+identityFile)
			d.env.Clock.After(fullPause, func() {
				if !d.inert() {
					d.keep(id, then)
				}
			})
		case err != nil:
			d.die(fmt.Errorf("write %s: %w", identityFile, err))
		default:
			then()
		}
	})
}

// located tells whether it is known of every member where it is.
func located(members []gateway.Member) bool {
	return len(members) > 0 && !slices.ContainsFunc(members, func(m gateway.Member) bool { return len(m.PeerURLs) == 0 })
}

// sameMembers compares what of members is worth writing down.
func sameMembers(a, b []gateway.Member) bool {
	return slices.EqualFunc(a, b, func(x, y gateway.Member) bool {
		return x.ID == y.ID && x.Name == y.Name && x.Learner == y.Learner && slices.Equal(x.PeerURLs, y.PeerURLs)
	})
}
