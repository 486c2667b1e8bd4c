package machines

import (
	"errors"
	"os"
	"os/exec"
)

// needs are the programs that machines are made and run with, and the Debian packages
// that have them.
var needs = []struct{ program, debian string }{
	{"systemd-nspawn", "systemd-container"},
	{"mmdebstrap", "mmdebstrap"},
	{"ip", "iproute2"},
	{"nsenter", "util-linux"},
}

// Check says why this host cannot have machines, with what to do about it; nil if it
// can, as far as one can see.
func Check() error {
	if os.Getuid() != 0 {
		return errors.New("machines with real systemd need root: run as root, or with sudo")
	}
	var errs []error
	for _, n := range needs {
		if _, err := exec.LookPath(n.program); err != nil {
			errs = append(errs, errors.New("no program "+n.program+": install the Debian package "+n.debian+" (make packages does)"))
		}
	}
	return errors.Join(errs...)
}
