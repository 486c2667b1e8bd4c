package main

import (
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

// systemd tells the supervisor how this process is, where there is one that wants to
// know.
type systemd struct{ log realnet.Log }

func newSystemd(log realnet.Log) *systemd { return &systemd{log} }

// ready says that the process knows what it is.
func (s *systemd) ready() { s.tell(sd.SdNotifyReady) }

func (s *systemd) stopping() { s.tell(sd.SdNotifyStopping) }

func (s *systemd) tell(state string) {
	go func() { // the socket may be full
		if _, err := sd.SdNotify(false, state); err != nil {
			s.log.Log(env.Warn, "systemd does not hear", "state", state, "error", err)
		}
	}()
}

// watch proves to systemd that the loop turns, if it asks for that.
func (s *systemd) watch(loop *realnet.Loop) {
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
