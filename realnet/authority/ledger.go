package authority

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// errUsed is the refusal of a token that comes again.
var errUsed = errors.New("token: was used already: make a new one with keelson ca token")

// spend notes durably that a token is used, and refuses one that was. The note is
// beside the authority's key, which is where tokens count, and under a lock, so
// that of two processes only one accepts it.
func spend(dir string, t *Token, now time.Time) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, usedFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // and the lock with it
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	used, live, err := readLedger(f, t, now)
	switch {
	case err != nil:
		return err
	case used:
		return errUsed
	case !live:
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(f, "\n%x %d\n", t.ID, t.Expires.Unix()); err != nil {
		return err
	}
	return f.Sync()
}

// readLedger tells whether t was used, and whether any line is still needed. A line
// that power loss cut off is of a token for which nothing was given.
func readLedger(r io.Reader, t *Token, now time.Time) (used, live bool, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var id []byte
		var expires int64
		if _, err := fmt.Sscanf(lines.Text(), "%x %d", &id, &expires); err != nil {
			continue
		}
		used = used || hex.EncodeToString(id) == hex.EncodeToString(t.ID[:])
		live = live || now.Unix() <= expires
	}
	return used, live, lines.Err()
}
