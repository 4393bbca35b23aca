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

// manager listens as the service manager does.
func manager(t *testing.T) (told func() string) {
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

func TestTheManagerIsTold(t *testing.T) {
	told := manager(t)
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=listening":           func() error { return systemd.Ready("listening") },
		"STOPPING=1\nSTATUS=Stopping":         systemd.Stopping,
		"WATCHDOG=1":                          systemd.Alive,
		"STATUS=a fault: MAINPID=1 is no pid": func() error { return systemd.Status("a fault:\nMAINPID=1 is\tno pid\n") },
		"STATUS=two faults: one; another":     func() error { return systemd.Status("two faults:\n  one\n  another\n") },
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got := told(); got != want {
			t.Errorf("the manager read %q, want %q", got, want)
		}
	}
}

// STOPPING=1 counts only after READY=1, in a message of its own.
func TestAStartThatFailsIsOverFirst(t *testing.T) {
	told := manager(t)
	if err := systemd.Failing("Not configured"); err != nil {
		t.Fatal(err)
	}
	if first, second := told(), told(); first != "READY=1" || second != "STOPPING=1\nSTATUS=Not configured" {
		t.Errorf("the manager read %q and %q", first, second)
	}
}

// systemd compares the time with that of its own call, on the same clock.
func TestAReloadHasItsTime(t *testing.T) {
	told := manager(t)
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
	first, second, _ := strings.Cut(told(), "\n")
	at, err := strconv.ParseInt(strings.TrimPrefix(second, "MONOTONIC_USEC="), 10, 64)
	if first != "RELOADING=1" || err != nil || at < before || at > clock() {
		t.Errorf("the manager read %q and %q, at a time from %d on", first, second, before)
	}
}

func TestWithoutAManagerNothingHappens(t *testing.T) {
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

func TestAManagerThatIsGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Stopping(); err == nil {
		t.Error("telling nobody succeeded")
	}
}

// A child is passed two sockets, as sd_listen_fds(3) has it, and tells what it finds.
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
			t.Errorf("a child of this process would take %s sockets for its own", left)
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
