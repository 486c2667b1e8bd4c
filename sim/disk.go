package sim

import "time"

// DiskConfig says how fast and how large a disk is.
type DiskConfig struct {
	Latency   time.Duration // least time of a write
	Jitter    time.Duration // mean of an exponential tail on top
	Sync      time.Duration // least extra time of a durable write
	Bandwidth int           // bytes per second; 0: no limit
	Capacity  int           // bytes; 0: no limit
}

// DefaultDisk is a solid-state disk.
func DefaultDisk() DiskConfig { panic("sim: not built") }

// Disk is one machine's disk: the oracle's and the saboteur's side of it.
type Disk struct{}

// Config is how the disk behaves now.
func (d *Disk) Config() DiskConfig { panic("sim: not built") }

// Set changes how the disk behaves from the next request on.
func (d *Disk) Set(c DiskConfig) { panic("sim: not built") }

// SetCapacity sets the bytes that fit; 0 is no limit. Raising it lets writes
// succeed again.
func (d *Disk) SetCapacity(bytes int) { panic("sim: not built") }

// Used is the bytes of all files.
func (d *Disk) Used() int { panic("sim: not built") }

// Files lists the files that a process would see now, sorted.
func (d *Disk) Files() []string { panic("sim: not built") }

// Content is what a process would read from a file now, from the page cache.
func (d *Disk) Content(name string) []byte { panic("sim: not built") }

// Durable is what a file surely holds after a power loss now; false: perhaps nothing.
func (d *Disk) Durable(name string) ([]byte, bool) { panic("sim: not built") }

// Stall lets no write finish for t.
func (d *Disk) Stall(t time.Duration) { panic("sim: not built") }

// FailSync makes the next durable write fail. The pages are marked clean all the
// same: a later sync succeeds, reads see the new bytes as long as they stay in
// the cache, and some sectors never reach the disk.
func (d *Disk) FailSync() { panic("sim: not built") }

// SetReadOnly makes every write fail until it is lifted.
func (d *Disk) SetReadOnly(on bool) { panic("sim: not built") }

// Rot damages a byte range of a durable file where it lies: bits are flipped in
// one sector drawn from the seed. It reports the place, or false if the disk
// holds nothing that matches. An empty name is any file.
func (d *Disk) Rot(name string) (file string, offset int, ok bool) { panic("sim: not built") }

// RotAt flips bits of one byte of a file where it lies.
func (d *Disk) RotAt(name string, offset int) bool { panic("sim: not built") }

// Wipe removes all files, as a replaced disk does. The process must be down.
func (d *Disk) Wipe() { panic("sim: not built") }

// Image is a copy of a disk's durable content.
type Image struct{}

// Image copies what a process would read now.
func (d *Disk) Image() *Image { panic("sim: not built") }

// Restore puts an image back, durably. The process must be down.
func (d *Disk) Restore(i *Image) { panic("sim: not built") }

// SetSurvival fixes the chance that an unsynced write survives the next power
// losses, in [0,1]; negative draws it each time from 0, 0.5 and 1, which is the default.
func (d *Disk) SetSurvival(chance float64) { panic("sim: not built") }
