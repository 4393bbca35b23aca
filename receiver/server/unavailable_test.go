package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/receiver/server"
	"tillhook/receiver/server/servertest"
)

// Every waiting caller gets an answer, and a silent connection does not delay the end.
func TestWaitingCallersAreRejected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
			resp, err := client.Post("http://"+l.Addr().String()+"/webhooks/stripe", "application/json", strings.NewReader(`{"id":"evt_1"}`))
			if err != nil {
				t.Error(err)
				return
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(text), `"code":"not_configured"`) {
				t.Errorf("%d %q %v", resp.StatusCode, text, err)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	begun := time.Now()
	if err := server.RejectAll(t.Context(), []net.Listener{l}, nil, nil, "Not yet.", slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	callers.Wait()
	if took := time.Since(begun); took > 9*time.Second {
		t.Errorf("it took %s", took)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the socket is still open", conn.Close())
	}
}

// A TLS handshake can take longer than the pause after which no more requests are expected.
func TestRejectAllWaitsForHandshakes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, cert := servertest.SelfSigned(t, t.TempDir(), "hooks.example", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rejected := make(chan error, 1)
	go func() {
		rejected <- server.RejectAll(t.Context(), nil, []net.Listener{l}, &tls.Config{Certificates: []tls.Certificate{pair}}, "Not yet.",
			slog.New(slog.DiscardHandler))
	}()
	time.Sleep(time.Second) // a slow network
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "hooks.example"})
	if _, err := secure.Write([]byte("GET / HTTP/1.1\r\nHost: hooks.example\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(secure)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 503 ") {
		t.Errorf("answered %q, %v", text, err)
	}
	if err := <-rejected; err != nil {
		t.Error(err)
	}
}
