package sim

// RareReport counts rare paths by name. Reports of several worlds add up.
type RareReport struct {
	Chances map[string]RareCount
	Marks   map[string]uint64
	Worlds  int
}

// RareCount counts one env.Rare.Chance.
type RareCount struct {
	Passed  uint64 // times that the code asked
	Fired   uint64 // times that it was told yes
	Enabled int    // worlds in which it could fire
}

// Add merges another report into this one.
func (r *RareReport) Add(o RareReport) { panic("sim: not built") }

// Never lists the chances that never fired, sorted.
func (r *RareReport) Never() []string { panic("sim: not built") }
