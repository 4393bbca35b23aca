package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/receiver/server"
	"tillhook/receiver/server/servertest"
)

// secured starts a server that speaks TLS and returns its address.
func secured(t *testing.T, c *server.Certificates) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), slog.New(slog.DiscardHandler))
	s.UseTLS(c.Config())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestACertificateFromFiles(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	certFile, keyFile, first := servertest.SelfSigned(t, dir, "hooks.haderer.example", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	load := func() (*tls.Certificate, error) { return loadPair(certFile, keyFile) }
	pair, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var log buffer
	var end atomic.Int64
	c := server.NewCertificates(slog.New(slog.NewTextHandler(&log, nil)), func(at time.Time) { end.Store(at.Unix()) })
	c.SetInterval(10 * time.Millisecond)
	c.Use(pair)
	address := secured(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Follow(ctx, []string{certFile, keyFile}, load) }()

	isShown := func(want *x509.Certificate) bool {
		got, err := servertest.Shown(address, "whatever.haderer.example")
		return err == nil && got.Equal(want)
	}
	if !isShown(first) || end.Load() != first.NotAfter.Unix() {
		t.Errorf("at first the certificate of the files was not shown, or its end not told: %d", end.Load())
	}
	pool := x509.NewCertPool()
	pool.AddCert(first)
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp, err := client.Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.ProtoMajor != 1 {
		t.Errorf("HTTP/%d was spoken, %v", resp.ProtoMajor, err)
	}
	client.CloseIdleConnections()

	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: hooks\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(plain); !strings.Contains(string(text), "400 Bad Request") || !strings.Contains(string(text), "Use https.") {
		t.Errorf("without TLS %q was answered, %v", text, err)
	}
	if old, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was spoken", old.Close())
	}

	// Half of a renewal: the key does not belong to the certificate.
	whole, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the fault is told", func() bool { return strings.Contains(log.String(), "the old certificate is kept") })
	if !isShown(first) {
		t.Error("with a broken key another certificate was shown, or none")
	}
	_, _, second := servertest.SelfSigned(t, dir, "hooks.haderer.example", now.Add(-time.Hour), now.Add(24*time.Hour))
	eventually(t, "the new certificate is shown", func() bool { return isShown(second) })
	if end.Load() != second.NotAfter.Unix() {
		t.Errorf("its end was not told: %d", end.Load())
	}
	if problem := c.Problem(); problem != "" {
		t.Errorf("one with most of its time before it is problem: %s", problem)
	}
	_, _, third := servertest.SelfSigned(t, dir, "hooks.haderer.example", now.Add(-90*24*time.Hour), now.Add(10*24*time.Hour))
	eventually(t, "the third certificate is shown", func() bool { return isShown(third) })
	if problem := c.Problem(); !strings.Contains(problem, "has not been renewed") {
		t.Errorf("of one that should have been renewed it reports %q", problem)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A certificate that an earlier start got is shown before anything asked for another.
func TestAKeptCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	kept := map[string][]byte{}
	for name, until := range map[string]time.Time{"hooks.haderer.example": now.Add(time.Hour), "old.haderer.example": now.Add(-time.Minute)} {
		certFile, keyFile, _ := servertest.SelfSigned(t, dir, name, now.Add(-2*time.Hour), until)
		for _, file := range []string{keyFile, certFile} {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kept[name] = append(kept[name], text...)
		}
	}
	kept["broken.haderer.example"] = kept["hooks.haderer.example"][:200]
	kept["other.haderer.example"] = kept["hooks.haderer.example"]
	store := t.TempDir()
	for name, text := range kept {
		if err := os.WriteFile(filepath.Join(store, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	domains := []string{"hooks.haderer.example", "old.haderer.example", "broken.haderer.example", "other.haderer.example", "new.haderer.example"}
	c := server.NewCertificates(slog.New(slog.DiscardHandler), func(time.Time) {})
	c.Obtain(server.ACME{Domains: domains, Directory: "https://127.0.0.1:1/", Dir: store})
	address := secured(t, c)
	for _, name := range domains {
		if cert, err := servertest.Shown(address, name); (err == nil) != (name == domains[0]) {
			t.Errorf("%s was shown %v, %v", name, cert, err)
		}
	}
}

func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	return &pair, err
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
