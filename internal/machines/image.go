package machines

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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
	lock, err := flock(dir+".lock", unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	fmt.Fprintf(progress, "making the root file system %s from Debian packages\n", dir)
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, part)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w: is a Debian mirror within reach?\n%s", err, out)
	}
	return dir, os.Rename(part, dir)
}
