package receiver_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/operator"
	"tillhook/receiver/server/servertest"
	"tillhook/receiver/stripe"
)

func portOf(t *testing.T, address string) (port int) {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// freePort is a port for a program that is started with it. It is not one of those that the system
// hands out (ip_local_port_range): until the program listens, such a one could become another
// program's.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20000 + int(lastPort.Add(1))%12000
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// lastPort begins elsewhere for each process that tests at the same time.
var lastPort = func() *atomic.Int64 {
	var at atomic.Int64
	at.Store(int64(os.Getpid()) * 101 % 12000)
	return &at
}()

// authority is Pebble, the ACME server that Let's Encrypt made for tests, and the DNS it asks.
// https://github.com/letsencrypt/pebble
type authority struct {
	config, dns     string
	directory, root string // the URL, and the file of what its own certificate is checked against
	management      string
	client          *http.Client
	cmd             *exec.Cmd
	log             bytes.Buffer // read only while it does not run
}

// newAuthority starts one that proves domains on ports of this machine, by TLS or by HTTP, and
// whose certificates live that long.
func newAuthority(t *testing.T, tlsPort, httpPort int, life time.Duration) *authority {
	t.Helper()
	needs(t, "pebble", "pebble-challtestsrv")
	dir := t.TempDir()
	cert, key, root := servertest.SelfSigned(t, dir, "localhost", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pool := x509.NewCertPool()
	pool.AddCert(root)
	port, manage := freePort(t), freePort(t)
	a := &authority{config: filepath.Join(dir, "pebble.json"), dns: fmt.Sprintf("127.0.0.1:%d", freePort(t)), root: cert,
		directory: fmt.Sprintf("https://127.0.0.1:%d/dir", port), management: fmt.Sprintf("https://127.0.0.1:%d", manage),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}, Timeout: 10 * time.Second}}
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", port), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", manage),
		"certificate": cert, "privateKey": key, "httpPort": httpPort, "tlsPort": tlsPort, "retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": int(life.Seconds())}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	dns := exec.Command("pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", a.dns,
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err := dns.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dns.Process.Kill(), dns.Wait() })
	t.Cleanup(func() {
		if a.stop(); t.Failed() {
			t.Logf("Pebble logged\n%s", &a.log)
		}
	})
	a.start(t)
	return a
}

func (a *authority) start(t *testing.T) {
	t.Helper()
	a.cmd = exec.Command("pebble", "-config", a.config, "-dnsserver", a.dns)
	a.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	comes(t, "Pebble answers", func() bool {
		resp, err := a.client.Get(a.directory)
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

func (a *authority) stop() {
	if a.cmd != nil {
		_, _ = a.cmd.Process.Kill(), a.cmd.Wait() // what is over is over
		a.cmd = nil
	}
}

// pool are its roots or intermediates, which each start makes anew.
func (a *authority) pool(t *testing.T, of string) *x509.CertPool {
	t.Helper()
	resp, err := a.client.Get(a.management + "/" + of + "/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no root in %q, %v", text, err)
	}
	return pool
}

// A certificate is got, kept over a restart, renewed under traffic, and, when the authority is
// gone, shown as long as it lives, with a word about it in good time.
func TestCertificatesByACME(t *testing.T) {
	t.Parallel()
	const domain = "hooks.haderer.example"
	p := build(t)
	a := newAuthority(t, portOf(t, p.public), 1, 20*time.Second)
	p.secure, p.env = true, []string{"TILLHOOK_TLS_DOMAIN=" + domain, "TILLHOOK_ACME_DIRECTORY=" + a.directory, "TILLHOOK_ACME_CA=" + a.root, "TILLHOOK_LOG_LEVEL=info"}
	p.start(t)
	var first *x509.Certificate
	var err error
	comes(t, "a certificate is shown", func() bool {
		first, err = servertest.Shown(p.public, domain)
		return err == nil
	})
	roots := a.pool(t, "roots")
	if _, err := first.Verify(x509.VerifyOptions{DNSName: domain, Roots: roots, Intermediates: a.pool(t, "intermediates")}); err != nil {
		t.Errorf("the certificate does not verify: %v", err)
	}
	if other, err := servertest.Shown(p.public, "other.haderer.example"); err == nil {
		t.Errorf("another name was shown %s", other.Subject)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: domain, InsecureSkipVerify: true}, DisableKeepAlives: true}}
	posted := int64(0)
	post := func() {
		t.Helper()
		posted++
		id, body := ownEvent(sample(t, "payment_intent.succeeded"), posted)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+p.public+hook, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, time.Now()))
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			return
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s was answered %d, %v", id, resp.StatusCode, err)
		}
	}
	post()

	p.kill(t)
	p.start(t)
	if again, err := servertest.Shown(p.public, domain); err != nil || !again.Equal(first) {
		t.Errorf("after a restart another certificate was shown: %v", err)
	}
	comesIn(t, 30*time.Second, "the certificate is renewed", func() bool {
		post()
		now, err := servertest.Shown(p.public, domain)
		return err == nil && now.NotAfter.After(first.NotAfter)
	})

	a.stop()
	last, err := servertest.Shown(p.public, domain)
	if err != nil {
		t.Fatal(err)
	}
	operators := operator.Dial(filepath.Join(p.dir, "operator.sock"))
	comesIn(t, 30*time.Second, "the summary reports that the certificate could not be renewed", func() bool {
		answer, err := operators.Get(t.Context(), "/api/summary", nil)
		return err == nil && strings.Contains(string(answer), "could not be renewed")
	})
	if left := time.Until(last.NotAfter); left < 2*time.Second {
		t.Errorf("that was told %s before its end", left)
	}
	post()
	if now, err := servertest.Shown(p.public, domain); err != nil || !now.Equal(last) {
		t.Errorf("without the authority another certificate was shown: %v", err)
	}
	t.Logf("%d events were delivered", posted)
}

// Where port 443 is not reached, the ACME HTTP listener gets the certificate, and answers nothing
// else.
func TestACertificateByHTTP(t *testing.T) {
	t.Parallel()
	const domain = "hooks.haderer.example"
	m, p := newManager(t), build(t)
	public, challenges := m.passTCP(t, "public"), m.passTCP(t, "http")
	a := newAuthority(t, 1, portOf(t, challenges), time.Hour)
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "TILLHOOK_TLS_DOMAIN="+domain, "TILLHOOK_ACME_DIRECTORY="+a.directory, "TILLHOOK_ACME_CA="+a.root)
	comesIn(t, 30*time.Second, "a certificate is shown", func() bool {
		_, err := servertest.Shown(public, domain)
		return err == nil
	})
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, path := range []string{hook, "/", "/healthz"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+challenges+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = domain
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s was answered %s, %v", path, resp.Status, err)
		}
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
}
