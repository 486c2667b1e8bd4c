package daemon

import (
	"bytes"
	"encoding/json"
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
	if err := format.Check("identity", max(id.Format, 1), 1, format.Identity); err != nil {
		return nil, fmt.Errorf("%s: %w", identityFile, err)
	}
	if id.ID == 0 {
		return nil, fmt.Errorf("%s: names no member", identityFile)
	}
	return id, nil
}

// load reads a file of JSON. False says that there is none.
func load(d env.Disk, name string, to any) (bool, error) {
	text, err := d.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), to); err != nil {
		return false, fmt.Errorf("%s cannot be read: %w: put it back, or clear the data directory and have the member replaced (keelson member replace)", name, err)
	}
	return true, nil
}

// encode is v as the content of a file.
func encode(v any) io.WriterTo {
	if id, ok := v.(*bootstrap.Identity); ok {
		own := *id
		own.Format = format.Identity
		v = &own
	}
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil { // strings and numbers always encode
		panic(err)
	}
	return bytes.NewReader(append(text, '\n'))
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
