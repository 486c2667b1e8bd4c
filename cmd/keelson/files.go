package main

import (
	"crypto/rand"
	"io"
	"os"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/realnet/files"
)

// machineFiles are the files of this machine.
type machineFiles struct{}

// Open implements tool.Files.
func (machineFiles) Open(name string) (io.ReadCloser, error) { return files.Open(name) }

// Create implements tool.Files.
func (machineFiles) Create(name string, content io.WriterTo) error {
	return files.Create(name, content)
}

// List implements tool.Files.
func (machineFiles) List(dir string) ([]string, error) { return files.List(dir) }

// Place implements tool.Files.
func (machineFiles) Place(dir string, list []tool.File) error {
	i := 0
	return files.Place(dir, func() (string, io.WriterTo, bool) {
		if i == len(list) {
			return "", nil, false
		}
		i++
		return list[i-1].Name, list[i-1].Content, true
	})
}

// randomBytes are bytes that nobody can guess.
func randomBytes() (p [8]byte) {
	rand.Read(p[:]) // never fails
	return p
}

// watched says whether somebody looks at f.
func watched(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
