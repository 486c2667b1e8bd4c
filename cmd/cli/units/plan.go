package units

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "tell what would move if unit files were submitted and started",
		ArgsUsage: "FILE…",
		Description: "Nothing is changed. A unit that the cluster does not know is taken as started; one that it knows\n" +
			"keeps the state that is wanted of it. The exit status is 0 if nothing would change, 2 if\n" +
			"something would, and 1 for an error.",
		Flags: flags(),
		Action: with(1, -1, func(ctx context.Context, s *session) error {
			files, err := s.readFiles(s.c.Args().Slice())
			if err != nil {
				return err
			}
			p, err := s.plan(ctx, files)
			if err != nil {
				return err
			}
			if s.json {
				err = s.printJSON(p)
			} else {
				s.showPlan(ctx, p)
			}
			if err == nil && p.Changes {
				return &tool.Exit{Status: exitChanges}
			}
			return err
		}),
	}
}

// plan is what files would change.
type plan struct {
	Changes bool   `json:"changes"`
	Files   []file `json:"files"`
	client.Moves
}

// file is one unit of a plan.
type file struct {
	Unit   string `json:"unit"`
	Change string `json:"change"` // create, replace, same
	file   *unit.File
}

// readFiles reads unit files of this machine, each a unit of the file's name.
func (s *session) readFiles(names []string) (files []file, err error) {
	if s.t.ReadFile == nil {
		return nil, errors.New("files cannot be read here")
	}
	for _, name := range names {
		text, err := s.t.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := unit.Parse(string(text), lineMax)
		if err == nil {
			err = unit.Validate(path.Base(name), f)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, option := range f.Unknown() {
			fmt.Fprintf(s.t.Err, "keelson: %s: nobody knows the option %q of [%s]\n", name, option, unit.Section)
		}
		for _, doubt := range f.Doubts(path.Base(name)) {
			fmt.Fprintf(s.t.Err, "keelson: %s: %s\n", name, doubt)
		}
		files = append(files, file{Unit: path.Base(name), file: f})
	}
	return files, nil
}

// lineMax is the longest line that is read; what a server takes it decides itself.
const lineMax = 1 << 20

func (s *session) plan(ctx context.Context, files []file) (*plan, error) {
	p := &plan{Files: files}
	var wanted []client.Unit
	for i := range files {
		f := &files[i]
		known, err := s.units.Get(ctx, f.Unit)
		if err != nil {
			return nil, err
		}
		switch {
		case known == nil:
			f.Change = "create"
		case known.File().Equal(f.file):
			f.Change = "same"
		default:
			f.Change = "replace"
		}
		p.Changes = p.Changes || f.Change != "same"
		wanted = append(wanted, client.Unit{Name: f.Unit, Options: client.UnitOptions(f.file)})
	}
	moves, err := s.units.Plan(ctx, wanted)
	if err != nil {
		return nil, err
	}
	p.Moves = *moves
	p.Changes = p.Changes || len(moves.Moves) > 0
	return p, nil
}

func (s *session) showPlan(ctx context.Context, p *plan) {
	for _, f := range p.Files {
		if f.Change != "same" {
			s.say("%s: %s", f.Unit, f.Change)
		}
	}
	s.showMoves(ctx, &p.Moves)
	if !p.Changes {
		s.say("nothing would change")
	}
}

// named says which unit an error is about, where the server's words do not.
func named(name string, err error) error {
	var refused *client.UnitError
	if errors.As(err, &refused) {
		return &client.UnitError{Status: refused.Status, Message: name + ": " + refused.Message}
	}
	return fmt.Errorf("%s: %w", name, err)
}
