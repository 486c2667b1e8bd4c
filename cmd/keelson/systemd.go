package main

import (
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

// supervisor tells systemd how this process is, where it wants to know.
type supervisor struct{ log realnet.Log }

func newSupervisor(log realnet.Log) *supervisor { return &supervisor{log} }

// ready says that the process knows what it is.
func (s *supervisor) ready() { s.tell(sd.SdNotifyReady) }

func (s *supervisor) stopping() { s.tell(sd.SdNotifyStopping) }

func (s *supervisor) tell(state string) {
	go func() { // the socket may be full
		if _, err := sd.SdNotify(false, state); err != nil {
			s.log.Log(env.Warn, "systemd does not hear", "state", state, "error", err)
		}
	}()
}

// watch proves to systemd that the loop turns, if it asks for that.
func (s *supervisor) watch(loop *realnet.Loop) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	var beat func()
	beat = func() {
		s.tell(sd.SdNotifyWatchdog)
		loop.After(max(every/3, time.Millisecond), beat)
	}
	beat()
}
