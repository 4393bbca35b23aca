package ledger_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// modelResult returns the payments and totals that the model computes from the events.
func modelResult(events []*ledger.Event) (payments []*ledger.Payment, totals []total) {
	all := model(events)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		p := all[id].Payment
		payments = append(payments, &p)
	}
	return payments, modelTotals(events)
}

// checkAgainstModel requires that every order of the events, with repeats, results in the same
// bytes, and in the payments, entries, unexplained charges and totals of the model. If not, it
// reports the smallest part of the events that still fails.
func checkAgainstModel(t *testing.T, l *ledger.Ledger, rng *rand.Rand, events []*ledger.Event) {
	t.Helper()
	problem := disagreement(l, rng, events)
	if problem == "" {
		return
	}
	for i := 0; i < len(events); i++ {
		less := slices.Delete(slices.Clone(events), i, i+1)
		if p := disagreement(l, rng, less); p != "" {
			events, problem, i = less, p, -1
		}
	}
	t.Fatalf("%s\nof the events\n%s", problem, asText(events))
}

// disagreement posts the events in random orders with repeats. It returns how one result differs
// from the model or from the first result, or "".
func disagreement(l *ledger.Ledger, rng *rand.Rand, events []*ledger.Event) string {
	if len(events) == 0 {
		return ""
	}
	payments, totals := modelResult(events)
	entries, unexplained := map[string][]ledger.Entry{}, map[string][]string{}
	for id, p := range model(events) {
		entries[id], unexplained[id] = p.Entries, p.Unexplained
	}
	want := []string{asText(payments), linesOf(entries), linesOf(unexplained), asText(totals)}
	first := ""
	for range 4 {
		order := append(slices.Clone(events), events[:rng.IntN(len(events))]...)
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		trial, err := l.Try(order)
		if err != nil {
			return fmt.Sprintf("the order %v: %v", ids(order), err)
		}
		for i, got := range []string{asText(trial.Payments), linesOf(trial.Entries), linesOf(trial.Unexplained),
			asText(trial.Totals)} {
			if got != want[i] {
				return fmt.Sprintf("in the order %v\n got %s\nwant %s", ids(order), got, want[i])
			}
		}
		if first == "" {
			first = trial.Folded
		}
		if trial.Folded != first {
			return fmt.Sprintf("the order %v results in\n%s\nand the first order in\n%s", ids(order), trial.Folded,
				first)
		}
	}
	return ""
}

// linesOf returns a line for each element, by payment.
func linesOf[T any](elements map[string][]T) string {
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(elements)) {
		for _, e := range elements[id] {
			fmt.Fprintf(&text, "%s %s\n", id, asText(e))
		}
	}
	return text.String()
}

// Random sets of events, in random orders with repeats, fold to the payments of the model.
func TestAnyOrderMatchesTheModel(t *testing.T) {
	t.Parallel()
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(7, 11))
	for range 1500 {
		checkAgainstModel(t, l, rng, randomEvents(rng, "m", 1+rng.IntN(24)))
	}
}

// FuzzSets looks for a set of events for which two orders, or the ledger and the model, differ.
func FuzzSets(f *testing.F) {
	for n := range uint64(20) {
		f.Add(n, n+1, uint8(3+5*n))
	}
	l := ledgertest.Open(f, false)
	f.Fuzz(func(t *testing.T, a, b uint64, n uint8) {
		rng := rand.New(rand.NewPCG(a, b))
		checkAgainstModel(t, l, rng, randomEvents(rng, "f", 1+int(n%24)))
	})
}

// Each rule for the order of PaymentIntent snapshots, with two snapshots that only this rule
// orders.
func TestOrderOfIntentSnapshots(t *testing.T) {
	type snap struct {
		id, typ, status string
		created         int64
	}
	for _, c := range []struct {
		rule        string
		loser, wins snap
	}{
		{"a terminal status beats a later one",
			snap{"evt_9", "payment_intent.payment_failed", "requires_payment_method", 2000},
			snap{"evt_1", "payment_intent.succeeded", "succeeded", 1000}},
		{"canceled is terminal too",
			snap{"evt_9", "payment_intent.processing", "processing", 2000},
			snap{"evt_1", "payment_intent.canceled", "canceled", 1000}},
		{"succeeded beats a later canceled",
			snap{"evt_9", "payment_intent.canceled", "canceled", 2000},
			snap{"evt_1", "payment_intent.succeeded", "succeeded", 1000}},
		{"the later one of two that are not terminal",
			snap{"evt_9", "payment_intent.processing", "processing", 1000},
			snap{"evt_1", "payment_intent.payment_failed", "requires_payment_method", 1001}},
		{"payment_intent.created loses to any other event of its second",
			snap{"evt_9", "payment_intent.created", "requires_capture", 1000},
			snap{"evt_1", "payment_intent.requires_action", "requires_action", 1000}},
		{"the further status within a second",
			snap{"evt_9", "payment_intent.requires_action", "requires_action", 1000},
			snap{"evt_1", "payment_intent.processing", "processing", 1000}},
		{"a known status beats an unknown one within a second",
			snap{"evt_9", "payment_intent.frobnicated", "requires_reconfirmation", 1000},
			snap{"evt_1", "payment_intent.payment_failed", "requires_payment_method", 1000}},
		{"the greater id if all else is equal",
			snap{"evt_1", "payment_intent.processing", "processing", 1000},
			snap{"evt_9", "payment_intent.processing", "processing", 1000}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			l := ledgertest.Open(t, false)
			for i, order := range [][]snap{{c.loser, c.wins}, {c.wins, c.loser}} {
				for _, s := range order {
					e := succeeded(fmt.Sprintf("%s_%d", s.id, i), fmt.Sprintf("pi_%d", i))
					e.Type, e.Created = s.typ, s.created
					e.Facts.Intents[0].Status, e.Facts.Intents[0].Description = s.status, s.id
					mustAppend(t, l, e)
				}
				p, err := l.Payment(fmt.Sprintf("pi_%d", i))
				if err != nil {
					t.Fatal(err)
				}
				if string(p.Description) != c.wins.id || string(p.Status) != c.wins.status {
					t.Errorf("%s won with status %s, want %s", p.Description, p.Status, c.wins.id)
				}
			}
		})
	}
}

// A refund that only the total of the charge shows keeps its day, whatever is refunded later.
func TestRefundsStayOnTheirDays(t *testing.T) {
	l := ledgertest.Open(t, false)
	const october, december = 1760000100, 1765000001
	refunded := func(id string, at, sum int64) *ledger.Event {
		return &ledger.Event{ID: id, Type: "charge.refunded", Created: at, APIVersion: "2023-10-16",
			Source: ledger.Webhook, Received: time.Now(), Raw: []byte(id),
			Facts: ledger.Facts{Charge: "ch_1",
				Charges: []ledger.Charge{{ID: "ch_1", Status: "succeeded", Currency: "jpy", Amount: 1000,
					AmountCaptured: 1000,
					AmountRefunded: sum, Captured: true, Created: 1760000000}}}}
	}
	mustAppend(t, l, refunded("b", december, 800))
	mustAppend(t, l, refunded("a", october, 500))
	days := func() (text string) {
		totals, err := allTotals(t, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, total := range totals {
			text += fmt.Sprintf("%s %s; ", total.Day, asText(total.Refunded))
		}
		return text
	}
	const want = "2025-10-09 500; 2025-12-06 300; "
	if got := days(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	mustAppend(t, l, &ledger.Event{ID: "c", Type: "refund.created", Created: december, Source: ledger.Webhook,
		Received: time.Now(), Raw: []byte("c"),
		Facts: ledger.Facts{Charge: "ch_1", Refunds: []ledger.Refund{{ID: "re_2", Charge: "ch_1", Status: "succeeded",
			Currency: "jpy", Amount: 300, Created: december - 1}}}})
	if got := days(); got != want {
		t.Errorf("after the object of the second refund: got %s, want %s", got, want)
	}
}
