package env

import (
	"io"
	"strings"
)

// In gives the files of one directory of d as a Disk of their own.
func In(d Disk, directory string) Disk { return &inside{d, directory + "/"} }

type inside struct {
	disk   Disk
	prefix string
}

func (i *inside) Names() ([]string, error) {
	all, err := i.disk.Names()
	var names []string
	for _, name := range all {
		if rest, ok := strings.CutPrefix(name, i.prefix); ok {
			names = append(names, rest)
		}
	}
	return names, err
}

func (i *inside) Load(name string) ([]byte, error) { return i.disk.Load(i.prefix + name) }

func (i *inside) Append(name string, p []byte, done func(error)) {
	i.disk.Append(i.prefix+name, p, done)
}

func (i *inside) Replace(name string, content io.WriterTo, done func(error)) {
	i.disk.Replace(i.prefix+name, content, done)
}

func (i *inside) Remove(name string, done func(error)) { i.disk.Remove(i.prefix+name, done) }
