package process

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// bootFile marks a boot of the machine that a directory's units make up.
const bootFile = "boot"

// Boot names the time since all units of a directory were last ended together: by
// Shutdown, PowerOff, a host that was told to stop, a boot of this machine, or the end of
// the container that this is. Neither the end of a daemon nor that of a host alone is one.
func Boot(dir string) (string, error) {
	mark, err := bootMark(filepath.Join(dir, hostDir, bootFile))
	if err != nil {
		return "", err
	}
	first, _ := readStat(1) // another in each container, all of which see the kernel's boot
	return fmt.Sprintf("%s-%x-%s", bootID(), first.began, mark), nil
}

// bootMark reads the mark, which is made if there is none.
func bootMark(path string) (string, error) {
	text, err := os.ReadFile(path)
	if mark := strings.TrimSpace(string(text)); err == nil && mark != "" {
		return mark, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	var p [8]byte
	rand.Read(p[:])
	mark := hex.EncodeToString(p[:])
	if err := os.WriteFile(path+".tmp", []byte(mark+"\n"), 0o600); err != nil {
		return "", err
	}
	return mark, os.Rename(path+".tmp", path)
}

// endBoot says that the units of a directory are about to end. It comes before their end:
// to start again what runs already does nothing, and what was ended must not be taken for
// what has ended by itself.
func endBoot(dir string) error {
	err := os.Remove(filepath.Join(dir, hostDir, bootFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
