package server_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/receiver/server"
)

func TestUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operator.sock")
	first, err := server.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	if _, err := server.ListenUnix(path); err == nil {
		t.Error("a second listener took a socket that is in use")
	}
	// A process that was killed leaves its socket behind.
	unix := first.(*net.UnixListener)
	unix.SetUnlinkOnClose(false)
	if err := unix.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := server.ListenUnix(path)
	if err != nil {
		t.Fatalf("a socket that was left behind: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file in the socket's place gave %v", err)
	}
}

// A host without an address is named, with the next step.
func TestListenOnAnUnknownHost(t *testing.T) {
	_, err := server.Listen("nosuchhost.invalid:8080")
	if err == nil || !strings.Contains(err.Error(), "nosuchhost.invalid:8080") || !strings.Contains(err.Error(), ": set an") ||
		strings.Contains(err.Error(), "listen tcp") {
		t.Errorf("%v", err)
	}
}
