package receiver_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tillhook/ledger"
)

// diagnosed runs doctor in the folder above the program's data, and returns what it says.
func (p *program) diagnosed(t *testing.T, env ...string) (said string, status int) {
	t.Helper()
	cmd := exec.Command(p.binary, "doctor", "--offline")
	cmd.Dir = filepath.Dir(p.dir)
	cmd.Env = append([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_LISTEN=" + p.public, "TILLHOOK_OPERATOR_LISTEN=off"}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// A webhook listener on a unix socket is tried like any other.
func TestADoctorOfAUnixSocket(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	p.dir = filepath.Join(t.TempDir(), "tillhook-data")
	folder := t.TempDir()
	for _, name := range []string{"public", "operator"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(folder, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		m.pass(t, name, l)
	}
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret)
	comes(t, "it is ready", func() bool { return m.has("READY=1") > 0 })
	said, status := p.diagnosed(t, "TILLHOOK_OPERATOR_SOCKET="+filepath.Join(folder, "operator"))
	for _, want := range []string{"The webhook listener answers at " + filepath.Join(folder, "public") + ".\n", "A signed request is accepted at the receiver's own listener.\n"} {
		if !strings.Contains(said, want) || status != 0 {
			t.Errorf("status %d; it does not say %q:\n%s", status, want, said)
		}
	}
}

// While a service waits for its ledger doctor says that, why, and what to do; not that nothing
// answers, nor that another program has its port.
func TestADoctorOfAReceiverThatWaits(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	p.dir = filepath.Join(t.TempDir(), "tillhook-data")
	p.public = m.passTCP(t, "public")
	path := filepath.Join(t.TempDir(), "operator.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	m.pass(t, "operator", l)
	if err := errors.Join(os.Mkdir(p.dir, 0o700), os.WriteFile(ledger.Path(p.dir), bytes.Repeat([]byte("noise"), 10000), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret)
	comes(t, "it waits", func() bool { return m.has("STATUS=FAULT") > 0 })
	said, _ := p.diagnosed(t, "TILLHOOK_OPERATOR_SOCKET="+path, "TILLHOOK_DATA_DIR="+p.dir)
	if !strings.Contains(said, "The receiver runs and waits for its ledger: ") {
		t.Errorf("of a folder that the caller names it says\n%s", said)
	}
	said, status := p.diagnosed(t, "TILLHOOK_OPERATOR_SOCKET="+path)
	for _, want := range []string{
		"fail     receiver          The receiver runs and waits for its ledger: every event is answered 503: the ledger cannot be opened: the file is not a ledger this version can read",
		"-> move it away, or restore a copy\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	for _, bad := range []string{"Next step", "Another program listens", "No receiver answers", "FAULT", "start the receiver", ".."} {
		if strings.Contains(said, bad) {
			t.Errorf("it says %q:\n%s", bad, said)
		}
	}
	if status != 1 || strings.Count(said, "fail  ") != 1 {
		t.Errorf("status %d:\n%s", status, said)
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
}

// What a receiver left whose ledger was deleted or lost while it ran is reported with what to do.
func TestADoctorSeesWhatWasLost(t *testing.T) {
	t.Parallel()
	p := build(t)
	p.dir = filepath.Join(t.TempDir(), "tillhook-data")
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	saved := "tillhook-data/ledger-20261103T101112.131Z.db.deleted"
	for _, name := range []string{saved, "tillhook-data/ledger.db.missing"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(p.dir), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said, status := p.diagnosed(t)
	for _, want := range []string{
		"The ledger tillhook-data/ledger.db was lost while a receiver ran: no receiver starts without it.",
		"-> put it back, or restore a backup (tillhook restore FILE); to begin with an empty ledger delete tillhook-data/ledger.db.missing\n",
		saved + " is a ledger that was deleted while a receiver ran",
		"-> verify it: tillhook verify " + saved,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if status != 1 {
		t.Errorf("status %d", status)
	}
}
