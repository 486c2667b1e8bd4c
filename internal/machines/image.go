package machines

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// suite is the Debian release of the machines.
const suite = "bookworm"

// imagePackages are what a machine has besides Debian's essential packages.
var imagePackages = []string{
	"systemd", "systemd-sysv", "dbus", "iproute2", "procps", "curl", "less", "openssh-server", "openssh-client", "sudo",
}

// imageOptions are further words for mmdebstrap: leave out what nobody reads there, make
// the user of all guides, forget what each machine has of its own, and quieten what
// works at its own times.
var imageOptions = []string{
	"--variant=minbase", "--quiet",
	"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
	`--customize-hook=chroot "$1" groupadd --system fleet`,
	`--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --groups sudo,adm,systemd-journal,fleet core`,
	`--customize-hook=echo "core ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/core"`,
	`--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*_key* "$1/etc/machine-id" "$1/etc/hostname"`,
	`--customize-hook=chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer console-getty.service`,
	`--customize-hook=mkdir -p "$1/var/log/journal"`,
}

// Image gives the root file system that machines are laid over, and makes it below base
// if it is not there, which takes half a minute and the network. What is said meanwhile
// goes to progress. It must be called outside a jail.
func Image(ctx context.Context, base string, progress io.Writer) (string, error) {
	args := append(append([]string(nil), imageOptions...), "--include="+strings.Join(imagePackages, ","), suite)
	sum := sha256.Sum256([]byte(strings.Join(args, "\n")))
	dir := filepath.Join(base, "images", fmt.Sprintf("%s-%x", suite, sum[:4]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := flock(dir+lockEnd, unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Fprintf(progress, "making the root file system %s from Debian packages\n", dir)
	if err := discard(dir); err != nil {
		return "", err
	}
	if err := makeParts(ctx, dir, args); err != nil {
		return "", errors.Join(err, discard(dir))
	}
	return dir, os.Rename(dir+partEnd, dir)
}

// What lies beside an image: a lock, held by who makes it, and what there is of it.
const (
	lockEnd = ".lock"
	partEnd = ".part"
)

// makeParts makes the parts of an image, in a control group and with mounts of its own:
// what makes them, and what is mounted for it, would outlive this process otherwise.
func makeParts(ctx context.Context, dir string, args []string) error {
	g, err := groupOf(dir)
	if err != nil {
		return err
	}
	if err := g.make(); err != nil {
		return err
	}
	place, err := os.Open(g.path)
	if err != nil {
		return err
	}
	defer place.Close()
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, dir+partEnd)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, UseCgroupFD: true, CgroupFD: int(place.Fd())}
	cmd.Cancel = g.kill
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: is a Debian mirror within reach?\n%s", err, out)
	}
	return g.remove()
}

// discard ends what makes an image, and removes what there is of it.
func discard(dir string) error {
	g, err := groupOf(dir)
	if err != nil {
		return err
	}
	if err := g.remove(); err != nil {
		return err
	}
	return removeFiles(dir + partEnd)
}

// SweepImages removes the images below base that nobody is making any more and that are
// not whole, and reports whether there were any.
func SweepImages(base string) (found bool, err error) {
	parts, err := filepath.Glob(filepath.Join(base, "images", "*"+partEnd))
	for _, part := range parts {
		dir := strings.TrimSuffix(part, partEnd)
		lock, e := flock(dir+lockEnd, unix.LOCK_EX|unix.LOCK_NB)
		var busy *BusyError
		if errors.As(e, &busy) {
			continue
		}
		if e == nil {
			found = true
			e = discard(dir)
			lock.Close()
		}
		err = errors.Join(err, e)
	}
	return found, err
}
