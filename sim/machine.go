package sim

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Node is what runs on a machine. *node.Node is one.
type Node interface {
	Receive(from env.NodeID, frame []byte)
	Serve(req *gateway.Request, r gateway.Responder) (cancel func())
	Flush()
	Stop(done func())
}

// Factory starts a node, as a process start does. An error is an exit of the
// process. A node that must stop later calls m.Fatal.
type Factory func(m *Machine, e *env.Env) (Node, error)

// Machine is one computer: power, a process, clocks and a disk.
type Machine struct{}

// Exit tells how a node's process ended.
type Exit struct {
	At   time.Duration
	Why  string // "kill", "power", "stop", "start" or "fatal"
	Err  error  // of start and fatal
	Life int
}

// ID is the machine's name in the cluster.
func (m *Machine) ID() env.NodeID { panic("sim: not built") }

// Name is the machine's host name.
func (m *Machine) Name() string { panic("sim: not built") }

// World is where the machine stands.
func (m *Machine) World() *World { panic("sim: not built") }

// Node is the running node, or nil. Oracles look at it between turns.
func (m *Machine) Node() Node { panic("sim: not built") }

// Up says whether a node is running, paused or not.
func (m *Machine) Up() bool { panic("sim: not built") }

// Powered says whether the machine has power; its process may still be down.
func (m *Machine) Powered() bool { panic("sim: not built") }

// Paused says whether the process is stopped for now.
func (m *Machine) Paused() bool { panic("sim: not built") }

// Life counts the process starts, from 1.
func (m *Machine) Life() int { panic("sim: not built") }

// Exits lists how earlier lives ended, oldest first.
func (m *Machine) Exits() []Exit { panic("sim: not built") }

// PowerOn gives power and starts the process. On a machine with power it only
// starts the process, if that is down.
func (m *Machine) PowerOn() { panic("sim: not built") }

// PowerOff takes power away at once: memory is lost, and of the disk whatever
// was not durable is drawn to survive or not.
func (m *Machine) PowerOff() { panic("sim: not built") }

// Kill ends the process and leaves the machine on, as kill -9 does. What was
// written stays; connections are reset.
func (m *Machine) Kill() { panic("sim: not built") }

// Start starts the process on a machine that has power and none running.
func (m *Machine) Start() { panic("sim: not built") }

// Stop asks the node to end well, as SIGTERM does. The process ends when the
// node says so, or by Kill after the grace period.
func (m *Machine) Stop(grace time.Duration) { panic("sim: not built") }

// Pause stops the process for d, as SIGSTOP does; 0 is until Resume. The world
// goes on; at the end all due timers fire and all waiting input is delivered.
func (m *Machine) Pause(d time.Duration) { panic("sim: not built") }

// Suspend is Pause for the whole machine: its monotonic clock stands still too.
func (m *Machine) Suspend(d time.Duration) { panic("sim: not built") }

// Resume ends Pause or Suspend.
func (m *Machine) Resume() { panic("sim: not built") }

// SetSlow makes each turn cost that much virtual time of the node's only CPU.
func (m *Machine) SetSlow(cost time.Duration) { panic("sim: not built") }

// SetRestart has the process started again d after it ended by itself or by
// Kill, as a service manager does. Negative: never, which is the default.
func (m *Machine) SetRestart(d time.Duration) { panic("sim: not built") }

// Fatal ends the process after the current input, as a node asks for when it
// cannot go on.
func (m *Machine) Fatal(err error) { panic("sim: not built") }

// Clock gives the machine's clocks.
func (m *Machine) Clock() *Clock { panic("sim: not built") }

// Disk gives the machine's disk.
func (m *Machine) Disk() *Disk { panic("sim: not built") }

// URL is where clients reach the node: http://NAME:2379.
func (m *Machine) URL() string { panic("sim: not built") }
