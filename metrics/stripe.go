package metrics

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// apiCodes are how calls to Stripe's API fail that are counted by themselves: HTTP statuses, and a call that got no answer.
var apiCodes = []string{"400", "401", "403", "404", "409", "429", "500", "502", "503", "504", "network"}

// stripeSide are the instruments of what is learned from Stripe's API.
type stripeSide struct {
	failed    *prometheus.CounterVec
	recovered prometheus.Counter
	success   atomic.Pointer[time.Time] // nil while it is not known whether there was one
	audited   atomic.Pointer[time.Time] // likewise
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
		"When the endpoint was last looked up at Stripe; 0 if it never was.", nil, nil)
	accountStates = prometheus.NewDesc(namespace+"_reconcile_accounts",
		"Stripe accounts by how they are compared: compared in time, refused by Stripe, or waiting for it.", []string{"state"}, nil)
	reconciled = prometheus.NewDesc(namespace+"_reconcile_last_success_timestamp_seconds",
		"When the events in Stripe's list were last compared with the ledger to the end; 0 if they never were.", nil, nil)
	endpointEnabled = prometheus.NewDesc(namespace+"_endpoint_enabled", "Whether the endpoint at Stripe is there and enabled.", nil, nil)
	endpointMissing = prometheus.NewDesc(namespace+"_endpoint_missing_event_types", "Event types that move money and that Stripe does not send to the endpoint.", nil, nil)
	clockSkew       = prometheus.NewDesc(namespace+"_clock_skew_seconds", "This machine's clock less Stripe's, as of Stripe's last answer.", nil, nil)
)

func (s *stripeSide) register(r *prometheus.Registry) {
	s.failed = counters("api_errors_total", "Calls to Stripe's API that failed, each try, by HTTP status; network is no answer.",
		[]string{"code"}, append(slices.Clone(apiCodes), otherType)...)
	s.recovered = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "reconcile_recovered_total",
		Help: "Events that were missed and were fetched from Stripe's list."})
	r.MustRegister(s.failed, s.recovered, s)
}

// APIError counts a call to Stripe's API that failed.
func (m *Metrics) APIError(code string) {
	if !slices.Contains(apiCodes, code) {
		code = otherType
	}
	m.stripe.failed.WithLabelValues(code).Inc()
}

// Recovered counts an event that was missed and then fetched.
func (m *Metrics) Recovered() { m.stripe.recovered.Inc() }

// Reconciled sets when the ledger was last compared with Stripe's list to the end. The zero time,
// or Unix time 0, is never: the series exists then, so that an alert on its age fires.
func (m *Metrics) Reconciled(at time.Time) { m.stripe.success.Store(&at) }

// Audited sets when the endpoint was last looked up at Stripe, in the same way.
func (m *Metrics) Audited(at time.Time) { m.stripe.audited.Store(&at) }

// Accounts sets how many Stripe accounts are compared in time, are refused by Stripe, and wait to
// be compared.
func (m *Metrics) Accounts(compared, refused, waiting int) {
	m.stripe.accounts.Store(&accounts{compared, refused, waiting})
}

// Endpoint tells how the endpoint at Stripe stands.
func (m *Metrics) Endpoint(enabled bool, missing int) {
	m.stripe.endpoint.Store(&endpoint{enabled, missing})
}

// Skew tells how far this machine's clock is ahead of Stripe's.
func (m *Metrics) Skew(ahead time.Duration) { m.stripe.skew.Store(&ahead) }

func (s *stripeSide) Describe(ch chan<- *prometheus.Desc) {
	all := []*prometheus.Desc{reconciled, audited, accountStates, endpointEnabled, endpointMissing, clockSkew}
	for _, d := range all {
		ch <- d
	}
}

// Collect leaves out what is not known.
func (s *stripeSide) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	moment := func(d *prometheus.Desc, at *time.Time) {
		switch {
		case at == nil:
		case at.IsZero():
			gauge(d, 0)
		default:
			gauge(d, float64(at.UnixMilli())/1e3)
		}
	}
	moment(reconciled, s.success.Load())
	moment(audited, s.audited.Load())
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
