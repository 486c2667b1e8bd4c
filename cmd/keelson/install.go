package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"
)

// unitFiles are those with which systemd runs the daemon.
//
//go:embed systemd
var unitFiles embed.FS

// installed says where each of them is linked so that it starts with the machine.
var installed = []struct{ name, wants string }{
	{"keelson.service", "multi-user.target.wants"},
	{"fleet.socket", "sockets.target.wants"},
}

// links are the names by which the program is an original tool.
var links = []string{"etcdctl", "fleetctl", "fleetd", "locksmithctl"}

// Where things go below the root.
const (
	binaryPath = "usr/bin/keelson"
	unitsPath  = "etc/systemd/system"
)

func installCommand() *cli.Command {
	return &cli.Command{
		Name:  "install",
		Usage: "have systemd run this program, from the next boot on",
		Description: "Copies the program to /usr/bin/keelson, writes hardened unit files to /etc/systemd/system and enables them.\n" +
			"Nothing is started. What the daemon is told goes to /etc/keelson/environment, as NAME=VALUE lines.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Value: "/", Usage: "the root of the file system to install to", Local: true},
			&cli.BoolFlag{Name: "links", Usage: "also make the links etcdctl, fleetctl, fleetd and locksmithctl, where nothing of that name is", Local: true},
			&cli.BoolFlag{Name: "print", Usage: "print the unit files and do nothing", Local: true},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return &usageError{fmt.Errorf("install: unexpected %q", c.Args().First())}
			}
			if c.Bool("print") {
				return printUnits(c.Root().Writer)
			}
			if err := install(c.String("root"), c.Bool("links")); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			_, err := fmt.Fprintln(c.Root().Writer, "installed; start it with: systemctl daemon-reload && systemctl start keelson")
			return err
		},
	}
}

func printUnits(out io.Writer) error {
	for i, f := range installed {
		text, err := unitFiles.ReadFile("systemd/" + f.name)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		if _, err := fmt.Fprintf(out, "# %s\n%s", f.name, text); err != nil {
			return err
		}
	}
	return nil
}

// install puts the program and its unit files below root.
func install(root string, withLinks bool) error {
	if err := installBinary(filepath.Join(root, binaryPath)); err != nil {
		return err
	}
	for _, f := range installed {
		text, err := unitFiles.ReadFile("systemd/" + f.name)
		if err != nil {
			return err
		}
		path := filepath.Join(root, unitsPath, f.name)
		if err := replaceFile(path, text, 0o644); err != nil {
			return err
		}
		link := filepath.Join(root, unitsPath, f.wants, f.name)
		if err := linkTo("../"+f.name, link); err != nil {
			return err
		}
	}
	if !withLinks {
		return nil
	}
	for _, name := range links {
		if err := linkTo("keelson", filepath.Join(root, filepath.Dir(binaryPath), name)); err != nil {
			return err
		}
	}
	return nil
}

// installBinary copies this program, unless it is there already.
func installBinary(path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	from, err := os.Stat(self)
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err == nil && os.SameFile(from, there) {
		return nil
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return replaceFile(path, text, 0o755)
}

// replaceFile puts a file in place of another, wholly or not at all: a program that runs
// is not disturbed.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	err := os.WriteFile(tmp, text, mode)
	if err == nil {
		err = os.Chmod(tmp, mode)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// linkTo makes a link. What is there already stays.
func linkTo(target, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(target, path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
