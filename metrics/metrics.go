// Package metrics holds all Prometheus metrics of a receiver in one registry. The other packages
// report numbers through the methods of [Metrics], and package receiver supplies the label values,
// so the package imports no other package of the program.
//
// Labels are bounded whatever is sent: an event type that is not listed is counted as "other".
// Counters exist at 0 from the start. A gauge with an unknown value is absent, because 0 would
// raise alerts.
package metrics

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const namespace = "tillhook"

// otherType is the label value of event types that are not in Names.Types, and of API errors that
// are not in apiCodes.
const otherType = "other"

// Names are the possible values of labels. New creates a series for each.
type Names struct {
	Types    []string // event types that are counted under their own name
	Outcomes []string // outcomes of an event in the ledger
	Answers  []string // outcomes of a request: those of events and the refusals
	Reasons  []string // quarantine reasons
	Failures []string // reasons for rejecting a signature
	Version  string   // version of this program
}

// statusCodes are the HTTP statuses that the webhook listener answers with.
var statusCodes = []int{200, 400, 403, 404, 405, 408, 413, 503}

// Metrics holds the metrics of a receiver. Its methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	types    []string

	requests       *prometheus.CounterVec
	failures       *prometheus.CounterVec
	events         *prometheus.CounterVec
	quarantined    *prometheus.CounterVec
	unlinked       *prometheus.CounterVec
	duplicates     prometheus.Counter
	backupFailures prometheus.Counter
	expired        prometheus.Counter
	versions       prometheus.Counter
	duration       *prometheus.HistogramVec
	lag            prometheus.Histogram
	commit         prometheus.Histogram
	commitSize     prometheus.Histogram

	stripe stripeMetrics

	lastEvent         atomic.Int64 // Unix milliseconds, 0 if unknown
	lastBackup        atomic.Int64
	certificateExpiry atomic.Int64
	dropped           atomic.Pointer[func() uint64] // nil before WatchLog
}

// New returns Metrics with a registry of its own and all series created.
func New(names Names) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		types:    names.Types,
		requests: newCounters("webhook_requests_total", "Requests to the webhook listener by HTTP status of the answer.",
			[]string{"code"}),
		failures: newCounters("signature_failures_total", "Requests with a rejected signature, by reason.",
			[]string{"reason"}),
		events: newCounters("events_total", "Events stored in the ledger by type and outcome. A repeated delivery is not counted; an event that leaves quarantine is counted again with its new outcome.",
			[]string{"type", "outcome"}),
		quarantined: newCounters("quarantined_events_total", "Authentic events that were quarantined since the start, by reason. tillhook_quarantine_events has the events in quarantine now.",
			[]string{"reason"}, names.Reasons...),
		unlinked: newCounters("unlinked_events_total", "Events about money that belong to no payment, because they name neither a PaymentIntent nor a charge.",
			[]string{"type"}, append(slices.Clone(names.Types), otherType)...),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "duplicate_events_total",
			Help: "Repeated deliveries of events."}),
		backupFailures: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "backup_failures_total",
			Help: "Scheduled backups that failed or could not be verified."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "expired_bodies_total",
			Help: "Raw event bodies deleted because their retention period had ended."}),
		versions: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "unexpected_api_version_events_total",
			Help: "Events decoded although their API version was not tested with this version of Tillhook."}),
		duration: prometheus.NewHistogramVec(histogram("webhook_duration_seconds",
			"Time from the header of a webhook request to its answer, by outcome.",
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5), []string{"outcome"}),
		lag: prometheus.NewHistogram(histogram("event_delivery_lag_seconds",
			"Time from an event's creation at Stripe to its first delivery, by both clocks.",
			0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 21600, 86400, 259200)),
		commit: prometheus.NewHistogram(histogram("ledger_commit_duration_seconds",
			"Duration of a ledger commit, including both syncs to disk.",
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)),
		commitSize: prometheus.NewHistogram(histogram("ledger_commit_events",
			"Deliveries per ledger commit.",
			1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)),
	}
	for _, answer := range names.Answers {
		m.duration.WithLabelValues(answer)
	}
	for _, reason := range names.Failures {
		m.failures.WithLabelValues(reason)
	}
	for _, status := range statusCodes {
		m.requests.WithLabelValues(strconv.Itoa(status))
	}
	for _, typ := range append(slices.Clone(names.Types), otherType) {
		for _, outcome := range names.Outcomes {
			m.events.WithLabelValues(typ, outcome)
		}
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1; the labels show the version of Tillhook and of Go."}, []string{"version", "goversion"})
	build.WithLabelValues(names.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.requests, m.failures, m.events, m.quarantined, m.unlinked, m.duplicates, m.backupFailures, m.expired, m.versions, m.duration, m.lag, m.commit,
		m.commitSize, build, newLastEvent(m), newLastBackup(m), newExpiry(m), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: "log_lines_dropped_total",
		Help: "Log lines dropped because the reader of the log was too slow or writing failed."}, m.linesDropped))
	m.stripe.register(m.registry)
	return m
}

// newCounters returns a counter vector with a series for each of values. Vectors with two labels or
// with numbers as label values get their series in New.
func newCounters(name, help string, labels []string, values ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	for _, v := range values {
		c.WithLabelValues(v)
	}
	return c
}

// histogram returns options for a classic and native histogram, so that every Prometheus version
// can read it.
func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour}
}

// Handler returns the handler of /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Request counts a request to the webhook listener and observes how long it took.
func (m *Metrics) Request(status int, outcome string, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(outcome).Observe(took.Seconds())
}

// SignatureFailure counts a rejected signature.
func (m *Metrics) SignatureFailure(reason string) {
	m.failures.WithLabelValues(reason).Inc()
}

// Event counts an event that was stored for the first time or left quarantine. reason is the
// quarantine reason, if any. lag is the age of the event by Stripe's clock; a negative lag is not
// observed.
func (m *Metrics) Event(typ, outcome, reason string, lag time.Duration) {
	typ = m.label(typ)
	m.events.WithLabelValues(typ, outcome).Inc()
	if reason != "" {
		m.quarantined.WithLabelValues(reason).Inc()
	}
	if lag >= 0 {
		m.lag.Observe(lag.Seconds())
	}
}

// label returns the label value for an event type.
func (m *Metrics) label(typ string) string {
	if !slices.Contains(m.types, typ) {
		return otherType
	}
	return typ
}

// Unlinked counts an event about money that belongs to no payment.
func (m *Metrics) Unlinked(typ string) { m.unlinked.WithLabelValues(m.label(typ)).Inc() }

// Duplicate counts a repeated delivery of an event.
func (m *Metrics) Duplicate() { m.duplicates.Inc() }

// UnexpectedVersion counts an event with an API version that this program was not tested with.
func (m *Metrics) UnexpectedVersion() { m.versions.Inc() }

// LastEvent sets the time of the last authentic event, unless a later one is known.
func (m *Metrics) LastEvent(at time.Time) {
	for ms := at.UnixMilli(); ; {
		last := m.lastEvent.Load()
		if ms <= last || m.lastEvent.CompareAndSwap(last, ms) {
			return
		}
	}
}

// Commit observes a commit of the ledger, successful or not.
func (m *Metrics) Commit(took time.Duration, events int) {
	m.commit.Observe(took.Seconds())
	m.commitSize.Observe(float64(events))
}

// BackupSuccess sets the time of the newest verified backup.
func (m *Metrics) BackupSuccess(at time.Time) { m.lastBackup.Store(at.UnixMilli()) }

// CertificateExpiry sets when the certificate of the webhook listener expires, the first of
// several.
func (m *Metrics) CertificateExpiry(end time.Time) { m.certificateExpiry.Store(end.UnixMilli()) }

// BackupFailure counts a failed backup.
func (m *Metrics) BackupFailure() { m.backupFailures.Inc() }

// ExpiredBodies counts bodies that retention deleted.
func (m *Metrics) ExpiredBodies(bodies int) { m.expired.Add(float64(bodies)) }

// WatchLog makes every scrape call dropped, which returns the number of dropped log lines since the
// start.
func (m *Metrics) WatchLog(dropped func() uint64) { m.dropped.Store(&dropped) }

func (m *Metrics) linesDropped() float64 {
	if dropped := m.dropped.Load(); dropped != nil {
		return float64((*dropped)())
	}
	return 0
}

// timestampGauge is a gauge of a time in Unix seconds. It is absent until the time is known.
type timestampGauge struct {
	desc *prometheus.Desc
	at   *atomic.Int64 // Unix milliseconds
}

func newLastEvent(m *Metrics) timestampGauge {
	return timestampGauge{prometheus.NewDesc(namespace+"_last_event_timestamp_seconds", "Unix time of the last authentic event, including repeated deliveries.", nil, nil), &m.lastEvent}
}

func newLastBackup(m *Metrics) timestampGauge {
	return timestampGauge{prometheus.NewDesc(namespace+"_backup_last_success_timestamp_seconds", "Unix time of the last verified scheduled backup.", nil, nil), &m.lastBackup}
}

func newExpiry(m *Metrics) timestampGauge {
	return timestampGauge{prometheus.NewDesc(namespace+"_certificate_expiry_timestamp_seconds", "Unix time when the certificate of the webhook listener expires.", nil, nil), &m.certificateExpiry}
}

func (g timestampGauge) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

func (g timestampGauge) Collect(ch chan<- prometheus.Metric) {
	if ms := g.at.Load(); ms != 0 {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(ms)/1e3)
	}
}
