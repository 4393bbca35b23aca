package server_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"tillhook/receiver/server"
)

// A port that could not be opened is opened once it is free, and the problem is gone.
func TestAPortIsOpenedLater(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	port := &server.Port{Address: other.Addr().String(), Listen: server.Listen, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	if address := port.Open(); address != "" || port.Problem() == "" {
		t.Errorf("a port in use was opened as %q, problem %q", address, port.Problem())
	}
	ended := make(chan error, 1)
	go func() { ended <- port.Run(ctx) }()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port answers", func() bool { return answers(port.Address) })
	if problem := port.Problem(); problem != "" {
		t.Errorf("it says %q", problem)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if answers(port.Address) {
		t.Error("it answers after the end")
	}
}

// answers reports whether a server answers 200.
func answers(address string) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
