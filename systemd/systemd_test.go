package systemd_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tillhook/systemd"
)

// listenAsManager listens on NOTIFY_SOCKET as a service manager does, and returns a function that
// reads the next notification.
func listenAsManager(t *testing.T) (reported func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		n, err := l.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNotifications(t *testing.T) {
	reported := listenAsManager(t)
	for want, notify := range map[string]func() error{
		"READY=1\nSTATUS=listening":           func() error { return systemd.Ready("listening") },
		"STOPPING=1\nSTATUS=Stopping":         systemd.Stopping,
		"WATCHDOG=1":                          systemd.Alive,
		"STATUS=a fault: MAINPID=1 is no pid": func() error { return systemd.Status("a fault:\nMAINPID=1 is\tno pid\n") },
		"STATUS=two faults: one; another":     func() error { return systemd.Status("two faults:\n  one\n  another\n") },
	} {
		if err := notify(); err != nil {
			t.Fatal(err)
		}
		if got := reported(); got != want {
			t.Errorf("the manager read %q, want %q", got, want)
		}
	}
}

// STOPPING=1 counts only after READY=1 and in a message of its own.
func TestFailingStart(t *testing.T) {
	reported := listenAsManager(t)
	if err := systemd.Failing("Not configured"); err != nil {
		t.Fatal(err)
	}
	if first, second := reported(), reported(); first != "READY=1" || second != "STOPPING=1\nSTATUS=Not configured" {
		t.Errorf("the manager read %q and %q", first, second)
	}
}

// systemd compares the timestamp with the time of its own call, on the same clock.
func TestReloadTimestamp(t *testing.T) {
	reported := listenAsManager(t)
	clock := func() int64 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		return now.Nano() / 1000
	}
	before := clock()
	if err := systemd.Reloading(); err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(reported(), "\n")
	at, err := strconv.ParseInt(strings.TrimPrefix(second, "MONOTONIC_USEC="), 10, 64)
	if first != "RELOADING=1" || err != nil || at < before || at > clock() {
		t.Errorf("the manager read %q and %q, at a time from %d on", first, second, before)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := systemd.Ready("listening"); err != nil {
		t.Error(err)
	}
	if wait, err := systemd.Watchdog(); wait != 0 || err != nil {
		t.Errorf("the watchdog waits %s, %v", wait, err)
	}
	if systemd.Managed() {
		t.Error("a manager listens")
	}
	if sockets := systemd.Sockets(); len(sockets) > 0 {
		t.Errorf("%d sockets were passed", len(sockets))
	}
}

func TestManagerIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Stopping(); err == nil {
		t.Error("a notification to a missing socket succeeded")
	}
}

// A child process that is passed two sockets as in sd_listen_fds(3) prints what it finds.
func TestSocketsComeByName(t *testing.T) {
	if os.Getenv("TILLHOOK_TEST_CHILD") != "" {
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		for _, f := range systemd.Sockets() {
			l, err := net.FileListener(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s %s\n", f.Name(), l.Addr())
		}
		if left := os.Getenv("LISTEN_FDS"); left != "" {
			t.Errorf("a child process would inherit %s sockets", left)
		}
		return
	}
	var passed []*os.File
	var want []string
	for _, name := range []string{"public", "operator"} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		passed, want = append(passed, f), append(want, name+" "+l.Addr().String())
	}
	child := exec.Command(os.Args[0], "-test.run", "^TestSocketsComeByName$")
	child.ExtraFiles = passed
	child.Env = append(os.Environ(), "TILLHOOK_TEST_CHILD=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=public:operator")
	out, err := child.CombinedOutput()
	if lines := strings.Split(string(out), "\n"); err != nil || len(lines) < 2 || lines[0] != want[0] || lines[1] != want[1] {
		t.Errorf("the child found %s (%v), want %q", out, err, want)
	}
}
