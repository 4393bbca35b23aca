package metrics

import "github.com/prometheus/client_golang/prometheus"

// Ledger holds the figures of the ledger that a scrape reports.
type Ledger struct {
	SizeBytes int64
	FreeBytes int64
	Events    uint64
	Payments  map[string]uint64 // by status
	Flagged   map[string]uint64 // payments by flag, with every flag
	// Quarantine is the number of events in quarantine by reason and state, with every pair.
	Quarantine map[string]map[string]uint64
}

// WatchLedger makes every scrape call read. While read returns an error, the series of the ledger
// are absent. read must be fast and safe for concurrent use.
func (m *Metrics) WatchLedger(read func() (Ledger, error)) {
	m.registry.MustRegister(ledgerCollector{read})
}

type ledgerCollector struct{ read func() (Ledger, error) }

var (
	ledgerSize     = prometheus.NewDesc(namespace+"_ledger_size_bytes", "Size of the ledger file.", nil, nil)
	ledgerFree     = prometheus.NewDesc(namespace+"_ledger_free_bytes", "Reusable free space inside the ledger file.", nil, nil)
	ledgerEvents   = prometheus.NewDesc(namespace+"_ledger_events", "Events in the ledger.", nil, nil)
	ledgerFlagged  = prometheus.NewDesc(namespace+"_ledger_flagged_payments", "Payments with a flag. Flags ending in _approximate are for information only.", []string{"flag"}, nil)
	ledgerPayments = prometheus.NewDesc(namespace+"_ledger_payments", "Payments in the ledger by status.", []string{"status"}, nil)
	quarantine     = prometheus.NewDesc(namespace+"_quarantine_events", "Events in quarantine now by reason and state. Events with state=attention need an operator.", []string{"reason", "state"}, nil)
)

func (c ledgerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ledgerSize, ledgerFree, ledgerEvents, ledgerFlagged, ledgerPayments, quarantine} {
		ch <- d
	}
}

func (c ledgerCollector) Collect(ch chan<- prometheus.Metric) {
	l, err := c.read()
	if err != nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for reason, states := range l.Quarantine {
		for state, n := range states {
			gauge(quarantine, float64(n), reason, state)
		}
	}
	gauge(ledgerSize, float64(l.SizeBytes))
	gauge(ledgerFree, float64(l.FreeBytes))
	gauge(ledgerEvents, float64(l.Events))
	for flag, n := range l.Flagged {
		gauge(ledgerFlagged, float64(n), flag)
	}
	for status, n := range l.Payments {
		gauge(ledgerPayments, float64(n), status)
	}
}
