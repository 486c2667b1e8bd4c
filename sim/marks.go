package sim

// Mark notes that something worth reaching has been reached: a test, a checker
// or the simulator itself saw it from outside the nodes.
func (w *World) Mark(name string) { w.rare.Mark(name) }

// removing says that files are on their way off the disk.
func (d *Disk) removing() bool {
	//lint:commutative any of them
	for _, f := range d.files {
		for _, r := range f.requests {
			if r.verb == verbRemove {
				return true
			}
		}
	}
	return false
}
