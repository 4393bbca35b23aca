package metrics_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tillhook/metrics"
)

// reference is what a row of the table in README.md says of a metric.
type reference struct{ typ, labels string }

// The table in README.md has exactly one row for each metric of Tillhook, with its type and its
// labels.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]reference{}
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| `tillhook_") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || len(strings.TrimSpace(cells[3])) < 10 {
			t.Errorf("the row does not have name, type, labels and meaning: %s", line)
			continue
		}
		name := strings.Trim(cells[0], " `")
		if _, twice := documented[name]; twice {
			t.Errorf("%s has two rows", name)
		}
		labels := regexp.MustCompile("`[a-z]+`").FindAllString(cells[2], -1)
		slices.Sort(labels)
		documented[name] = reference{strings.TrimSpace(cells[1]), strings.ReplaceAll(strings.Join(labels, ","), "`", "")}
	}

	registered := registered(t)
	if len(registered) < 30 {
		t.Errorf("only %d metrics are registered", len(registered))
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		if got, found := documented[name]; !found {
			t.Errorf("README.md has no row for %s", name)
		} else if want := registered[name]; got != want {
			t.Errorf("README.md says of %s %+v, but it is %+v", name, got, want)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("README.md has a row for %s, which is not registered", name)
	}
}

// registered returns all metrics of Tillhook.
func registered(t *testing.T) map[string]reference {
	t.Helper()
	m := newMetrics()
	m.WatchLedger(func() (metrics.Ledger, error) {
		return metrics.Ledger{Payments: map[string]uint64{"none": 1}, Flagged: map[string]uint64{"conflict": 0},
			Quarantine: map[string]map[string]uint64{"thin_event": {"attention": 0}}}, nil
	})
	m.WatchHealth(func() map[string]string { return map[string]string{"storage": "ok"} })
	m.LastEvent(time.Now())
	m.BackupSuccess(time.Now())
	m.CertificateExpiry(time.Now())
	m.Reconciled(time.Now())
	m.Audited(time.Now())
	m.Accounts(1, 0, 0)
	m.Endpoint(true, 0)
	m.Skew(0)

	types := map[string]string{}
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		types[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	// A gauge with an unknown value is not gathered, but described.
	all := make(chan *prometheus.Desc)
	go func() {
		m.Registry().Describe(all)
		close(all)
	}()
	list := map[string]reference{}
	description := regexp.MustCompile(`fqName: "(tillhook_\w+)".* variableLabels: \{([a-z,]*)\}`)
	for d := range all {
		match := description.FindStringSubmatch(d.String())
		if match == nil {
			continue // of the Go runtime or the process
		}
		name := match[1]
		labels := strings.Split(match[2], ",")
		slices.Sort(labels)
		if list[name] = (reference{types[name], strings.Join(labels, ",")}); types[name] == "" {
			t.Errorf("%s has no value: set it in this test", name)
		}
	}
	return list
}
