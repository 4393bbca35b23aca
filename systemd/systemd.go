// Package systemd connects the receiver to its service manager: it sends notifications over
// NOTIFY_SOCKET (sd_notify(3)), feeds the watchdog of WATCHDOG_USEC (sd_watchdog_enabled(3)), takes
// over the sockets that were opened for the process (sd_listen_fds(3)) and writes log lines for the
// journal. Without a service manager these calls do nothing. For commands it asks systemctl for the
// states of units, and starts and stops them. The package imports no other package
// of the program.
//
// The units of the service and the files of the Debian package lie in the same directory.
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

// Ready reports that the listeners are open: units that wait for this one may start. It also ends a
// reload.
func Ready(status string) error { return notify(daemon.SdNotifyReady, statusLine(status)) }

// Reloading reports that the configuration is being reloaded. The caller must call Ready
// afterwards, even if the reload fails. The timestamp identifies the reload, as systemd 253 and
// later require (Type=notify-reload of systemd.service(5)).
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Stopping reports that the receiver is shutting down.
func Stopping() error { return notify(daemon.SdNotifyStopping, statusLine("Stopping")) }

// Failing reports that the start has failed and that the process is about to exit. It ends the
// start job first. Otherwise a "systemctl restart" with corrected settings would be merged into the
// job that is about to fail, and would fail with it.
func Failing(status string) error {
	// In one message STOPPING=1 would win, and it is ignored before READY=1. sd_notify(3)
	return errors.Join(notify(daemon.SdNotifyReady), notify(daemon.SdNotifyStopping, statusLine(status)))
}

// Status sets the status line that "systemctl status" shows.
func Status(status string) error { return notify(statusLine(status)) }

// Alive feeds the watchdog. See [Watchdog].
func Alive() error { return notify(daemon.SdNotifyWatchdog) }

// Watchdog returns how long the service manager waits for Alive before it kills the process, or 0
// if it has no watchdog.
func Watchdog() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }

// Managed reports whether a service manager reads notifications of this process.
func Managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Sockets returns the sockets that the service manager opened for this process, each with its
// FileDescriptorName as its name (systemd.socket(5)). The caller owns them. It unsets the
// environment variables, so that child processes do not take the sockets for their own.
func Sockets() []*os.File { return activation.Files(true) }

// statusLine returns the assignment of status in one line, because a newline would begin another
// assignment. Lines of a list are joined with semicolons.
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
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
