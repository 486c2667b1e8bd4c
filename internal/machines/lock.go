package machines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BusyError says that a cluster runs already.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string { return fmt.Sprintf("a cluster runs in %s already", e.Dir) }

// lockFile is in every cluster's directory; who boots its machines holds it.
const lockFile = "lock"

// Lock makes the cluster directory dir and has it to itself until the file is closed
// or the process ends.
func Lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return flock(filepath.Join(dir, lockFile), unix.LOCK_EX|unix.LOCK_NB)
}

func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), how)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &BusyError{filepath.Dir(path)}
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// Sweep removes the clusters whose directories match the pattern and whose processes
// ended without doing it.
func Sweep(pattern string) error {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := Lock(dir)
		var busy *BusyError
		if errors.As(err, &busy) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, Remove(dir))
		lock.Close()
	}
	return errors.Join(errs...)
}
