package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/revive"
)

func restore() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "make the data directory of a member of a new cluster from a backup",
		ArgsUsage: "FILE",
		Description: "Run it once for every member, with the same FILE, --initial-cluster and token, and then\n" +
			"start the members with those flags and their data directories. The new cluster has an ID\n" +
			"of its own: members of the former one are refused by it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", Usage: "the directory to make; it must not exist, or be empty"},
			&cli.StringFlag{Name: "name", Value: "default", Usage: "name of this member"},
			&cli.StringFlag{Name: "initial-cluster", Usage: "all members of the new cluster, `name=url,name=url,…`"},
			&cli.StringFlag{Name: "initial-advertise-peer-urls", Usage: "this member's URLs for the others, comma-delimited"},
			&cli.StringFlag{Name: "initial-cluster-token", Value: "etcd-cluster", Usage: "tells clusters apart that are restored from one file with the same list"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			name, err := file(c)
			if err != nil {
				return err
			}
			conf, err := config(c)
			if err != nil {
				return err
			}
			f, err := files(ctx)
			if err != nil {
				return err
			}
			dir := c.String("data-dir")
			if have, _ := f.List(dir); len(have) > 0 {
				return occupied(dir)
			}
			in, err := f.Open(name)
			if err != nil {
				return about(name, err)
			}
			defer in.Close()
			made, err := revive.Restore(bufio.NewReaderSize(in, 1<<20), conf)
			if err != nil {
				return fmt.Errorf("restore %s: %w", name, err)
			}
			if err := f.Place(dir, list(made)); errors.Is(err, fs.ErrExist) {
				return occupied(dir)
			} else if err != nil {
				return fmt.Errorf("restore into %s: %w", dir, err)
			}
			_, err = fmt.Fprintf(tool.From(ctx).Out, "restored %s: %d keys at index %d as member %v of the new cluster %x\n",
				dir, made.Backup.Keys, made.Backup.Index, made.Identity.ID, made.Identity.Cluster)
			return err
		},
	}
}

// config is what the flags say about the cluster.
func config(c *cli.Command) (bootstrap.Config, error) {
	name := c.String("name")
	conf := bootstrap.Config{
		Name: name, InitialCluster: c.String("initial-cluster"), Token: c.String("initial-cluster-token"),
	}
	if c.String("data-dir") == "" {
		return conf, &tool.Exit{Status: exitUsage, Text: "keelson snapshot restore: --data-dir is required\n"}
	}
	if urls := c.String("initial-advertise-peer-urls"); urls != "" {
		conf.PeerURLs = strings.Split(urls, ",")
	}
	if len(conf.PeerURLs) > 0 || conf.InitialCluster == "" {
		if len(conf.PeerURLs) == 0 {
			conf.PeerURLs = []string{"http://localhost:2380"}
		}
		return conf, nil
	}
	// What the list says about this name is all there is to know.
	for pair := range strings.SplitSeq(conf.InitialCluster, ",") {
		if who, url, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && who == name {
			conf.PeerURLs = append(conf.PeerURLs, url)
		}
	}
	return conf, nil
}

func occupied(dir string) error {
	return fmt.Errorf("restore into %s: the directory is not empty: name another one, or move it away", dir)
}

func list(r *revive.Restored) (out []tool.File) {
	for _, f := range r.Files {
		out = append(out, tool.File{Name: f.Name, Content: f.Content})
	}
	return out
}
