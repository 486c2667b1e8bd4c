// Package sim is a world in a box: machines, clocks, disks and links in virtual time, all from one seed.
//
// A World is one heap of events ordered by (time, number). Everything that
// happens is an event, every event is caused by another one, and every random
// choice comes from a stream that is split from the seed by its purpose, so that
// one more draw for the network does not shift the disks. The same seed and the
// same calls give the same run, bit for bit; Hash and Draws are what two runs
// are compared by.
//
// The package implements core/env for nodes (Machine), client.Doer for programs
// that talk to them (Proc), and lets a test do to the hardware what it likes:
// Machine for processes and power, Clock, Disk, Net.
//
// A world is used from one goroutine. Different worlds share nothing and may run
// side by side. A process that runs worlds calls Deterministic first.
package sim
