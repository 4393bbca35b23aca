package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/metrics"
	"tillhook/receiver"
	"tillhook/receiver/operator"
	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
)

const (
	secret = "whsec_aTestsOwnSecret"
	hook   = "/webhooks/stripe"
)

// shop is a receiver behind a real server, with a clock that stands.
type shop struct {
	books    *ledger.Ledger
	metrics  *metrics.Metrics
	client   *operator.Client
	server   *server.Server
	receiver *receiver.Receiver
	now      time.Time
	log      *lockedBuffer
}

func openShop(t *testing.T, livemode bool) *shop {
	t.Helper()
	s := &shop{books: ledgertest.Open(t, livemode), now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), log: &lockedBuffer{}}
	words := func(list ...string) []string { return list }
	s.metrics = metrics.New(metrics.Names{
		Types: stripe.Types[:], Outcomes: words("applied", "unchanged", "recorded", "quarantined"),
		Answers: words("applied", "unchanged", "recorded", "quarantined", "already_processed", "rejected", "failed"),
		Reasons: words("wrong_mode", "thin_event", "undecodable"), Version: "v0.0.0",
		Failures: words("missing_signature", "malformed_signature", "signature_mismatch", "timestamp_too_old", "timestamp_in_future"),
	})
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := receiver.New(receiver.Options{
		Path: hook, Livemode: livemode, MaxBody: 1 << 20, Ledger: s.books, Metrics: s.metrics, Log: log,
		Verifier: stripe.NewVerifier([]string{"whsec_anOlderOne", secret}, 5*time.Minute), Now: func() time.Time { return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.receiver, s.client = r, operator.Local(s.books)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.server = server.New(l, r, log)
	ended := make(chan error, 1)
	go func() { ended <- s.server.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	text   string
	Result struct {
		Status    string
		Reason    string
		EventID   string  `json:"event_id"`
		PaymentID *string `json:"payment_id"`
	}
	Error struct{ Code, Message string }
}

// word is the code or status of the answer.
func (a answer) word() string { return a.Result.Status + a.Error.Code }

func (s *shop) url(path string) string { return "http://" + s.server.Address().String() + path }

// do sends a request on a connection of its own and reads the answer.
func (s *shop) do(t *testing.T, r *http.Request) answer {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("the answer is no JSON: %q", text)
	}
	return a
}

func (s *shop) request(t *testing.T, method, path string, body io.Reader, signature ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url(path), body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Stripe-Signature"] = signature
	return r
}

// post signs a body now and delivers it.
func (s *shop) post(t *testing.T, body []byte) answer {
	t.Helper()
	return s.do(t, s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, secret, s.now)))
}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("../testdata/events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// get asks the operator's API and indents what it answers.
func (s *shop) get(t *testing.T, path string) string {
	t.Helper()
	text, err := s.client.Get(t.Context(), path, nil)
	if err != nil {
		return fmt.Sprintf("%v\n", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// counted are the series that say how much of what was counted, times and sizes left out.
func (s *shop) counted(t *testing.T) map[string]string {
	t.Helper()
	series := map[string]string{}
	r, err := http.NewRequest("GET", "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &page{header: http.Header{}}
	s.metrics.Handler().ServeHTTP(w, r)
	for line := range strings.Lines(w.body.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		family, _, _ := strings.Cut(name, "{")
		if ok && strings.HasPrefix(name, "tillhook_") && !strings.HasSuffix(family, "_bucket") && !strings.HasSuffix(family, "_sum") {
			series[name] = value
		}
	}
	return series
}

type page struct {
	header http.Header
	body   bytes.Buffer
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(int)             {}
func (p *page) Write(b []byte) (int, error) { return p.body.Write(b) }
