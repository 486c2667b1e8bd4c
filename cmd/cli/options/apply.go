package options

// apply hands on what other packages have a place for.
func (r *reading) apply() {}
