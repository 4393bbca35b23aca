package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/receiver/app"
	"tillhook/receiver/cli"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
	"tillhook/systemd"
)

const secret = "whsec_testsSignWithThis"

// A receiver runs in this process: it takes a signed event, shows it on its socket, and stops.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	cfg, err := config.Load([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_LISTEN=127.0.0.1:0",
		"TILLHOOK_OPERATOR_LISTEN=127.0.0.1:0", "TILLHOOK_DATA_DIR=" + dir})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(app.Options{Config: cfg, Version: "v0.0.0", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	serving, ended := make(chan cli.Addresses, 1), make(chan error, 1)
	go func() { ended <- a.Run(ctx, func(at cli.Addresses) { serving <- at }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var at cli.Addresses
	select {
	case at = <-serving:
	case err := <-ended:
		ended <- nil
		t.Fatalf("it ended: %v", err)
	}
	body, err := os.ReadFile("../../testdata/events/payment_intent.succeeded.json")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Public, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Stripe-Signature", stripe.Sign(body, secret, time.Now()))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the event was answered %d %s, %v", resp.StatusCode, answer, err)
	}
	events, err := operator.Dial(at.Socket).Get(ctx, "/api/events", nil)
	if err != nil || !bytes.Contains(events, []byte(`"type":"payment_intent.succeeded"`)) {
		t.Errorf("the events are %s, %v", events, err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		metrics, err := operator.Dial(at.Socket).Get(ctx, "/metrics", nil)
		if err == nil && bytes.Contains(metrics, []byte(`tillhook_health_finding{code="storage",severity="ok"} 1`)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the metrics do not show the health: %v\n%s", err, metrics)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestNewRefusesMissingOptions(t *testing.T) {
	if _, err := app.New(app.Options{Log: io.Discard}); err == nil {
		t.Error("a receiver without configuration was made")
	}
}

// lookingListener calls look when its address is first asked for.
type lookingListener struct {
	net.Listener
	once *sync.Once
	look func()
}

func (l lookingListener) Addr() net.Addr {
	l.once.Do(l.look)
	return l.Listener.Addr()
}

// As soon as the operator's socket answers, what it shows is complete, and /readyz is 503 until the
// webhook listener is open.
func TestTheOperatorsSocketWhileItStarts(t *testing.T) {
	dir, err := os.MkdirTemp("", "tillhook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // autocert may still write to it
	cfg, err := config.Load([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_LISTEN=127.0.0.1:0",
		"TILLHOOK_OPERATOR_LISTEN=off", "TILLHOOK_DATA_DIR=" + filepath.Join(dir, "data"),
		"TILLHOOK_TLS_DOMAIN=hooks.example.com", "TILLHOOK_ACME_DIRECTORY=https://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := net.Listen("unix", filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Listen("unix", filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := operator.Dial(filepath.Join(dir, "first"))
	looked := false
	look := func() { // the first socket is served then, and the webhook listener not yet open
		looked = true
		summary, err := client.Get(t.Context(), "/api/summary", nil)
		if err != nil || !bytes.Contains(summary, []byte(`"code":"certificate"`)) {
			t.Errorf("the summary is not complete: %v %s", err, summary)
		}
		if _, err := client.Get(t.Context(), "/readyz", nil); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("/readyz before the webhook listener is open: %v", err)
		}
	}
	a, err := app.New(app.Options{Config: cfg, Log: io.Discard, Sockets: &systemd.Listeners{Public: []net.Listener{public}, Operator: []net.Listener{first, lookingListener{second, new(sync.Once), look}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	err = a.Run(ctx, func(cli.Addresses) {
		if _, err := client.Get(t.Context(), "/readyz", nil); err != nil {
			t.Errorf("/readyz when it serves: %v", err)
		}
		stop()
	})
	if err != nil || !looked {
		t.Errorf("the socket was asked: %t, %v", looked, err)
	}
}

// The address of the webhook can be put into a browser or into nginx.
func TestTheAddressOfTheWebhook(t *testing.T) {
	for want, address := range map[string]net.Addr{
		"http://127.0.0.1:8080/webhooks/stripe":                       &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080},
		"http://unix:/run/tillhook/live/public.sock:/webhooks/stripe": &net.UnixAddr{Name: "/run/tillhook/live/public.sock", Net: "unix"},
	} {
		if got := app.WebhookURL(address, false, "/webhooks/stripe"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The advice on a ledger that may not be opened names the file only if its folder can be used.
func TestOpenAdvice(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		path: "chown --reference=" + dir + " " + path,
		filepath.Join(dir, "closed", "ledger.db"): "enter the folder and write to it: namei -l ",
	} {
		if got := app.OpenAdvice(path, fs.ErrPermission); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}
