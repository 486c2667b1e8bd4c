package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func member() *cli.Command {
	return &cli.Command{
		Name:     "member",
		Usage:    "member add, remove and list subcommands",
		Commands: []*cli.Command{memberList(), memberAdd(), memberRemove(), memberUpdate()},
		Action:   noVerb,
	}
}

func memberList() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "enumerate existing cluster members",
		ArgsUsage: " ",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return plain(exitBadArgs, errors.New("No arguments accepted")) //nolint:staticcheck // the original's words
			}
			return withMembers(ctx, c, func(s *session) error {
				members, err := s.Members().List(ctx)
				if err != nil {
					return plain(exitBadArgs, err)
				}
				leader, err := s.Members().Leader(ctx)
				if err != nil {
					return plain(exitBadArgs, fmt.Errorf("Failed to get leader:  %w", err)) //nolint:staticcheck // the original's words
				}
				for _, m := range members {
					printMember(s, m, m.ID == leader.ID)
				}
				return nil
			})
		},
	}
}

// withMembers runs do on a connected session.
func withMembers(ctx context.Context, c *cli.Command, do func(s *session) error) error {
	s, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	return do(s)
}

// printMember prints a member without a name, which has not started, in its own
// way.
func printMember(s *session, m client.Member, leads bool) {
	peers := strings.Join(m.PeerURLs, ",")
	if m.Name == "" {
		fmt.Fprintf(s.t.Out, "%s[unstarted]: peerURLs=%s\n", m.ID, peers)
		return
	}
	fmt.Fprintf(s.t.Out, "%s: name=%s peerURLs=%s clientURLs=%s isLeader=%v\n",
		m.ID, m.Name, peers, strings.Join(m.ClientURLs, ","), leads)
}

func memberAdd() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add a new member to the etcd cluster",
		ArgsUsage: "<name> <peerURL>",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 2 {
				return plain(exitBadArgs, errors.New("Provide a name and a single member peerURL")) //nolint:staticcheck // the original's words
			}
			return withMembers(ctx, c, func(s *session) error {
				return addMember(ctx, s, c.Args().Get(0), c.Args().Get(1))
			})
		},
	}
}

// addMember adds a member and prints the settings it is to be started with.
func addMember(ctx context.Context, s *session, name, url string) error {
	added, err := s.Members().Add(ctx, url)
	if err != nil {
		return plain(exitBadArgs, err)
	}
	fmt.Fprintf(s.t.Out, "Added member named %s with ID %s to cluster\n", name, added.ID)
	members, err := s.Members().List(ctx)
	if err != nil {
		return plain(exitBadArgs, err)
	}
	var all []string
	for _, m := range members {
		if m.ID == added.ID {
			m.Name = name
		}
		for _, peer := range m.PeerURLs {
			all = append(all, m.Name+"="+peer)
		}
	}
	fmt.Fprintf(s.t.Out, "\nETCD_NAME=%q\nETCD_INITIAL_CLUSTER=%q\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", name, strings.Join(all, ","))
	return nil
}

func memberRemove() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove an existing member from the etcd cluster",
		ArgsUsage: "<memberID>",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 1 {
				return plain(exitBadArgs, errors.New("Provide a single member ID")) //nolint:staticcheck // the original's words
			}
			return withMembers(ctx, c, func(s *session) error {
				return removeMember(ctx, s, c.Args().First())
			})
		},
	}
}

const removeManual = "https://github.com/etcd-io/etcd/blob/master/Documentation/runtime-configuration.md#remove-a-member"

func removeMember(ctx context.Context, s *session, id string) error {
	members, err := s.Members().List(ctx)
	if err != nil {
		return plain(exitBadArgs, err)
	}
	found := false
	for _, m := range members {
		if m.ID == id {
			found = true
		}
		if m.Name == id {
			fmt.Fprintf(s.t.Err, "Found a member named %s; if this is correct, please use its ID, eg:\n\tetcdctl member remove %s\n", m.Name, m.ID)
			fmt.Fprintf(s.t.Err, "For more details, read the documentation at %s\n\n", removeManual)
		}
	}
	if !found {
		return plain(exitBadArgs, fmt.Errorf("Couldn't find a member in the cluster with an ID of %s.", id)) //nolint:staticcheck // the original's words
	}
	if err := s.Members().Remove(ctx, id); err != nil {
		return plain(exitBadArgs, fmt.Errorf("Received an error trying to remove member %s: %w", id, err)) //nolint:staticcheck // the original's words
	}
	fmt.Fprintf(s.t.Out, "Removed member %s from cluster\n", id)
	return nil
}

func memberUpdate() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "update an existing member in the etcd cluster",
		ArgsUsage: "<memberID> <peerURLs>",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 2 {
				return plain(exitBadArgs, errors.New("Provide an ID and a list of comma separated peerURL (0xabcd http://example.com,http://example1.com)")) //nolint:staticcheck // the original's words
			}
			return withMembers(ctx, c, func(s *session) error {
				id := c.Args().Get(0)
				if err := s.Members().Update(ctx, id, strings.Split(c.Args().Get(1), ",")...); err != nil {
					return plain(exitBadArgs, err)
				}
				fmt.Fprintf(s.t.Out, "Updated member with ID %s in cluster\n", id)
				return nil
			})
		},
	}
}
