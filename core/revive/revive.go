// Package revive makes data directories of members that never ran: from a backup, or from the files of another member.
//
// What it makes belongs to a new cluster with an ID of its own, so that members of
// the former one can never mix with it: every frame between members carries the ID.
package revive

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/keelson/keelson/core/archive"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/wal"
)

// Names of files in a data directory.
const (
	identityFile = "identity"
	memberDir    = "member/"
)

// Restored is the data directory of one member of a new cluster.
type Restored struct {
	Identity *bootstrap.Identity
	Backup   *archive.Summary
	Files    []wal.File // by name, with slashes
}

// Restore makes the data directory of the member that cfg names from a backup. Every
// member of the cluster must be made from the same backup with the same list and
// token: member and cluster IDs are a function of the three, so members made from
// different backups never meet.
func Restore(backup io.Reader, cfg bootstrap.Config) (*Restored, error) {
	sum, s, err := archive.Read(backup)
	if err != nil {
		return nil, err
	}
	cfg.Token += "/" + sum.SumText()
	id, err := cfg.Founded()
	if err != nil {
		return nil, err
	}
	id.Life = "restored " + hex.EncodeToString(sum.Sum[:8])
	s.Adopt()
	var voters []env.NodeID
	for _, m := range id.Members {
		voters = append(voters, m.ID)
	}
	files, err := directory(id, wal.Files(id.Cluster, id.ID, replica.Founding(voters), body{s.View()}, wal.Record{}))
	return &Restored{id, sum, files}, err
}

// body is the state of a store as content of a snapshot.
type body struct{ view *store.View }

// WriteTo encodes the state.
func (b body) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, b.view.NewReader()) }

// directory puts the files of a log into a data directory.
func directory(id *bootstrap.Identity, log []wal.File) ([]wal.File, error) {
	text, err := bootstrap.SealNote(id)
	if err != nil {
		return nil, err
	}
	files := []wal.File{{Name: identityFile, Content: content(text)}}
	for _, f := range log {
		files = append(files, wal.File{Name: memberDir + f.Name, Content: f.Content})
	}
	return files, nil
}

// content is bytes as the content of a file.
type content []byte

// WriteTo writes the bytes; it may be called again.
func (c content) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c)
	return int64(n), err
}

// Source is a data directory that is read and left as it is.
type Source interface {
	// Names lists the files, sorted, with slashes.
	Names() ([]string, error)
	Load(name string) ([]byte, error)
}

// Copy gives the files of a data directory under new IDs for member and cluster. The
// log still says that the former members vote: the copy must be started with
// --force-new-cluster.
func Copy(src Source, member env.NodeID, cluster uint64) ([]wal.File, error) {
	old, err := Identity(src)
	if err != nil {
		return nil, err
	}
	rec, err := wal.Peek(Log(src), wal.Identity{Cluster: old.Cluster, Node: old.ID})
	if err != nil {
		return nil, err
	}
	if rec.Snapshot == nil {
		return nil, errors.New("the log has no beginning yet: nothing was ever written to this member")
	}
	fresh := &bootstrap.Identity{ID: member, Cluster: cluster, Begun: true, Life: fmt.Sprintf("copied %x", cluster)}
	self := gateway.Member{ID: member}
	for _, m := range old.Members {
		if m.ID == old.ID {
			self.Name, self.PeerURLs, self.ClientURLs = m.Name, m.PeerURLs, m.ClientURLs
		}
	}
	fresh.Members = []gateway.Member{self}
	log := wal.Files(cluster, member, *rec.Snapshot, content(rec.Body), wal.Record{HardState: rec.HardState, Entries: rec.Entries})
	return directory(fresh, log)
}

// Log gives the files of the log of a data directory.
func Log(src Source) Source { return inside{src} }

type inside struct{ Source }

// Names lists the files of the log.
func (i inside) Names() ([]string, error) {
	all, err := i.Source.Names()
	var names []string
	for _, name := range all {
		if rest, ok := strings.CutPrefix(name, memberDir); ok {
			names = append(names, rest)
		}
	}
	return names, err
}

// Load reads a file of the log.
func (i inside) Load(name string) ([]byte, error) { return i.Source.Load(memberDir + name) }

// Identity reads whose a data directory is.
func Identity(src Source) (*bootstrap.Identity, error) {
	text, err := src.Load(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %q: this is not the data directory of a member", identityFile)
	}
	if err != nil {
		return nil, err
	}
	id := &bootstrap.Identity{}
	if err := bootstrap.OpenNote(text, id); err != nil {
		return nil, fmt.Errorf("%s: %w", identityFile, err)
	}
	return id, nil
}

// Fresh draws an ID that is not zero from eight random bytes.
func Fresh(random [8]byte) uint64 { return binary.LittleEndian.Uint64(random[:]) | 1 }
