package replica

import "fmt"

func (r *Replica) Debug() string {
	j := &r.journal
	return fmt.Sprintf("role %v term %d applied %d last %d ticks %d writes %d next{urgent %v entries %d resp %d} install %v full %v err %v snapping %v ready %v silent %d voter %v", r.role, r.term, r.applied, r.storage.last(), r.ticks, len(j.writes), j.next.urgent, len(j.next.entries), len(j.next.responses), j.install != nil, j.log.Full(), j.log.Err(), j.log.Snapshotting(), r.ready, r.silent, r.voter())
}
