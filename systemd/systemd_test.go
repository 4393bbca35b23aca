package systemd_test

import (
	"net"
	"path/filepath"
	"testing"

	"tillhook/systemd"
)

func TestTheManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=listening": func() error { return systemd.Ready("listening") },
		"STOPPING=1":                systemd.Stopping,
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 256)
		n, err := manager.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("the manager read %q, %v, want %q", buf[:n], err, want)
		}
	}
}

func TestWithoutAManagerNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Ready("listening"); err != nil {
		t.Error(err)
	}
}

func TestAManagerThatIsGoneIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Stopping(); err == nil {
		t.Error("telling nobody succeeded")
	}
}
