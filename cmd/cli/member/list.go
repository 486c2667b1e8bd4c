package member

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func list() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "show all members, and who leads",
		Flags: flags(),
		Action: with(0, 0, func(ctx context.Context, s *session) error {
			members, err := s.all.Members().List(ctx)
			if err != nil {
				return err
			}
			leads := ""
			if leader, err := s.all.Members().Leader(ctx); err == nil {
				leads = leader.ID
			}
			if s.json {
				return s.printJSON(struct {
					Leader  string          `json:"leader"` // empty where there is none now
					Members []client.Member `json:"members"`
				}{leads, members})
			}
			w := tabwriter.NewWriter(s.t.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tROLE\tPEER URLS\tCLIENT URLS")
			for _, m := range members {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.ID, dash(m.Name), role(&m, leads), strings.Join(m.PeerURLs, ","), dash(strings.Join(m.ClientURLs, ",")))
			}
			return w.Flush()
		}),
	}
}

func role(m *client.Member, leads string) string {
	switch {
	case m.ID == leads:
		return "leader"
	case m.Learner && m.Name == "":
		return "not started"
	case m.Learner:
		return "catching up"
	default:
		return "member"
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func status() *cli.Command {
	return &cli.Command{
		Name:  "promote-status",
		Usage: "show how far each member is, and what keeps it from voting",
		Flags: flags(),
		Action: with(0, 0, func(ctx context.Context, s *session) error {
			all, err := s.all.Members().Following(ctx)
			if err != nil {
				return err
			}
			if s.json {
				return s.printJSON(all)
			}
			w := tabwriter.NewWriter(s.t.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tVOTES\tSTATE\tENTRIES BEHIND\tNOTE")
			for _, f := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", f.ID, dash(f.Name), map[bool]string{true: "yes", false: "no"}[f.Votes], f.State, f.Behind, dash(note(&f)))
			}
			return w.Flush()
		}),
	}
}

func note(f *client.Following) string {
	var notes []string
	if f.Replaces != "" {
		notes = append(notes, "takes the place of "+f.Replaces)
	}
	if f.Waits != "" {
		notes = append(notes, f.Waits)
	}
	return strings.Join(notes, "; ")
}
