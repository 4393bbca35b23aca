package receiver_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/server/servertest"
)

// A service that cannot serve yet speaks TLS where the receiver will, so that senders get the 503:
// with the certificate of the files, or with the one that ACME has stored.
func TestTLSWhileNothingCanBeServed(t *testing.T) {
	t.Parallel()
	const name = "hooks.haderer.example"
	for _, c := range []struct {
		what string
		acme bool
		env  string
		code string
	}{
		{"the ledger is held, files", false, "STRIPE_WEBHOOK_SECRET=" + secret, "storage_unavailable"},
		{"the ledger is held, ACME", true, "STRIPE_WEBHOOK_SECRET=" + secret, "storage_unavailable"},
		{"not configured, files", false, "STRIPE_WEBHOOK_SECRET=we_1QbD7s", "not_configured"},
		{"not configured, ACME", true, "STRIPE_WEBHOOK_SECRET=we_1QbD7s", "not_configured"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			m, p := newManager(t), build(t)
			address := m.passTCP(t, "public")
			l, err := ledger.Open(ledger.Options{Dir: p.dir})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			certFile, keyFile, cert := servertest.SelfSigned(t, t.TempDir(), name, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			env := []string{c.env, "TILLHOOK_TLS_CERT=" + certFile, "TILLHOOK_TLS_KEY=" + keyFile}
			if c.acme {
				env = []string{c.env, "TILLHOOK_TLS_DOMAIN=" + name}
				key, keyErr := os.ReadFile(keyFile)
				chain, err := os.ReadFile(certFile)
				store := filepath.Join(p.dir, "acme")
				if err := errors.Join(err, keyErr, os.Mkdir(store, 0o700), os.WriteFile(filepath.Join(store, name), append(key, chain...), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			roots := x509.NewCertPool()
			roots.AddCert(cert)
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
				TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}}
			answered := make(chan string, 1)
			go func() { // waits in the socket until the program runs
				resp, err := client.Post("https://"+address+hook, "application/json", bytes.NewReader([]byte("{}")))
				if err != nil {
					answered <- err.Error()
					return
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				answered <- resp.Status + " " + resp.Header.Get("Retry-After") + " " + string(text)
			}()
			time.Sleep(50 * time.Millisecond)
			m.run(t, p, env...)
			if got := <-answered; !strings.HasPrefix(got, "503 Service Unavailable 5 ") || !strings.Contains(got, c.code) {
				t.Errorf("a sender was answered %s", got)
			}
			if c.code == "not_configured" {
				if status := p.ends(t, nil); status != 78 {
					t.Errorf("it ended with %d", status)
				}
			} else if status := p.ends(t, syscall.SIGTERM); status != 0 {
				t.Errorf("it ended with %d", status)
			}
		})
	}
}
