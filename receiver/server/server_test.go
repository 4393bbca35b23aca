package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"tillhook/receiver/server"
)

// An answer that is given while the server shuts down says that it is the last one of its
// connection, however long ago the request came.
func TestTheLastAnswerSaysSo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came, goOn := make(chan struct{}), make(chan struct{})
	s := server.New(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-goOn
		_, _ = io.WriteString(w, "ok")
	}), slog.New(slog.DiscardHandler))
	ended, shut := make(chan error, 1), make(chan error, 1)
	go func() { ended <- s.Serve() }()
	type result struct {
		last bool
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
		resp, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			answered <- result{err: err}
			return
		}
		answered <- result{resp.Close, resp.Body.Close()}
	}()
	<-came
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		shut <- s.Shutdown(ctx)
	}()
	eventually(t, "the server accepts no connection", func() bool {
		conn, err := net.Dial("tcp", l.Addr().String())
		return err != nil || conn.Close() != nil
	})
	close(goOn)
	if r := <-answered; r.err != nil || !r.last {
		t.Errorf("the answer was the last one: %t, %v", r.last, r.err)
	}
	for _, done := range []chan error{ended, shut} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("within 15 s this did not become true: %s", what)
		}
	}
}
