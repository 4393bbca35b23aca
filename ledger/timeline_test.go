package ledger_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

var (
	update = flag.Bool("update", false, "rewrite the golden files in testdata")
	long   = flag.Bool("long", false, "run more and longer simulations")
)

// The timeline of each scenario is that in its timeline.txt.
func TestTimelinesOfScenarios(t *testing.T) {
	for name, s := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			l := ledgertest.Open(t, false)
			for _, e := range s.events {
				mustAppend(t, l, e)
			}
			timeline, complete, err := l.Timeline(t.Context(), s.want.Payment)
			if err != nil || !complete || len(timeline) != len(s.events) {
				t.Fatalf("%d timeline entries of %d events, complete %v, %v", len(timeline), len(s.events), complete,
					err)
			}
			var text strings.Builder
			for _, m := range timeline {
				fmt.Fprintf(&text, "%d  %s  (%s)\n", m.Happened, m.What, m.Type)
			}
			file := filepath.Join(scenarioDir, name, "timeline.txt")
			if *update {
				if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; go test ./ledger -run TestTimelinesOfScenarios -update writes it", err)
			}
			if text.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", &text, want)
			}
		})
	}
}

// The timeline marks events that arrived late or repeatedly. Events of the same second are never
// late.
func TestTimelineShowsLateAndRepeatedEvents(t *testing.T) {
	l := ledgertest.Open(t, false)
	at := func(id string, created int64) *ledger.Event {
		e := succeeded(id, "pi_1")
		e.Type, e.Created = "payment_intent.processing", created
		return e
	}
	for _, e := range []*ledger.Event{at("evt_c", 300), at("evt_b", 300), at("evt_d", 400), at("evt_a", 200),
		at("evt_a", 200), at("evt_a", 200), at("evt_e", 400)} {
		mustAppend(t, l, e)
	}
	timeline, _, err := l.Timeline(t.Context(), "ch_pi_1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range timeline {
		got = append(got, fmt.Sprint(m.Event, " after ", m.After, " repeated ", m.Repeats))
	}
	want := "evt_a after 3 repeated 2, evt_b after 0 repeated 0, evt_c after 0 repeated 0, evt_d after 0 repeated 0, evt_e after 0 repeated 0"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}
