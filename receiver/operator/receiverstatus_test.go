package operator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
)

// fakeReceiver is a receiver and a comparison with Stripe that record what they were asked.
type fakeReceiver struct {
	asked  []string
	nonces int
	err    error
}

func (s *fakeReceiver) Status() operator.ReceiverStatus {
	return operator.ReceiverStatus{Version: "v1", Mode: "test", Verified: 3, Refused: []operator.Refusals{{Code: "signature_mismatch", Count: 2, Last: 7}}}
}

func (s *fakeReceiver) Probe() string {
	if s.nonces++; s.nonces > 1 {
		return ""
	}
	return "NONCE"
}

func (s *fakeReceiver) Reconcile(ctx context.Context, since time.Duration, dryRun bool) (any, error) {
	s.asked = append(s.asked, fmt.Sprint(since, dryRun))
	return map[string]int{"recovered": 4}, s.err
}

func (s *fakeReceiver) Progress() any { return map[string]bool{"running": true} }

func TestReceiverStatus(t *testing.T) {
	l := ledgertest.Open(t, false)
	s := &fakeReceiver{}
	op := operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler), Receiver: s, Reconciler: s})
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/api/receiver", 200, `{"object":"receiver","version":"v1","mode":"test"`},
		{"GET", "/api/receiver", 200, `"last_event":null,"verified":3,"refused":[{"code":"signature_mismatch","count":2,"last":7,"cause":null}]`},
		{"GET", "/api/receiver?x=1", 400, "invalid_request"},
		{"POST", "/api/receiver", 405, "invalid_request"},
		{"GET", "/api/probe", 405, "invalid_request"},
		{"POST", "/api/probe", 200, `{"object":"probe","nonce":"NONCE"}`},
		{"POST", "/api/probe", 503, "overloaded"},
		{"GET", "/api/reconcile", 200, `{"running":true}`},
		{"POST", "/api/reconcile", 200, `{"recovered":4}`},
		{"POST", "/api/reconcile?since=3600&dry_run=true", 200, `{"recovered":4}`},
		{"POST", "/api/reconcile?since=0", 400, "not a number of seconds"},
		{"POST", "/api/reconcile?since=2592001", 400, "30 days"},
		{"POST", "/api/reconcile?since=3h", 400, "not a number of seconds"},
		{"POST", "/api/reconcile?dry_run=yes", 400, "must be true or false"},
		{"DELETE", "/api/reconcile", 405, "invalid_request"},
	} {
		w := ask(op.Socket(), c.method, c.path, nil)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.says)
		}
		if w := ask(op.TCP(), c.method, c.path, nil); w.Code != 401 {
			t.Errorf("%s %s by TCP: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	if got := fmt.Sprint(s.asked); got != "[0s false 1h0m0s true]" {
		t.Errorf("it was asked %s", got)
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{{errors.New("Stripe answered 402"), 502, "stripe_unavailable"}, {fmt.Errorf("x: %w", ledger.ErrUnavailable), 503, "storage_unavailable"}} {
		s.err = c.err
		w := ask(op.Socket(), "POST", "/api/reconcile", nil)
		var said struct {
			Error  operator.Error
			Report struct{ Recovered int }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != c.status || said.Error.Code != c.code || said.Report.Recovered != 4 {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
	}
	none := operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler)})
	for method, path := range map[string]string{"GET": "/api/receiver", "POST": "/api/probe", "HEAD": "/api/reconcile"} {
		if method == "HEAD" {
			method = "POST"
		}
		if w := ask(none.Socket(), method, path, nil); w.Code != 409 || !strings.Contains(w.Body.String(), "needs a running receiver") && !strings.Contains(w.Body.String(), "no receiver is running") {
			t.Errorf("%s %s where none runs: %d %s", method, path, w.Code, w.Body)
		}
	}
}
