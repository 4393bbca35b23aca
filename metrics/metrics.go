// Package metrics holds every instrument of a receiver in one list, on a registry of its own. It
// knows none of the other rooms: they hand it numbers, main hands it the names they use.
//
// Labels are bounded whatever is sent: an event type that is not in the list is "other". Counters
// exist from the start at 0; a gauge whose value is not known is absent, because a 0 would raise alerts.
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

// otherType is the label of an event type that is not in Names.Types.
const otherType = "other"

// Names are the values that labels can have, so that every series exists from the start.
type Names struct {
	Types    []string // event types that are counted by their own name
	Outcomes []string // outcomes an event is recorded with
	Answers  []string // outcomes of a request: those, and what else a sender can be told
	Reasons  []string // why an event is in quarantine
	Failures []string // why a signature was not accepted
	Version  string   // of this program
}

// statusCodes are the HTTP statuses of the public door.
var statusCodes = []int{200, 400, 403, 404, 405, 408, 413, 503}

// Metrics are the instruments. Their methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry
	types    []string

	answers     map[string]prometheus.Observer   // duration by outcome
	codes       map[int]prometheus.Counter       // requests by status
	refused     map[string]prometheus.Counter    // signatures by reason
	booked      map[[2]string]prometheus.Counter // events by type and outcome
	requests    *prometheus.CounterVec
	failures    *prometheus.CounterVec
	events      *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	unlinked    *prometheus.CounterVec
	duplicates  prometheus.Counter
	noBackup    prometheus.Counter
	expired     prometheus.Counter
	versions    prometheus.Counter
	duration    *prometheus.HistogramVec
	lag         prometheus.Histogram
	commit      prometheus.Histogram
	commitSize  prometheus.Histogram

	stripe stripeSide

	lastEvent  atomic.Int64 // Unix milliseconds, 0 while there was none
	lastBackup atomic.Int64
	expiry     atomic.Int64
	dropped    atomic.Pointer[func() uint64] // lines of the log; nil before WatchLog
}

// New makes the instruments with all their series.
func New(names Names) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		types:    names.Types,
		answers:  map[string]prometheus.Observer{},
		codes:    map[int]prometheus.Counter{},
		refused:  map[string]prometheus.Counter{},
		booked:   map[[2]string]prometheus.Counter{},
		requests: counters("webhook_requests_total", "Requests on the public door by the HTTP status they were answered with.",
			[]string{"code"}),
		failures: counters("signature_failures_total", "Requests whose signature was not accepted, by reason.",
			[]string{"reason"}),
		events: counters("events_total", "Events written to the ledger, each once, by type and by what came of them; one that leaves quarantine counts again as what it then is.",
			[]string{"type", "outcome"}),
		quarantined: counters("quarantined_events_total", "Authentic events that could not be used and were put in quarantine since the start, by reason. What lies there now is tillhook_quarantine_events.",
			[]string{"reason"}, names.Reasons...),
		unlinked: counters("unlinked_events_total", "Events about money that name neither a PaymentIntent nor a charge, and so belong to no payment.",
			[]string{"type"}, append(slices.Clone(names.Types), otherType)...),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "duplicate_events_total",
			Help: "Deliveries of events that had been delivered before."}),
		noBackup: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "backup_failures_total",
			Help: "Tries to make a scheduled copy of the ledger that failed, or made one that did not verify."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "expired_bodies_total",
			Help: "Raw bodies that were deleted because they were older than they are to be kept."}),
		versions: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "unexpected_api_version_events_total",
			Help: "Events that were decoded although their API version is not one this program was tested with."}),
		duration: prometheus.NewHistogramVec(histogram("webhook_duration_seconds",
			"Time from a request's header to its answer, by what came of it.",
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5), []string{"outcome"}),
		lag: prometheus.NewHistogram(histogram("event_delivery_lag_seconds",
			"Time from an event's creation by Stripe's clock to its first delivery by ours.",
			0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 21600, 86400, 259200)),
		commit: prometheus.NewHistogram(histogram("ledger_commit_duration_seconds",
			"Time a commit took, both of its syncs included.",
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)),
		commitSize: prometheus.NewHistogram(histogram("ledger_commit_events",
			"Deliveries that were answered by one commit.",
			1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)),
	}
	for _, answer := range names.Answers {
		m.answers[answer] = m.duration.WithLabelValues(answer)
	}
	for _, reason := range names.Failures {
		m.refused[reason] = m.failures.WithLabelValues(reason)
	}
	for _, status := range statusCodes {
		m.codes[status] = m.requests.WithLabelValues(strconv.Itoa(status))
	}
	for _, typ := range append(slices.Clone(names.Types), otherType) {
		for _, outcome := range names.Outcomes {
			m.booked[[2]string{typ, outcome}] = m.events.WithLabelValues(typ, outcome)
		}
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1; the labels say what is running."}, []string{"version", "goversion"})
	build.WithLabelValues(names.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(m.requests, m.failures, m.events, m.quarantined, m.unlinked, m.duplicates, m.noBackup, m.expired, m.versions, m.duration, m.lag, m.commit,
		m.commitSize, build, newLastEvent(m), newLastBackup(m), newExpiry(m), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: "log_lines_dropped_total",
		Help: "Lines of the log that were dropped because the log was not read, or could not be written."}, m.linesDropped))
	m.stripe.register(m.registry)
	return m
}

// counters makes a counter with a series for every value that its label can have; where there are two labels, or numbers, New
// makes them.
func counters(name, help string, labels []string, values ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	for _, v := range values {
		c.WithLabelValues(v)
	}
	return c
}

// histogram is classic and native at once: a Prometheus of any age can use it.
func histogram(name, help string, buckets ...float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour}
}

// Handler serves the exposition.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// Request counts an answered request of the public door, and the time it took by its outcome.
func (m *Metrics) Request(status int, outcome string, took time.Duration) {
	if c, ok := m.codes[status]; ok {
		c.Inc()
	} else {
		m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	duration, ok := m.answers[outcome]
	if !ok {
		duration = m.duration.WithLabelValues(outcome)
	}
	duration.Observe(took.Seconds())
}

// SignatureFailure counts a signature that was not accepted.
func (m *Metrics) SignatureFailure(reason string) {
	if c, ok := m.refused[reason]; ok {
		c.Inc()
	} else {
		m.failures.WithLabelValues(reason).Inc()
	}
}

// Event counts an event that was written to the ledger for the first time, or left its quarantine.
// lag is how old it was by Stripe's clock; a negative one is not observed.
func (m *Metrics) Event(typ, outcome, reason string, lag time.Duration) {
	typ = m.label(typ)
	if c, ok := m.booked[[2]string{typ, outcome}]; ok {
		c.Inc()
	} else {
		m.events.WithLabelValues(typ, outcome).Inc()
	}
	if reason != "" {
		m.quarantined.WithLabelValues(reason).Inc()
	}
	if lag >= 0 {
		m.lag.Observe(lag.Seconds())
	}
}

// label is the type itself where that is counted by its own name.
func (m *Metrics) label(typ string) string {
	if !slices.Contains(m.types, typ) {
		return otherType
	}
	return typ
}

// Unlinked counts an event about money that belongs to no payment.
func (m *Metrics) Unlinked(typ string) { m.unlinked.WithLabelValues(m.label(typ)).Inc() }

// Duplicate counts a delivery of an event that had been delivered before.
func (m *Metrics) Duplicate() { m.duplicates.Inc() }

// UnexpectedVersion counts an event of an API version that nobody has tested.
func (m *Metrics) UnexpectedVersion() { m.versions.Inc() }

// Seen notes when an authentic event came. An earlier time than the one known changes nothing.
func (m *Metrics) Seen(at time.Time) {
	for ms := at.UnixMilli(); ; {
		last := m.lastEvent.Load()
		if ms <= last || m.lastEvent.CompareAndSwap(last, ms) {
			return
		}
	}
}

// Commit observes one commit of the ledger, failed or not.
func (m *Metrics) Commit(took time.Duration, events int) {
	m.commit.Observe(took.Seconds())
	m.commitSize.Observe(float64(events))
}

// Backup notes when the newest verified copy of the ledger was made.
func (m *Metrics) Backup(at time.Time) { m.lastBackup.Store(at.UnixMilli()) }

// Certificate tells when the public door's certificate ends, the first to end where there are several.
func (m *Metrics) Certificate(end time.Time) { m.expiry.Store(end.UnixMilli()) }

// NoBackup counts a try to make a copy that failed.
func (m *Metrics) NoBackup() { m.noBackup.Inc() }

// Expired counts bodies that retention deleted.
func (m *Metrics) Expired(bodies int) { m.expired.Add(float64(bodies)) }

// WatchLog has dropped, which returns how many lines of the log were dropped since the start, asked
// at each scrape.
func (m *Metrics) WatchLog(dropped func() uint64) { m.dropped.Store(&dropped) }

func (m *Metrics) linesDropped() float64 {
	if dropped := m.dropped.Load(); dropped != nil {
		return float64((*dropped)())
	}
	return 0
}

// moment is a gauge of a time, absent until there was one.
type moment struct {
	desc *prometheus.Desc
	at   *atomic.Int64 // Unix milliseconds
}

func newLastEvent(m *Metrics) moment {
	return moment{prometheus.NewDesc(namespace+"_last_event_timestamp_seconds", "When the newest authentic event came, repeats included.", nil, nil), &m.lastEvent}
}

func newLastBackup(m *Metrics) moment {
	return moment{prometheus.NewDesc(namespace+"_backup_last_success_timestamp_seconds", "When the newest scheduled copy of the ledger was made that verified.", nil, nil), &m.lastBackup}
}

func newExpiry(m *Metrics) moment {
	return moment{prometheus.NewDesc(namespace+"_certificate_expiry_timestamp_seconds", "When the certificate of the public door ends.", nil, nil), &m.expiry}
}

func (g moment) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

func (g moment) Collect(ch chan<- prometheus.Metric) {
	if ms := g.at.Load(); ms != 0 {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(ms)/1e3)
	}
}
