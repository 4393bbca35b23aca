// Package systemd tells the service manager how the receiver is doing, over the socket it names in
// NOTIFY_SOCKET (sd_notify(3)). Without a service manager every call does nothing. It knows none of
// the other rooms.
package systemd

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells that the doors are open: units that wait for this one may start. Call it once.
func Ready(status string) error {
	return notify(daemon.SdNotifyReady + "\nSTATUS=" + status)
}

// Stopping tells that the receiver has begun to stop, so that the time it takes is not held against it.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
