package metrics

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// apiCodes are the label values of failed calls to Stripe's API: HTTP statuses, and "network" for a
// call without an answer.
var apiCodes = []string{"400", "401", "403", "404", "409", "429", "500", "502", "503", "504", "network"}

// stripeMetrics are the metrics of what Stripe's API reports.
type stripeMetrics struct {
	failed    *prometheus.CounterVec
	recovered prometheus.Counter
	success   atomic.Pointer[time.Time] // time of the last complete comparison; nil if unknown
	audited   atomic.Pointer[time.Time] // time of the last endpoint check; nil if unknown
	accounts  atomic.Pointer[accounts]
	endpoint  atomic.Pointer[endpoint]
	skew      atomic.Pointer[time.Duration]
}

type endpoint struct {
	enabled bool
	missing int
}

type accounts struct{ compared, refused, waiting int }

var (
	audited = prometheus.NewDesc(namespace+"_endpoint_audit_last_success_timestamp_seconds",
		"Unix time when the endpoint was last checked at Stripe, 0 if never.", nil, nil)
	accountStates = prometheus.NewDesc(namespace+"_reconcile_accounts",
		"Stripe accounts by state of reconciliation: compared on time, refused by Stripe, or waiting.", []string{"state"}, nil)
	reconciled = prometheus.NewDesc(namespace+"_reconcile_last_success_timestamp_seconds",
		"Unix time when the ledger was last compared with Stripe's event list to the end, 0 if never.", nil, nil)
	endpointEnabled = prometheus.NewDesc(namespace+"_endpoint_enabled", "1 if the endpoint exists and is enabled at Stripe, 0 otherwise.", nil, nil)
	endpointMissing = prometheus.NewDesc(namespace+"_endpoint_missing_event_types", "Event types about money that are not selected for the endpoint at Stripe.", nil, nil)
	clockSkew       = prometheus.NewDesc(namespace+"_clock_skew_seconds", "Clock of this machine minus Stripe's clock, at Stripe's last answer.", nil, nil)
)

func (s *stripeMetrics) register(r *prometheus.Registry) {
	s.failed = newCounters("api_errors_total", "Failed calls to Stripe's API by HTTP status, every attempt counted; network means no answer.",
		[]string{"code"}, append(slices.Clone(apiCodes), otherType)...)
	s.recovered = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "reconcile_recovered_total",
		Help: "Missed events that were fetched from Stripe's API."})
	r.MustRegister(s.failed, s.recovered, s)
}

// APIError counts a failed call to Stripe's API.
func (m *Metrics) APIError(code string) {
	if !slices.Contains(apiCodes, code) {
		code = otherType
	}
	m.stripe.failed.WithLabelValues(code).Inc()
}

// Recovered counts a missed event that was fetched from Stripe's API.
func (m *Metrics) Recovered() { m.stripe.recovered.Inc() }

// Reconciled sets when the ledger was last compared with Stripe's event list to the end. The zero
// time or Unix time 0 means never: the series then has the value 0, so that an alert on its age
// fires.
func (m *Metrics) Reconciled(at time.Time) { m.stripe.success.Store(&at) }

// Audited sets when the endpoint was last checked at Stripe. The zero time or Unix time 0 means
// never, as for [Metrics.Reconciled].
func (m *Metrics) Audited(at time.Time) { m.stripe.audited.Store(&at) }

// Accounts sets how many Stripe accounts are compared on time, are refused by Stripe, and are
// waiting to be compared.
func (m *Metrics) Accounts(compared, refused, waiting int) {
	m.stripe.accounts.Store(&accounts{compared, refused, waiting})
}

// Endpoint sets the state of the endpoint at Stripe and the number of event types missing there.
func (m *Metrics) Endpoint(enabled bool, missing int) {
	m.stripe.endpoint.Store(&endpoint{enabled, missing})
}

// Skew sets how far this machine's clock is ahead of Stripe's.
func (m *Metrics) Skew(ahead time.Duration) { m.stripe.skew.Store(&ahead) }

func (s *stripeMetrics) Describe(ch chan<- *prometheus.Desc) {
	all := []*prometheus.Desc{reconciled, audited, accountStates, endpointEnabled, endpointMissing, clockSkew}
	for _, d := range all {
		ch <- d
	}
}

// Collect leaves out gauges with unknown values.
func (s *stripeMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	timestamp := func(d *prometheus.Desc, at *time.Time) {
		switch {
		case at == nil:
		case at.IsZero():
			gauge(d, 0)
		default:
			gauge(d, float64(at.UnixMilli())/1e3)
		}
	}
	timestamp(reconciled, s.success.Load())
	timestamp(audited, s.audited.Load())
	if a := s.accounts.Load(); a != nil {
		gauge(accountStates, float64(a.compared), "compared")
		gauge(accountStates, float64(a.refused), "refused")
		gauge(accountStates, float64(a.waiting), "waiting")
	}
	if e := s.endpoint.Load(); e != nil {
		enabled := 0.0
		if e.enabled {
			enabled = 1
		}
		gauge(endpointEnabled, enabled)
		gauge(endpointMissing, float64(e.missing))
	}
	if ahead := s.skew.Load(); ahead != nil {
		gauge(clockSkew, ahead.Seconds())
	}
}
