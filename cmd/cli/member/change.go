package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// waitFlags are those of verbs whose work goes on after the answer.
func waitFlags() []cli.Flag {
	return flags(
		&cli.BoolFlag{Name: "wait", Usage: "wait until the new member votes"},
		&cli.DurationFlag{Name: "wait-max", Value: 10 * time.Minute, Usage: "how long to wait"},
	)
}

func add() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "make room for a new member",
		ArgsUsage: "NAME PEER-URL[,PEER-URL…]",
		Description: "The new member holds the data without a vote until it has caught up, so that the others are\n" +
			"not put at risk while it starts.",
		Flags: waitFlags(),
		Action: with(2, 2, func(ctx context.Context, s *session) error {
			name := s.c.Args().Get(0)
			if err := s.free(ctx, name); err != nil {
				return err
			}
			m, err := s.all.Members().Add(ctx, strings.Split(s.c.Args().Get(1), ",")...)
			if err != nil {
				return err
			}
			members, err := s.all.Members().List(ctx)
			if err != nil {
				return err
			}
			return s.added(ctx, m, func() {
				fmt.Fprintf(s.t.Out, "added member %s; start it with its own --data-dir and addresses to listen on, and\n\n  keelson serve --name %s --initial-cluster-state existing --initial-advertise-peer-urls %s \\\n    --initial-cluster %s\n",
					m.ID, name, strings.Join(m.PeerURLs, ","), initialCluster(members, m.ID, name))
			})
		}),
	}
}

// free refuses a name that could not be told from that of another in the list that
// the new member is started with.
func (s *session) free(ctx context.Context, name string) error {
	if name == "" || strings.ContainsAny(name, "=,") || strings.ContainsFunc(name, unprintable) {
		return usage(s.c, fmt.Sprintf("NAME %q: want one that is not empty, can be printed, and has no = and no comma", name))
	}
	members, err := s.all.Members().List(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Name == name {
			return fmt.Errorf("member %s is called %s: choose another name, or \"keelson member replace %s\"", m.ID, name, name)
		}
	}
	return nil
}

// unprintable says that a rune cannot be shown in a command line to be copied.
func unprintable(r rune) bool {
	return r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

// initialCluster is the list that a new member is started with. Others that have not
// started have no name yet.
func initialCluster(members []client.Member, added, name string) string {
	var all []string
	for _, m := range members {
		if m.ID == added {
			m.Name = name
		}
		m.Name = cmp.Or(m.Name, m.ID)
		for _, u := range m.PeerURLs {
			all = append(all, m.Name+"="+u)
		}
	}
	return strings.Join(all, ",")
}

func replace() *cli.Command {
	return &cli.Command{
		Name:      "replace",
		Usage:     "put a new machine, or a new disk, in the place of a member",
		ArgsUsage: "ID-or-NAME [PEER-URL[,PEER-URL…]]",
		Description: "The new member takes over the peer URLs of the old one unless others are given. The old one\n" +
			"leaves at the moment at which the new one has caught up; it may be down or gone already.",
		Flags: waitFlags(),
		Action: with(1, 2, func(ctx context.Context, s *session) error {
			old, err := s.find(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			var urls []string
			if s.c.NArg() > 1 {
				urls = strings.Split(s.c.Args().Get(1), ",")
			}
			m, err := s.all.Members().Replace(ctx, old.ID, urls...)
			if err != nil {
				return err
			}
			return s.added(ctx, m, func() {
				fmt.Fprintf(s.t.Out, "member %s takes the place of %s (%s)\n", m.ID, old.ID, dash(old.Name))
				fmt.Fprintf(s.t.Out, "on the machine %s: stop keelson if it runs, clear DATA-DIR and start it as before\n", strings.Join(m.PeerURLs, ","))
			})
		}),
	}
}

// added says what to do next and, if asked to, waits until it has been done.
func (s *session) added(ctx context.Context, m *client.Member, say func()) error {
	if !s.json {
		say()
	}
	if s.c.Bool("wait") {
		if err := s.wait(ctx, m.ID); err != nil {
			return err
		}
		if !s.json {
			fmt.Fprintf(s.t.Out, "member %s votes\n", m.ID)
		}
	}
	if s.json {
		return s.printJSON(m)
	}
	return nil
}

// waitEvery is how often the members are looked at.
const waitEvery = time.Second

// wait returns when the member votes, and the one it replaces has left.
func (s *session) wait(ctx context.Context, id string) error {
	said := ""
	for waited := time.Duration(0); waited < s.c.Duration("wait-max"); waited += waitEvery {
		done, state, err := s.look(ctx, id)
		if err != nil || done {
			return err
		}
		if state != "" && state != said {
			said = state
			fmt.Fprintf(s.t.Err, "%s: %s\n", id, state)
		}
		if err := s.all.Pause(ctx, waitEvery); err != nil {
			return err
		}
	}
	return &tool.Exit{Status: 1, Text: fmt.Sprintf("keelson member %s: %s does not vote after %v; it goes on by itself, see \"keelson member promote-status\"\n", s.c.Name, id, s.c.Duration("wait-max"))}
}

// look says whether a member votes, or what keeps it from that. A cluster that does not
// answer now is looked at again.
func (s *session) look(ctx context.Context, id string) (done bool, state string, err error) {
	all, err := s.all.Members().Following(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, "", err
		}
		return false, "no answer of the leader", nil
	}
	for _, f := range all {
		if f.ID == id {
			return f.Votes && f.Replaces == "", f.Waits, nil
		}
	}
	members, err := s.all.Members().List(ctx) // it may lead
	if err != nil {
		return false, "", nil //nolint:nilerr // looked at again
	}
	for _, m := range members {
		if m.ID == id {
			return !m.Learner, "", nil
		}
	}
	return false, "", errors.New(id + " was removed")
}

func remove() *cli.Command {
	return &cli.Command{
		Name:        "remove",
		Usage:       "take a member out of the cluster, for good",
		ArgsUsage:   "ID-or-NAME",
		Description: "Its process stops by itself. Refused if the rest could not go on without it.",
		Flags:       flags(),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			m, err := s.find(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			if err := s.all.Members().Remove(ctx, m.ID); err != nil {
				return err
			}
			if s.json {
				return s.printJSON(m)
			}
			_, err = fmt.Fprintf(s.t.Out, "removed member %s (%s); its data directory must be cleared before the machine is used again\n", m.ID, dash(m.Name))
			return err
		}),
	}
}

func update() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "change where a member is found by the others",
		ArgsUsage: "ID-or-NAME PEER-URL[,PEER-URL…]",
		Flags:     flags(),
		Action: with(2, 2, func(ctx context.Context, s *session) error {
			m, err := s.find(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			m.PeerURLs = strings.Split(s.c.Args().Get(1), ",")
			if err := s.all.Members().Update(ctx, m.ID, m.PeerURLs...); err != nil {
				return err
			}
			if s.json {
				return s.printJSON(m)
			}
			_, err = fmt.Fprintf(s.t.Out, "member %s (%s) is found at %s\n", m.ID, dash(m.Name), strings.Join(m.PeerURLs, ","))
			return err
		}),
	}
}
