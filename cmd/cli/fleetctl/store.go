package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/registry"
	coreStore "github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// store is the cluster as its keys show it: what --driver=etcd talks to. The keys are
// those of the original, so it works on its clusters too.
type store struct {
	k    *client.Keys
	keys registry.Keys
}

func newStore(c *client.Client, prefix string) *store {
	return &store{c.Keys(), registry.Keys{Prefix: path.Clean("/" + prefix)}}
}

// children gives what lies below a key, by its name there; nothing where the key is
// missing.
func (s *store) children(ctx context.Context, key string) (map[string]*client.Node, error) {
	e, err := s.k.Get(ctx, key, client.GetOptions{Recursive: true, Sorted: true})
	if client.HasCode(err, coreStore.CodeKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return byName(e.Node), nil
}

func byName(n *client.Node) map[string]*client.Node {
	m := make(map[string]*client.Node, len(n.Nodes))
	for _, child := range n.Nodes {
		m[path.Base(child.Key)] = child
	}
	return m
}

// List implements cluster.
func (s *store) List(ctx context.Context, _ bool) (all []client.Unit, err error) {
	jobs, err := s.children(ctx, s.keys.Prefix+"/job")
	if err != nil {
		return nil, err
	}
	files, err := s.children(ctx, s.keys.Prefix+"/unit")
	if err != nil {
		return nil, err
	}
	states, err := s.States(ctx, client.StateFilter{})
	if err != nil {
		return nil, err
	}
	contents := func(h unit.Hash) (string, error) {
		n := files[h.String()]
		if n == nil {
			return "", nil
		}
		return n.Value, nil
	}
	for _, name := range sorted(jobs) {
		u, err := decodeJob(name, jobs[name], states, contents)
		if err != nil {
			return nil, err
		}
		if u != nil {
			all = append(all, u.Unit)
		}
	}
	return all, nil
}

// Get implements cluster.
func (s *store) Get(ctx context.Context, name string) (*client.Unit, error) {
	u, err := s.get(ctx, name)
	if u == nil || err != nil {
		return nil, err
	}
	return &u.Unit, nil
}

func (s *store) get(ctx context.Context, name string) (*stored, error) {
	e, err := s.k.Get(ctx, s.keys.Job(name), client.GetOptions{Recursive: true})
	if client.HasCode(err, coreStore.CodeKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	states, err := s.States(ctx, client.StateFilter{Name: name})
	if err != nil {
		return nil, err
	}
	return decodeJob(name, e.Node, states, func(h unit.Hash) (string, error) {
		e, err := s.k.Get(ctx, s.keys.Contents(h), client.GetOptions{})
		if client.HasCode(err, coreStore.CodeKeyNotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return e.Node.Value, nil
	})
}

// stored is a unit with what a later write compares.
type stored struct {
	client.Unit
	hash  unit.Hash
	index uint64 // of its object
}

// decodeJob reads what is stored of one unit; nil where it is only what another has left.
func decodeJob(name string, n *client.Node, states []client.UnitState, contents func(unit.Hash) (string, error)) (*stored, error) {
	keys := byName(n)
	object := keys["object"]
	if object == nil {
		return nil, nil
	}
	_, h, err := registry.DecodeObject(object.Value)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", object.Key, err)
	}
	u := &stored{Unit: client.Unit{Name: name, DesiredState: string(unit.Inactive)}, hash: h, index: object.ModifiedIndex}
	text, err := contents(h)
	if err != nil {
		return nil, err
	}
	if f := decodeContents(text); f != nil {
		u.Options = client.UnitOptions(f)
	}
	value := func(key string) string {
		if n := keys[key]; n != nil {
			return n.Value
		}
		return ""
	}
	if v := value("target-state"); v != "" {
		u.DesiredState = v
	}
	if !u.Global() {
		u.MachineID = value("target")
		u.CurrentState = string(current(&u.Unit, value("job-state"), states))
	}
	return u, nil
}

// decodeContents reads a stored file; nil where it is missing or cannot be read.
func decodeContents(text string) *unit.File {
	if text == "" {
		return nil
	}
	raw, err := registry.DecodeContents(text)
	if err != nil {
		return nil
	}
	f, err := unit.Parse(raw, lineMax)
	if err != nil {
		return nil
	}
	return f
}

// current derives the state of a unit that is not global.
func current(u *client.Unit, launcher string, states []client.UnitState) unit.State {
	there := slices.ContainsFunc(states, func(s client.UnitState) bool { return s.Name == u.Name && s.MachineID == u.MachineID })
	switch {
	case u.MachineID == "" || !there:
		return unit.Inactive
	case launcher == u.MachineID:
		return unit.Launched
	}
	return unit.Loaded
}

// States implements cluster. Those of machines that are gone count for nothing.
func (s *store) States(ctx context.Context, f client.StateFilter) (all []client.UnitState, err error) {
	alive, err := s.Machines(ctx, false)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, m := range alive {
		here[m.ID] = f.MachineID == "" || m.ID == f.MachineID
	}
	byUnit := map[string]map[string]*client.Node{}
	if f.Name != "" {
		if byUnit[f.Name], err = s.children(ctx, s.keys.States(f.Name)); err != nil {
			return nil, err
		}
	} else {
		dirs, err := s.children(ctx, s.keys.Prefix+"/states")
		if err != nil {
			return nil, err
		}
		for name, n := range dirs {
			byUnit[name] = byName(n)
		}
	}
	for _, name := range sorted(byUnit) {
		for _, machine := range sorted(byUnit[name]) {
			state, err := registry.DecodeState(name, machine, byUnit[name][machine].Value)
			if err != nil || !here[machine] {
				continue
			}
			all = append(all, client.UnitState{
				Name: name, MachineID: machine, Hash: state.Hash, LoadState: state.Load,
				ActiveState: state.Active, SubState: state.Sub, Result: state.Result,
			})
		}
	}
	return all, nil
}

// Machines implements cluster.
func (s *store) Machines(ctx context.Context, _ bool) (all []client.Machine, err error) {
	machines, err := s.children(ctx, s.keys.Prefix+"/machines")
	if err != nil {
		return nil, err
	}
	for _, id := range sorted(machines) {
		keys := byName(machines[id])
		if keys["object"] == nil {
			continue
		}
		m, err := registry.DecodeMachine(id, keys["object"].Value)
		if err != nil {
			continue
		}
		one := client.Machine{ID: id, PrimaryIP: m.PublicIP, Metadata: map[string]string{}, Host: m.Host, Version: m.Version}
		for k, v := range m.Metadata {
			one.Metadata[k] = v
		}
		if d := keys["metadata"]; d != nil {
			for k, n := range byName(d) {
				if one.Metadata[k] = n.Value; n.Value == "" {
					delete(one.Metadata, k)
				}
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// Put implements cluster, by the rules of the API.
func (s *store) Put(ctx context.Context, u *client.Unit) error {
	state := unit.State(u.DesiredState)
	if u.DesiredState == "" {
		state = unit.Inactive
	}
	if !state.Valid() {
		return fmt.Errorf("invalid desired state %q", u.DesiredState)
	}
	if state != unit.Inactive && unit.Split(u.Name).IsTemplate() {
		return fmt.Errorf("cannot activate template %q", u.Name)
	}
	known, err := s.get(ctx, u.Name)
	if err != nil {
		return err
	}
	f := u.File()
	switch {
	case known == nil && len(u.Options) == 0:
		return errors.New("unit does not exist and options field empty")
	case known != nil && (len(u.Options) == 0 || f.Hash() == known.hash):
		_, err := s.k.Set(ctx, s.keys.TargetState(u.Name), string(state), client.SetOptions{})
		return err
	}
	if err := unit.Validate(u.Name, f); err != nil {
		return err
	}
	return s.write(ctx, u.Name, f, state, known)
}

// write stores contents, then what is wanted, and the unit last, so that nobody sees one
// without the others.
func (s *store) write(ctx context.Context, name string, f *unit.File, state unit.State, known *stored) error {
	if _, err := s.k.Set(ctx, s.keys.Contents(f.Hash()), registry.EncodeContents(f.String()), client.SetOptions{}); err != nil {
		return err
	}
	if _, err := s.k.Set(ctx, s.keys.TargetState(name), string(state), client.SetOptions{}); err != nil {
		return err
	}
	object := registry.EncodeObject(name, f.Hash())
	var err error
	if known == nil {
		_, err = s.k.Create(ctx, s.keys.Object(name), object, client.SetOptions{})
	} else {
		_, err = s.k.CompareAndSwap(ctx, s.keys.Object(name), object, client.Condition{PrevIndex: known.index}, client.SetOptions{})
	}
	return err
}

// Delete implements cluster. What is left over the engine removes.
func (s *store) Delete(ctx context.Context, name string) error {
	if _, err := s.k.Delete(ctx, s.keys.Object(name), client.DeleteOptions{}); err != nil {
		return err
	}
	_, err := s.k.Delete(ctx, s.keys.TargetState(name), client.DeleteOptions{})
	if client.HasCode(err, coreStore.CodeKeyNotFound) {
		return nil
	}
	return err
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
