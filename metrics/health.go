package metrics

import "github.com/prometheus/client_golang/prometheus"

// WatchHealth makes every scrape report the health findings that read returns: the severity (ok,
// warn, fail, or another one) of each code. A code that read does not return is absent. read must
// be cheap and may be called from several goroutines.
func (m *Metrics) WatchHealth(read func() map[string]string) {
	m.registry.MustRegister(healthCollector{read})
}

type healthCollector struct{ read func() map[string]string }

var healthFinding = prometheus.NewDesc(namespace+"_health_finding",
	"1 for the present severity of each health finding, 0 for the other severities.", []string{"code", "severity"}, nil)

func (c healthCollector) Describe(ch chan<- *prometheus.Desc) { ch <- healthFinding }

func (c healthCollector) Collect(ch chan<- prometheus.Metric) {
	for code, present := range c.read() {
		for _, severity := range []string{"ok", "warn", "fail"} {
			value := 0.0
			if severity == present {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(healthFinding, prometheus.GaugeValue, value, code, severity)
		}
	}
}
