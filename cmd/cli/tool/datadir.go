package tool

import (
	"path"
	"slices"
	"strings"
)

// DataDir is the data directory of a member, the log of which may lie apart.
type DataDir struct {
	Files Files
	Dir   string
	Wal   string // where the log is; empty: in Dir
}

// Segment says whether a name is that of a part of a log.
func Segment(name string) bool { return strings.HasPrefix(name, "wal-") }

// Names lists the files.
func (d DataDir) Names() ([]string, error) {
	names, err := d.Files.List(d.Dir)
	if err != nil || d.Wal == "" {
		return names, err
	}
	logs, err := d.Files.List(d.Wal)
	for _, name := range logs {
		if Segment(name) {
			names = append(names, "member/"+name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// Load reads one.
func (d DataDir) Load(name string) ([]byte, error) {
	dir, base := path.Split(name)
	if d.Wal == "" || dir != "member/" || !Segment(base) {
		return Load(d.Files, path.Join(d.Dir, name))
	}
	return Load(d.Files, path.Join(d.Wal, base))
}
