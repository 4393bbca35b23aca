package receiver_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// ask asks the operator's socket, and returns the status and the answer.
func ask(t *testing.T, socket, path string) (status int, answer string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", socket)
	}}}
	resp, err := client.Get("http://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The ledger is moved away under the receiver, comes back, is cut short, and is deleted: no event
// is acknowledged that is not found after the next start, and each place that says how the receiver
// is says what happened.
func TestTheLedgerIsLost(t *testing.T) {
	t.Parallel()
	p := build(t)
	socket := filepath.Join(t.TempDir(), "operator.sock")
	p.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + socket}
	p.start(t)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	template := sample(t, "payment_intent.succeeded")
	path := ledger.Path(p.dir)
	var acked []string
	post := func(n int64) string {
		id, body := ownEvent(template, n)
		answer := p.once(t.Context(), client, body)
		if answer == "200" {
			acked = append(acked, id)
		}
		return answer
	}
	for n := range int64(10) {
		if answer := post(n); answer != "200" {
			t.Fatalf("an event is answered %s", answer)
		}
	}
	refused := func(says string) {
		t.Helper()
		for _, n := range []int64{3, 100} { // a repeat, and a new one
			if answer := post(n); answer != "503 storage_unavailable" {
				t.Errorf("event %d is answered %s", n, answer)
			}
		}
		if status, answer := ask(t, socket, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(answer, says) {
			t.Errorf("/readyz answers %d %s", status, answer)
		}
		status, answer := ask(t, socket, "/api/summary")
		var summary operator.Summary
		if err := json.Unmarshal([]byte(answer), &summary); err != nil || status != http.StatusOK || summary.Health.Status != "fail" ||
			!slices.ContainsFunc(summary.Health.Findings, func(s health.Finding) bool {
				return s.Code == health.Storage && s.Severity == "fail" && strings.HasPrefix(s.Message, "Every event is answered 503: ") && strings.Contains(s.Message, says) && s.Next != ""
			}) {
			t.Errorf("the summary is %d %s", status, answer)
		}
	}

	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	refused("was moved")
	if err := os.Rename(path+".moved", path); err != nil {
		t.Fatal(err)
	}
	comes(t, "events are acknowledged again", func() bool { return post(101) == "200" })

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if answer := post(3); answer != "503 storage_unavailable" {
		t.Errorf("a repeat is answered %s", answer)
	}
	ended := make(chan int, 1)
	go func() { _ = p.cmd.Wait(); ended <- p.cmd.ProcessState.ExitCode() }()
	select {
	case status := <-ended:
		if p.cmd = nil; status != 1 {
			t.Errorf("it ended with %d", status)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it goes on")
	}
	for _, says := range []string{"was moved", "was deleted while", "wrote it back, and its next start"} {
		if logged := p.log.String(); !strings.Contains(logged, says) {
			t.Errorf("the log does not say %q:\n%s", says, logged)
		}
	}
	kept(t, p.dir, acked)

	p.start(t)
	if answer := post(3); answer != "200" {
		t.Errorf("an acknowledged event is answered %s", answer)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	refused("was cut short")
}
