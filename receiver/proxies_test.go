package receiver_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/server/servertest"
	"tillhook/receiver/stripe"
)

// example is one of the configurations that are installed with the program, with this test's
// addresses in it.
func example(t *testing.T, name string, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../systemd/deb/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(string(text), replace[i]) {
			t.Fatalf("%s has no %s", name, replace[i])
		}
	}
	return strings.NewReplacer(replace...).Replace(string(text))
}

// proxy is a server that does TLS before a receiver: its command for a folder of its own, the
// receiver's address and a port.
type proxy struct {
	name    string
	command func(t *testing.T, dir, receiver string, port int, cert, key string) *exec.Cmd
}

var proxies = []proxy{
	{"nginx", func(t *testing.T, dir, receiver string, port int, cert, key string) *exec.Cmd {
		config := filepath.Join(dir, "nginx.conf")
		temporary := ""
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			temporary += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
		}
		text := fmt.Sprintf("daemon off;\npid %s/pid;\nerror_log %s/error.log;\nevents {}\nhttp {\n%sserver {\nlisten 127.0.0.1:%d ssl;\nssl_certificate %s;\nssl_certificate_key %s;\n%s\n}\n}\n",
			dir, dir, temporary, port, cert, key, example(t, "nginx.conf", "127.0.0.1:8080", receiver))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("nginx", "-c", config, "-e", filepath.Join(dir, "error.log"))
	}},
	{"caddy", func(t *testing.T, dir, receiver string, port int, cert, key string) *exec.Cmd {
		config := filepath.Join(dir, "Caddyfile")
		text := "{\n\tadmin off\n\tauto_https off\n}\n" + example(t, "Caddyfile", "127.0.0.1:8080", receiver,
			"hooks.example.com {", fmt.Sprintf("https://hooks.example.com:%d {\n\ttls %s %s", port, cert, key))
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", config)
		c.Env = append(os.Environ(), "HOME="+dir)
		return c
	}},
}

// Behind each proxy as the examples have it, signed bodies verify, and the caller is who called the
// proxy.
func TestBehindProxies(t *testing.T) {
	for _, proxy := range proxies {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			needs(t, proxy.name)
			dir := t.TempDir()
			list := filepath.Join(dir, "addresses")
			if err := os.WriteFile(list, []byte("# of this test\n127.0.0.2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			p := build(t)
			p.env = []string{"TILLHOOK_ALLOW_STRIPE_IPS=" + list, "TILLHOOK_TRUSTED_PROXIES=127.0.0.1"}
			p.start(t)
			cert, key, root := servertest.SelfSigned(t, dir, "hooks.example.com", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			port := freePort(t)
			server := proxy.command(t, dir, p.public, port, cert, key)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = server.Process.Signal(os.Interrupt), server.Wait() })
			address := fmt.Sprintf("127.0.0.1:%d", port)
			comes(t, proxy.name+" listens", func() bool {
				conn, err := net.Dial("tcp", address)
				return err == nil && conn.Close() == nil
			})
			pool := x509.NewCertPool()
			pool.AddCert(root)
			from := func(ip string) *http.Client {
				dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
				return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dialer.DialContext,
					TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "hooks.example.com"}}}
			}
			post := func(client *http.Client, body []byte, signature string) string {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+hook, strings.NewReader(string(body)))
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "hooks.example.com"
				r.Header.Set("Stripe-Signature", signature)
				resp, err := client.Do(r)
				if err != nil {
					return err.Error()
				}
				if err := resp.Body.Close(); err != nil {
					t.Error(err)
				}
				return resp.Status
			}
			stripes, other := from("127.0.0.2"), from("127.0.0.3")
			for n := range int64(200) {
				_, body := ownEvent(sample(t, "payment_intent.succeeded"), n)
				if got := post(stripes, body, stripe.Sign(body, secret, time.Now())); got != "200 OK" {
					t.Fatalf("event %d was answered %s", n, got)
				}
			}
			_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1000)
			if got := post(stripes, body, stripe.Sign(body, "whsec_forged", time.Now())); got != "400 Bad Request" {
				t.Errorf("a forged event was answered %s", got)
			}
			if got := post(other, body, stripe.Sign(body, secret, time.Now())); got != "403 Forbidden" {
				t.Errorf("another address was answered %s", got)
			}
			stripes.CloseIdleConnections()
			other.CloseIdleConnections()
		})
	}
}
