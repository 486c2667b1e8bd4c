package sim

import (
	"maps"
	"slices"
)

// Mark notes that something worth reaching has been reached: a test, a checker
// or the simulator itself saw it from outside the nodes.
func (w *World) Mark(name string) { w.rare.Mark(name) }

// removing says that files are on their way off the disk.
func (d *Disk) removing() bool {
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		for _, r := range d.files[name].requests {
			if r.verb == verbRemove {
				return true
			}
		}
	}
	return false
}
