package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/revive"
	"github.com/keelson/keelson/core/wal"
)

func backup() *cli.Command {
	return &cli.Command{
		Name:  "backup",
		Usage: "backup an etcd directory",
		Description: "Copies snapshot and log of a member under new node and cluster IDs. The copy is\n" +
			"started with --force-new-cluster.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "Path to the etcd data dir"},
			&cli.StringFlag{Name: "wal-dir", Usage: "Path to the etcd wal dir"},
			&cli.StringFlag{Name: "backup-dir", Usage: "Path to the backup dir"},
			&cli.StringFlag{Name: "backup-wal-dir", Usage: "Path to the backup wal dir"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			t := tool.From(ctx)
			if t.Files == nil || t.Random == nil {
				return badArgs(errors.New("backup is not possible here"))
			}
			from, to := c.String("data-dir"), c.String("backup-dir")
			switch {
			case from == "":
				return badArgs(errors.New("--data-dir is required"))
			case to == "":
				return badArgs(errors.New("--backup-dir is required"))
			}
			if err := copyMember(t, tool.DataDir{Files: t.Files, Dir: from, Wal: c.String("wal-dir")}, to, c.String("backup-wal-dir")); err != nil {
				return badArgs(fmt.Errorf("backup %s: %w", from, err))
			}
			return nil
		},
	}
}

// backupTries is how often a directory is read whose member writes to it meanwhile.
const backupTries = 5

// copyMember reads a member, which may be running, and makes its copy.
func copyMember(t *tool.Tool, src tool.DataDir, to, toWal string) error {
	member, cluster := env.NodeID(revive.Fresh(t.Random())), revive.Fresh(t.Random())
	files, err := revive.Copy(src, member, cluster)
	for try := 1; err != nil && try < backupTries && moved(err); try++ {
		files, err = revive.Copy(src, member, cluster)
	}
	if err != nil {
		return err
	}
	var here, apart []tool.File
	for _, f := range files {
		if dir, name := path.Split(f.Name); toWal != "" && tool.Segment(name) && dir != "" {
			apart = append(apart, tool.File{Name: name, Content: f.Content})
			continue
		}
		here = append(here, tool.File{Name: f.Name, Content: f.Content})
	}
	if len(apart) > 0 {
		if err := place(t, toWal, apart); err != nil {
			return err
		}
	}
	return place(t, to, here)
}

func place(t *tool.Tool, dir string, files []tool.File) error {
	if err := t.Files.Place(dir, files); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is not empty: name another directory, or move it away", dir)
	} else if err != nil {
		return err
	}
	return nil
}

// moved says whether an error may come from files that changed while they were read.
func moved(err error) bool {
	var rot *wal.RotError
	return errors.As(err, &rot) || errors.Is(err, fs.ErrNotExist)
}
