package etcdctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// healthEvery is how often cluster-health --forever asks.
const healthEvery = 10 * time.Second

func clusterHealth() *cli.Command {
	return &cli.Command{
		Name:      "cluster-health",
		Usage:     "check the health of the etcd cluster",
		ArgsUsage: " ",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "forever", Aliases: []string{"f"}, Usage: "forever check the health every 10 second until CTRL+C"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			s, err := open(ctx, c)
			if err != nil {
				return err
			}
			defer s.close()
			if c.Root().Bool("debug") {
				fmt.Fprintf(s.t.Err, "Cluster-Endpoints: %s\n", strings.Join(s.Endpoints(), ", "))
			}
			for {
				err := s.health(ctx)
				if !c.Bool("forever") {
					return err
				}
				if s.Pause(ctx, healthEvery) != nil {
					return nil
				}
				fmt.Fprintln(s.t.Out)
			}
		},
	}
}

// health asks every member and prints what each said. The cluster is healthy when
// at least one member is, since a member says so only while a majority follows
// one leader.
func (s *session) health(ctx context.Context) error {
	members, err := s.Members().List(ctx)
	if err != nil {
		fmt.Fprintln(s.t.Out, "cluster may be unhealthy: failed to list members")
		return failed(exitServer, err)
	}
	healthy := false
	for _, m := range members {
		if s.memberHealth(ctx, m) {
			healthy = true
		}
	}
	if !healthy {
		fmt.Fprintln(s.t.Out, "cluster is unhealthy")
		return &tool.Exit{Status: exitUnhealthy}
	}
	fmt.Fprintln(s.t.Out, "cluster is healthy")
	return nil
}

// memberHealth takes the answer of the first address that gives one.
func (s *session) memberHealth(ctx context.Context, m client.Member) bool {
	out := s.t.Out
	if len(m.ClientURLs) == 0 {
		fmt.Fprintf(out, "member %s is unreachable: no available published client urls\n", m.ID)
		return false
	}
	for _, url := range m.ClientURLs {
		healthy, err := s.Members().Health(ctx, strings.TrimSuffix(url, "/"))
		switch {
		case err != nil:
			fmt.Fprintf(out, "failed to check the health of member %s on %s: Get %q: %v\n", m.ID, url, url+"/health", err)
			continue
		case healthy:
			fmt.Fprintf(out, "member %s is healthy: got healthy result from %s\n", m.ID, url)
		default:
			fmt.Fprintf(out, "member %s is unhealthy: got unhealthy result from %s\n", m.ID, url)
		}
		return healthy
	}
	fmt.Fprintf(out, "member %s is unreachable: %v are all unreachable\n", m.ID, m.ClientURLs)
	return false
}
