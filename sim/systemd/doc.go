// Package systemd is one machine's service manager as a model: unit files, jobs that take time, processes that end, and what goes wrong with them.
//
// A Manager outlives the node that talks to it: what it runs goes on when the node is
// killed, paused or ends, and is gone when the power is. How a unit behaves follows from
// its file, as with the original: /bin/true, /bin/false, /bin/sleep 5, a shell that
// loops, ExecStartPre= that hangs, Restart=, timeouts.
//
// What the model has of systemd is what a cluster's agent can notice of it: files count
// once the manager has read them, a job takes the place of another one, a unit whose
// file was removed goes on running, and a lost connection leaves outcomes unknown.
package systemd
