package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

// created is a unit that create has made or given new contents.
type created struct {
	name string
	hash string // of the contents
	// state is what it was put into.
	state unit.State
}

// create makes the units that the cluster does not know of local files or templates, one
// after the other, up to the first that fails. With --replace it gives new contents to
// those it knows: into state, so that what runs is not unloaded first.
func (c *call) create(ctx context.Context, targets []target, state unit.State) (made []created, err error) {
	for _, t := range targets {
		one, err := c.createOne(ctx, t, state)
		if err != nil {
			return nil, creating(err)
		}
		if one != nil {
			made = append(made, *one)
		}
	}
	return made, nil
}

// creating says that units could not be made.
func creating(err error) error {
	var exit *tool.Exit
	if errors.As(err, &exit) {
		return err
	}
	return refuse("Error creating units: %w", plain(err))
}

func (c *call) createOne(ctx context.Context, t target, state unit.State) (*created, error) {
	if t.none {
		return nil, unknownUnit(t.name)
	}
	if err := unit.CheckName(t.name); err != nil {
		return nil, err
	}
	known, err := c.cluster.Get(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("error retrieving Unit(%s) from Registry: %w", t.name, err)
	}
	if known == nil {
		return c.createNew(ctx, t)
	}
	f, from, template, err := c.local(t)
	switch {
	case err != nil && !c.yes("replace"):
		return nil, nil // what is stored counts
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("error Unit %s does not seem to be a template unit", t.name)
	case err != nil:
		return nil, err
	}
	same := f.Equal(known.File())
	if c.yes("replace") {
		return c.replace(ctx, known, f, same, state)
	}
	kind := "local unit file"
	if template {
		kind = "local template unit file"
	}
	if !same {
		c.warn("WARNING: Unit %s in registry differs from %s %s. Add --replace to override.", t.name, kind, from)
	}
	return nil, nil
}

func (c *call) replace(ctx context.Context, known *client.Unit, f *unit.File, same bool, state unit.State) (*created, error) {
	switch desired := unit.State(known.DesiredState); {
	case same:
		c.tell(event{Unit: known.Name, Event: "same"}, "Found same Unit(%s) in Registry, nothing to do", known.Name)
		return nil, nil
	case rank(desired) > rank(state):
		c.warn("Warning: can not replace Unit(%s) in state '%s', use the appropriate command", known.Name, desired)
		return nil, nil
	case desired == unit.Inactive:
		state = unit.Inactive // as if it were new
	}
	return c.put(ctx, known.Name, f, state)
}

// rank orders the states.
func rank(s unit.State) int {
	switch s {
	case unit.Loaded:
		return 1
	case unit.Launched:
		return 2
	}
	return 0
}

// createNew makes a unit from the local file, the template that the cluster knows, or the
// local file of the template.
func (c *call) createNew(ctx context.Context, t target) (*created, error) {
	f, _, template, err := c.local(t)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name := unit.Split(t.name)
	if name.IsInstance() && (err != nil || template) {
		known, err := c.cluster.Get(ctx, name.Template())
		if err != nil {
			return nil, fmt.Errorf("error retrieving Unit(%s) from Registry: %w", name.Template(), err)
		}
		if known != nil {
			return c.put(ctx, t.name, known.File(), unit.Inactive)
		}
	}
	switch {
	case err == nil:
		return c.put(ctx, t.name, f, unit.Inactive)
	case name.IsInstance():
		return nil, fmt.Errorf("unable to find template Unit(%s) in Registry or on filesystem", name.Template())
	}
	return nil, unknownUnit(t.name)
}

func unknownUnit(name string) error {
	return fmt.Errorf("unable to find Unit(%s) in Registry or on filesystem", name)
}

// local reads the file of a unit or, where an instance has none, of its template.
func (c *call) local(t target) (f *unit.File, from string, template bool, err error) {
	f, err = c.read(t.file)
	if name := unit.Split(t.name); errors.Is(err, fs.ErrNotExist) && name.IsInstance() {
		f, err = c.read(path.Join(path.Dir(t.file), name.Template()))
		return f, name.Template(), true, err
	}
	return f, t.file, false, err
}

// read reads a unit file. One that is no unit file is an error that names it.
func (c *call) read(name string) (*unit.File, error) {
	if c.ReadFile == nil {
		return nil, fs.ErrNotExist
	}
	text, err := c.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f, err := unit.Parse(string(text), lineMax)
	if err != nil {
		return nil, fmt.Errorf("failed getting Unit(%s) from file: %w", name, err)
	}
	return f, nil
}

// lineMax is the longest line that is sent; what a server takes it decides itself.
const lineMax = 1 << 20

func (c *call) put(ctx context.Context, name string, f *unit.File, state unit.State) (*created, error) {
	if err := unit.Validate(name, f); err != nil {
		return nil, err
	}
	for _, option := range f.Unknown() {
		c.warn("WARN Unit %s: unrecognized requirement in [%s] section: %q", name, unit.Section, option)
	}
	for _, doubt := range f.Doubts(name) {
		c.warn("WARN Unit %s: %s", name, doubt)
	}
	u := &client.Unit{Name: name, DesiredState: string(state), Options: client.UnitOptions(f)}
	if err := c.cluster.Put(ctx, u); err != nil {
		return nil, fmt.Errorf("failed creating unit %s: %w", name, err)
	}
	if state == unit.Inactive && !u.Global() {
		c.tell(event{Unit: name, Event: string(unit.Inactive)}, "Unit %s inactive", name)
	}
	return &created{name: name, hash: f.Hash().String(), state: state}, nil
}
