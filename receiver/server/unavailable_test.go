package server_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/receiver/server"
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
	if err := server.RejectAll(t.Context(), []net.Listener{l}, "Not yet.", slog.New(slog.DiscardHandler)); err != nil {
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
