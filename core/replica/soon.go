package replica

// SnapshotSoon has a snapshot taken at the next chance, however short the log is.
func (r *Replica) SnapshotSoon() { r.images.bytes += max(r.cfg.SnapshotBytes, 2*r.images.size) }
