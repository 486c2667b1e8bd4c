package registry

import "maps"

// Effective is the metadata of a machine that count: the configured, overlaid by what was
// set at run time, where "" hides.
func (m *Machine) Effective() map[string]string {
	if len(m.Dynamic) == 0 {
		return m.Metadata
	}
	all := maps.Clone(m.Metadata)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, m.Dynamic)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}
