package metrics_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/metrics"
)

func newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Names{
		Types: []string{"a.done"}, Outcomes: []string{"applied", "quarantined"}, Answers: []string{"applied", "rejected"},
		Reasons: []string{"thin_event"}, Failures: []string{"missing_signature"}, Version: "v1.2.3",
	})
}

// scrape returns the exposition, and the lines of Tillhook's own series without buckets.
func scrape(t *testing.T, m *metrics.Metrics) (whole string, own []string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	whole = w.Body.String()
	for line := range strings.Lines(whole) {
		if strings.HasPrefix(line, "tillhook_") && !strings.Contains(line, "_bucket{") {
			own = append(own, strings.TrimSpace(line))
		}
	}
	return whole, own
}

func TestEverySeriesExistsFromTheStart(t *testing.T) {
	_, own := scrape(t, newMetrics())
	want := []string{
		`tillhook_api_errors_total{code="400"} 0`,
		`tillhook_api_errors_total{code="401"} 0`,
		`tillhook_api_errors_total{code="403"} 0`,
		`tillhook_api_errors_total{code="404"} 0`,
		`tillhook_api_errors_total{code="409"} 0`,
		`tillhook_api_errors_total{code="429"} 0`,
		`tillhook_api_errors_total{code="500"} 0`,
		`tillhook_api_errors_total{code="502"} 0`,
		`tillhook_api_errors_total{code="503"} 0`,
		`tillhook_api_errors_total{code="504"} 0`,
		`tillhook_api_errors_total{code="network"} 0`,
		`tillhook_api_errors_total{code="other"} 0`,
		`tillhook_backup_failures_total 0`,
		`tillhook_duplicate_events_total 0`,
		`tillhook_event_delivery_lag_seconds_count 0`,
		`tillhook_event_delivery_lag_seconds_sum 0`,
		`tillhook_events_total{outcome="applied",type="a.done"} 0`,
		`tillhook_events_total{outcome="applied",type="other"} 0`,
		`tillhook_events_total{outcome="quarantined",type="a.done"} 0`,
		`tillhook_events_total{outcome="quarantined",type="other"} 0`,
		`tillhook_expired_bodies_total 0`,
		`tillhook_ledger_commit_duration_seconds_count 0`,
		`tillhook_ledger_commit_duration_seconds_sum 0`,
		`tillhook_ledger_commit_events_count 0`,
		`tillhook_ledger_commit_events_sum 0`,
		`tillhook_log_lines_dropped_total 0`,
		`tillhook_quarantined_events_total{reason="thin_event"} 0`,
		`tillhook_reconcile_recovered_total 0`,
		`tillhook_signature_failures_total{reason="missing_signature"} 0`,
		`tillhook_unexpected_api_version_events_total 0`,
		`tillhook_unlinked_events_total{type="a.done"} 0`,
		`tillhook_unlinked_events_total{type="other"} 0`,
		`tillhook_webhook_duration_seconds_count{outcome="applied"} 0`,
		`tillhook_webhook_duration_seconds_count{outcome="rejected"} 0`,
		`tillhook_webhook_duration_seconds_sum{outcome="applied"} 0`,
		`tillhook_webhook_duration_seconds_sum{outcome="rejected"} 0`,
		`tillhook_webhook_requests_total{code="200"} 0`,
		`tillhook_webhook_requests_total{code="400"} 0`,
		`tillhook_webhook_requests_total{code="403"} 0`,
		`tillhook_webhook_requests_total{code="404"} 0`,
		`tillhook_webhook_requests_total{code="405"} 0`,
		`tillhook_webhook_requests_total{code="408"} 0`,
		`tillhook_webhook_requests_total{code="413"} 0`,
		`tillhook_webhook_requests_total{code="503"} 0`,
	}
	own = slices.DeleteFunc(own, func(line string) bool { return strings.HasPrefix(line, "tillhook_build_info{") })
	slices.Sort(own)
	if !slices.Equal(own, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(own, "\n"), strings.Join(want, "\n"))
	}
}

func TestCounters(t *testing.T) {
	m := newMetrics()
	m.Request(200, "applied", 3*time.Millisecond)
	m.Event("a.done", "applied", "", 2*time.Second)
	m.Event("unknown.type", "quarantined", "thin_event", -1)
	m.Duplicate()
	m.UnexpectedVersion()
	m.SignatureFailure("missing_signature")
	m.Commit(time.Millisecond, 7)
	m.LastEvent(time.UnixMilli(1780000000500))
	m.LastEvent(time.UnixMilli(1770000000000))
	m.BackupSuccess(time.Unix(1790000000, 0))
	m.Unlinked("a.done")
	m.APIError("429")
	m.APIError("418")
	m.Recovered()
	m.Reconciled(time.Unix(1790000001, 0))
	m.Audited(time.Unix(1790000002, 0))
	m.Accounts(297, 2, 1)
	m.Endpoint(true, 3)
	m.Skew(-1500 * time.Millisecond)
	whole, own := scrape(t, m)
	for _, want := range []string{
		`tillhook_webhook_requests_total{code="200"} 1`,
		`tillhook_webhook_duration_seconds_sum{outcome="applied"} 0.003`,
		`tillhook_events_total{outcome="applied",type="a.done"} 1`,
		`tillhook_unlinked_events_total{type="a.done"} 1`,
		`tillhook_events_total{outcome="quarantined",type="other"} 1`,
		`tillhook_quarantined_events_total{reason="thin_event"} 1`,
		`tillhook_event_delivery_lag_seconds_count 1`,
		`tillhook_duplicate_events_total 1`,
		`tillhook_api_errors_total{code="429"} 1`,
		`tillhook_api_errors_total{code="other"} 1`,
		`tillhook_reconcile_recovered_total 1`,
		`tillhook_reconcile_last_success_timestamp_seconds 1.790000001e+09`,
		`tillhook_endpoint_audit_last_success_timestamp_seconds 1.790000002e+09`,
		`tillhook_reconcile_accounts{state="compared"} 297`,
		`tillhook_reconcile_accounts{state="refused"} 2`,
		`tillhook_reconcile_accounts{state="waiting"} 1`,
		`tillhook_endpoint_enabled 1`,
		`tillhook_endpoint_missing_event_types 3`,
		`tillhook_clock_skew_seconds -1.5`,
		`tillhook_unexpected_api_version_events_total 1`,
		`tillhook_signature_failures_total{reason="missing_signature"} 1`,
		`tillhook_ledger_commit_events_sum 7`,
		`tillhook_last_event_timestamp_seconds 1.7800000005e+09`,
		`tillhook_backup_last_success_timestamp_seconds 1.79e+09`,
	} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is missing in\n%s", want, strings.Join(own, "\n"))
		}
	}
	if strings.Contains(whole, "unknown.type") {
		t.Error("an unknown event type became a label")
	}
}

// An alert on the age of a success that never happened needs a series.
func TestSuccessThatNeverHappened(t *testing.T) {
	m := newMetrics()
	if _, own := scrape(t, m); slices.ContainsFunc(own, func(line string) bool { return strings.Contains(line, "last_success") }) {
		t.Errorf("before it is known there is\n%s", strings.Join(own, "\n"))
	}
	m.Reconciled(time.Time{})
	m.Audited(time.Unix(0, 0))
	_, own := scrape(t, m)
	for _, want := range []string{"tillhook_reconcile_last_success_timestamp_seconds 0", "tillhook_endpoint_audit_last_success_timestamp_seconds 0"} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is missing in\n%s", want, strings.Join(own, "\n"))
		}
	}
}

func TestLedgerFigures(t *testing.T) {
	m := newMetrics()
	var fail error
	m.WatchLedger(func() (metrics.Ledger, error) {
		return metrics.Ledger{SizeBytes: 4096, FreeBytes: 100, Events: 12, Flagged: map[string]uint64{"conflict": 1}, Payments: map[string]uint64{"succeeded": 9},
			Quarantine: map[string]map[string]uint64{"thin_event": {"attention": 0, "expected": 4}}}, fail
	})
	_, own := scrape(t, m)
	for _, want := range []string{`tillhook_ledger_size_bytes 4096`, `tillhook_ledger_free_bytes 100`, `tillhook_ledger_events 12`,
		`tillhook_ledger_flagged_payments{flag="conflict"} 1`, `tillhook_ledger_payments{status="succeeded"} 9`,
		`tillhook_quarantine_events{reason="thin_event",state="attention"} 0`, `tillhook_quarantine_events{reason="thin_event",state="expected"} 4`} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is missing in %v", want, own)
		}
	}
	fail = errors.New("closed")
	if whole, _ := scrape(t, m); strings.Contains(whole, "tillhook_ledger_size_bytes") {
		t.Error("an unknown figure is shown")
	}
}

func TestHealthFindings(t *testing.T) {
	m := newMetrics()
	var severities map[string]string
	m.WatchHealth(func() map[string]string { return severities })
	if whole, _ := scrape(t, m); strings.Contains(whole, "tillhook_health_finding") {
		t.Error("there is a finding before any is known")
	}
	severities = map[string]string{"storage": "fail", "endpoint": "unknown"}
	_, own := scrape(t, m)
	for _, want := range []string{`tillhook_health_finding{code="storage",severity="fail"} 1`, `tillhook_health_finding{code="storage",severity="ok"} 0`,
		`tillhook_health_finding{code="endpoint",severity="warn"} 0`} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is missing in %v", want, own)
		}
	}
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("promtool is not installed (Debian: apt-get install prometheus)")
	}
	m := newMetrics()
	m.LastEvent(time.Now())
	m.WatchLedger(func() (metrics.Ledger, error) {
		return metrics.Ledger{Payments: map[string]uint64{"none": 1}, Quarantine: map[string]map[string]uint64{"thin_event": {"attention": 0}}, Flagged: map[string]uint64{"conflict": 0}}, nil
	})
	m.WatchHealth(func() map[string]string { return map[string]string{"storage": "ok"} })
	whole, _ := scrape(t, m)
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(whole)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestDroppedLines(t *testing.T) {
	m := metrics.New(metrics.Names{})
	dropped := uint64(0)
	m.WatchLog(func() uint64 { return dropped })
	for _, dropped = range []uint64{0, 7} {
		if text, _ := scrape(t, m); !strings.Contains(text, fmt.Sprintf("tillhook_log_lines_dropped_total %d\n", dropped)) {
			t.Errorf("%d dropped lines are not in a scrape", dropped)
		}
	}
}
