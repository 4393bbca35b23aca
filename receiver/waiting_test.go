package receiver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/operator"
)

// A service whose ledger cannot be opened answers 503 at every socket, says why and what to do, and
// goes on by itself once it can be opened.
func TestALedgerThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breakIt func(t *testing.T, dir string) (repair func() error)
		reason  string
		next    string
	}{
		"held": {func(t *testing.T, dir string) func() error {
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			return l.Close
		}, "the ledger is held by another process", "fuser -v"},
		"damaged": {func(t *testing.T, dir string) func() error {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(ledger.Path(dir), bytes.Repeat([]byte("noise"), 10000), 0o600)); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(ledger.Path(dir)) }
		}, "is not a ledger this version can read", "restore a copy"},
		"a named pipe": {func(t *testing.T, dir string) func() error {
			if err := errors.Join(os.Mkdir(dir, 0o700), syscall.Mkfifo(ledger.Path(dir), 0o600)); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(ledger.Path(dir)) }
		}, "is not a regular file", "move it away"},
		"a dangling link": {func(t *testing.T, dir string) func() error {
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Symlink("../big/ledger.db", ledger.Path(dir))); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(ledger.Path(dir)) }
		}, "which does not exist", "mount the file system"},
		"disk full": {func(t *testing.T, dir string) func() error {
			d := newDisk(t, 16)
			filler := filepath.Join(d.dir, "filler")
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			_, full := io.Copy(f, zeros{})
			if err := f.Close(); err != nil || full == nil {
				t.Fatal("the disk is not full: ", err)
			}
			if err := errors.Join(os.Mkdir(filepath.Join(d.dir, "data"), 0o700), os.Symlink(filepath.Join(d.dir, "data"), dir)); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(filler) }
		}, "no space left on device", "free some space"},
		"not a directory": {func(t *testing.T, dir string) func() error {
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() error { return os.Remove(dir) }
		}, "not a directory", "TILLHOOK_DATA_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := newManager(t), build(t)
			repair := c.breakIt(t, p.dir)
			target := *p
			target.public = m.passTCP(t, "public")
			path := filepath.Join(t.TempDir(), "operator.sock")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			m.pass(t, "operator", l)
			port := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "TILLHOOK_OPERATOR_LISTEN="+port)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
			_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
			if answer := target.once(context.Background(), client, body); answer != "503 storage_unavailable" {
				t.Errorf("a sender was answered %s", answer)
			}
			_, err = operator.Dial(path).Get(t.Context(), "/api/payments", nil)
			var refused *operator.Error
			if !errors.As(err, &refused) || refused.Status != 503 || !strings.Contains(refused.Message, c.reason) || !strings.Contains(refused.Message, c.next) {
				t.Errorf("the operator was answered %v", err)
			}
			comes(t, "the port says that it is not ready", func() bool { return status(t, client, "http://"+port+"/readyz") == 503 })
			if got := status(t, client, "http://"+port+"/healthz"); got != 200 {
				t.Errorf("/healthz answered %d", got)
			}
			if m.has("READY=1\nSTATUS=FAULT: every event is answered 503: the ledger cannot be opened: ") != 1 || m.has(c.reason) == 0 || m.has("Next step: ") == 0 {
				t.Errorf("the service manager was told %q", m.messages)
			}
			if err := repair(); err != nil {
				t.Fatal(err)
			}
			comes(t, "events are taken by the same process", func() bool { return target.once(context.Background(), client, body) == "200" })
			comes(t, "the port says that it is ready", func() bool { return status(t, client, "http://"+port+"/readyz") == 200 })
			if status := p.ends(t, syscall.SIGTERM); status != 0 {
				t.Errorf("it ended with %d", status)
			}
			if log := p.log.String(); strings.Count(log, "level=ERROR msg=\"the ledger cannot be opened") != 1 || !strings.Contains(log, "the ledger was opened") {
				t.Errorf("the log does not say what was wrong, once:\n%s", log)
			}
		})
	}
}

// A receiver that waits for its ledger can be stopped.
func TestAWaitingReceiverStops(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	m.passTCP(t, "public")
	if err := os.WriteFile(p.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret)
	comes(t, "it waits", func() bool { return m.has("STATUS=FAULT") > 0 })
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
}

func status(t *testing.T, client *http.Client, url string) int {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// A port for metrics that another program uses keeps no event out.
func TestThePortForMetricsIsTaken(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	m, p := newManager(t), build(t)
	target := *p
	target.public = m.passTCP(t, "public")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "TILLHOOK_OPERATOR_LISTEN="+other.Addr().String())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
	if answer := target.once(context.Background(), client, body); answer != "200" {
		t.Errorf("a sender was answered %s", answer)
	}
	summary, err := operator.Dial(filepath.Join(p.dir, "operator.sock")).Get(t.Context(), "/api/summary", nil)
	if err != nil || !bytes.Contains(summary, []byte(`"code":"operator_port","severity":"warn"`)) || !bytes.Contains(summary, []byte("TILLHOOK_OPERATOR_LISTEN")) ||
		!bytes.Contains(summary, []byte("another program listens on "+other.Addr().String())) {
		t.Errorf("the summary is %s, %v", summary, err)
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
	if log := p.log.String(); strings.Count(log, "level=WARN msg=\"the port for metrics and health cannot be opened") != 1 {
		t.Errorf("the log does not name the port:\n%s", log)
	}
}

// An operator's socket that cannot be opened keeps no event out.
func TestTheOperatorsSocketCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", filepath.Join(dir, "other.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for path, why := range map[string]string{
		filepath.Join(dir, "missing", "operator.sock"): "no such file or directory", file: "exists and is not a socket",
		other.Addr().String(): "another process listens on",
	} {
		m, p := newManager(t), build(t)
		target := *p
		target.public = m.passTCP(t, "public")
		port := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "TILLHOOK_OPERATOR_SOCKET="+path, "TILLHOOK_OPERATOR_LISTEN="+port)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
		_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
		if answer := target.once(context.Background(), client, body); answer != "200" {
			t.Errorf("%s: a sender was answered %s", path, answer)
		}
		if resp, err := client.Get("http://" + port + "/metrics"); err != nil {
			t.Errorf("%s: the port for metrics does not answer: %v", path, err)
		} else if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if status := p.ends(t, syscall.SIGTERM); status != 0 {
			t.Errorf("%s: it ended with %d", path, status)
		}
		log := p.log.String()
		if strings.Count(log, "level=WARN msg=\"the operator's socket cannot be opened") != 1 || !strings.Contains(log, why) ||
			!strings.Contains(log, "TILLHOOK_OPERATOR_SOCKET") {
			t.Errorf("%s: the log does not name the socket:\n%s", path, log)
		}
	}
}

// Where the unit of the public socket failed, the program that has its port is named. The receiver
// does not listen elsewhere instead.
func TestThePublicSocketIsMissing(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for listen, want := range map[string]string{
		other.Addr().String():                    "tillhook.socket is not open: another program listens on " + other.Addr().String(),
		fmt.Sprintf("127.0.0.1:%d", freePort(t)): "tillhook.socket is not open: run systemctl status tillhook.socket for the reason",
	} {
		m, p := newManager(t), build(t)
		m.passTCP(t, "operator")
		m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "TILLHOOK_LISTEN="+listen)
		if status := p.ends(t, nil); status != 78 || !strings.Contains(p.log.String(), want) || m.has(want) != 1 {
			t.Errorf("it ended with %d, and said\n%s", status, p.log.String())
		}
	}
}
