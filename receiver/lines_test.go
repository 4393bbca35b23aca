package receiver_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// The program takes events, says so and stops in time while its log is not read, from its first
// line on.
func TestTheProgramAndALogThatIsNotRead(t *testing.T) {
	t.Parallel()
	p := build(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := w.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	for err == nil { // until the pipe is full
		_, err = w.Write(bytes.Repeat([]byte("-"), 4096))
	}
	socket := filepath.Join(t.TempDir(), "o.sock")
	p.env = []string{"TILLHOOK_LOG_LEVEL=debug", "TILLHOOK_OPERATOR_SOCKET=" + socket}
	p.logTo = w
	p.start(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Long words make long lines: what is sent makes twice what may wait.
	body := bytes.Replace(sample(t, "payment_intent.succeeded"), []byte("evt_3wBTwEKvHadernBlBPBleRA0"), []byte("evt_"+strings.Repeat("x", 250)), 1)
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
			defer client.CloseIdleConnections()
			for range 700 {
				if answer := p.onceSigned(t.Context(), client, body, stripe.Sign(body, secret, time.Now())); answer != "200" {
					t.Errorf("an event was answered %s", answer)
					return
				}
			}
		})
	}
	senders.Wait()
	asks := operator.Dial(socket)
	metrics, err := asks.Get(t.Context(), "/metrics", nil)
	if err != nil || bytes.Contains(metrics, []byte("\ntillhook_log_lines_dropped_total 0\n")) {
		t.Errorf("no dropped line was counted, %v", err)
	}
	summary, err := asks.Get(t.Context(), "/api/summary", nil)
	if err != nil || !bytes.Contains(summary, []byte("The log is not read")) {
		t.Errorf("the health is %s, %v", summary, err)
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
}
