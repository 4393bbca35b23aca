// Package systemd is what the receiver and its service manager tell each other: how it is doing, over the socket that
// NOTIFY_SOCKET names (sd_notify(3)); that it is alive, as often as WATCHDOG_USEC asks (sd_watchdog_enabled(3)); and the
// sockets that were opened for it (sd_listen_fds(3)). Without a service manager every call does nothing. It knows none
// of the other rooms. The units that make a service of the receiver lie beside it.
package systemd

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready tells that the doors are open: units that wait for this one may start. It also ends a reload.
func Ready(status string) error { return notify(daemon.SdNotifyReady, statusLine(status)) }

// Reloading tells that the configuration is read again. Ready must follow, whatever came of it. The time makes out which
// reload is meant; systemd wants it since 253 (Type=notify-reload of systemd.service(5)).
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Stopping tells that the receiver has begun to stop, so that the time it takes is not held against it.
func Stopping() error { return notify(daemon.SdNotifyStopping, statusLine("Stopping")) }

// Failing says that the start is over and that this process, which could not start, is about to
// end. Until it has ended, the service manager holds a start that is asked for back and then starts
// the service anew, with settings that were changed meanwhile. Otherwise that start would join the
// present one and share its failure.
func Failing(status string) error {
	// Two messages: STOPPING=1 wins where both are in one, and is ignored before READY=1.
	// sd_notify(3)
	return errors.Join(notify(daemon.SdNotifyReady), notify(daemon.SdNotifyStopping, statusLine(status)))
}

// Status tells how the receiver is doing, in a line for "systemctl status".
func Status(status string) error { return notify(statusLine(status)) }

// Alive tells that the receiver works. See [Watchdog].
func Alive() error { return notify(daemon.SdNotifyWatchdog) }

// Watchdog is how long the service manager waits for Alive before it ends the process; 0 if it does not.
func Watchdog() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }

// Managed tells whether a service manager listens to this process.
func Managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Sockets are those that the service manager opened for this process, each under its FileDescriptorName
// (systemd.socket(5)). They are the caller's. A process that this one starts does not take them for its own.
func Sockets() []*os.File { return activation.Files(true) }

// statusLine is one line whatever is in it: a newline would begin another assignment. Lines of a
// list are separated by semicolons.
func statusLine(status string) string {
	var line strings.Builder
	for part := range strings.Lines(status) {
		words := strings.Join(strings.Fields(part), " ")
		switch so := line.String(); {
		case so == "" || words == "":
		case strings.ContainsAny(so[len(so)-1:], ":;.,"):
			line.WriteString(" ")
		default:
			line.WriteString("; ")
		}
		line.WriteString(words)
	}
	return "STATUS=" + line.String()
}

func notify(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
