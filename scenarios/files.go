package scenarios

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/sim"
)

// files are what a command on a machine sees: the machine's data directory, NAME.etcd,
// which is its disk, and beside it files that all machines share.
type files struct {
	shared tool.Memory
	m      *sim.Machine // nil: a client, which has no disk
}

var _ tool.Files = files{}

func (r *runner) filesOf(m *sim.Machine) files { return files{r.shared, m} }

// inside gives the name on the disk of what lies in the data directory.
func (f files) inside(name string) (string, bool) {
	if f.m == nil {
		return "", false
	}
	rest, ok := strings.CutPrefix(path.Clean(name)+"/", f.m.Name()+".etcd/")
	return strings.TrimSuffix(rest, "/"), ok
}

// Open implements tool.Files.
func (f files) Open(name string) (io.ReadCloser, error) {
	if name == "/etc/machine-id" && f.m != nil {
		return io.NopCloser(strings.NewReader(f.m.Name() + "\n")), nil
	}
	inner, ok := f.inside(name)
	if !ok {
		return f.shared.Open(name)
	}
	p := f.m.Disk().Content(inner)
	if p == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

// Create implements tool.Files.
func (f files) Create(name string, content io.WriterTo) error {
	inner, ok := f.inside(name)
	if !ok {
		return f.shared.Create(name, content)
	}
	return f.put([]tool.File{{Name: inner, Content: content}})
}

// List implements tool.Files.
func (f files) List(dir string) ([]string, error) {
	inner, ok := f.inside(dir)
	if !ok {
		return f.shared.List(dir)
	}
	var names []string
	for _, name := range f.m.Disk().Files() {
		if inner == "" {
			names = append(names, name)
		} else if rest, ok := strings.CutPrefix(name, inner+"/"); ok {
			names = append(names, rest)
		}
	}
	if names == nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	}
	return names, nil
}

// Place implements tool.Files.
func (f files) Place(dir string, list []tool.File) error {
	inner, ok := f.inside(dir)
	if !ok {
		return f.shared.Place(dir, list)
	}
	if names, _ := f.List(dir); len(names) > 0 {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	var placed []tool.File
	for _, one := range list {
		placed = append(placed, tool.File{Name: path.Join(inner, one.Name), Content: one.Content})
	}
	return f.put(placed)
}

// put adds files to a disk, durably. No process may use it.
func (f files) put(list []tool.File) error {
	disk := f.m.Disk()
	if f.m.Up() {
		return &fs.PathError{Op: "open", Path: f.m.Name() + ".etcd", Err: errInUse}
	}
	image := disk.Image()
	for _, one := range list {
		var b bytes.Buffer
		if _, err := one.Content.WriteTo(&b); err != nil {
			return err
		}
		image.Put(one.Name, b.Bytes())
	}
	disk.Restore(image)
	return nil
}
