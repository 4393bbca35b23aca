package ledger_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// model computes a payment from all of its events the slow way: for every field it walks the whole
// list again. It shares nothing with the ledger but the shape it fills.
func model(events []*ledger.Event) ledger.Payment {
	byID := map[string]*ledger.Event{}
	for _, e := range events {
		byID[e.ID] = e
	}
	distinct := slices.Collect(maps.Values(byID))

	// The winner is the one that no other beats.
	rank := []string{"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture"}
	beats := func(a, b *ledger.Event) bool {
		sa, sb := a.Facts.Intent.Status, b.Facts.Intent.Status
		if sa == "succeeded" && sb != "succeeded" {
			return true
		}
		if sb == "succeeded" && sa != "succeeded" {
			return false
		}
		if (sa == "canceled") != (sb == "canceled") {
			return sa == "canceled"
		}
		if a.Created != b.Created {
			return a.Created > b.Created
		}
		if ca, cb := a.Type == "payment_intent.created", b.Type == "payment_intent.created"; ca != cb {
			return cb
		}
		if ra, rb := slices.Index(rank, sa), slices.Index(rank, sb); ra != rb {
			return ra > rb
		}
		return a.ID > b.ID
	}
	var winner *ledger.Event
	for _, a := range distinct {
		beaten := false
		for _, b := range distinct {
			beaten = beaten || a != b && beats(b, a)
		}
		if !beaten {
			winner = a
		}
	}
	in := winner.Facts.Intent
	p := ledger.Payment{
		Object: "payment", ID: in.ID, Status: ledger.OrNull(in.Status), Currency: ledger.OrNull(in.Currency), Amount: &in.Amount,
		Customer: ledger.OrNull(in.Customer), Description: ledger.OrNull(in.Description), Metadata: map[string]string{},
		LatestCharge: ledger.OrNull(in.LatestCharge), LastPaymentError: in.LastError,
		Refunds: []ledger.Refund{}, Disputes: []ledger.Dispute{}, Flags: []string{}, Events: uint64(len(distinct)),
	}
	maps.Copy(p.Metadata, in.Metadata)
	if in.Status != "succeeded" && in.Status != "canceled" {
		p.AmountCapturable = in.AmountCapturable
	}
	seen := map[string]bool{}
	for _, e := range distinct {
		seen[e.Facts.Intent.Status] = true
		if in.Status != "canceled" && e.Facts.Intent.AmountReceived > p.AmountReceived {
			p.AmountReceived = e.Facts.Intent.AmountReceived
		}
		if ledger.OrNullTime(e.Created) > p.Updated {
			p.Updated = ledger.OrNullTime(e.Created)
		}
		if e.Account != "" && (p.Account == "" || e.Account < string(p.Account)) {
			p.Account = ledger.OrNull(e.Account)
		}
		if c := ledger.OrNullTime(e.Facts.Intent.Created); p.Created == 0 || c < p.Created {
			p.Created = c
		}
	}
	p.AmountNet = p.AmountReceived
	if seen["succeeded"] && seen["canceled"] {
		p.Flags = []string{"conflict"}
	}
	return p
}

// story makes the events of one payment: believable, and with every kind of tie.
func story(rng *rand.Rand, payment string, n int) []*ledger.Event {
	statuses := []string{"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture",
		"requires_reconfirmation", "succeeded", "canceled"}
	types := []string{"payment_intent.created", "payment_intent.processing", "payment_intent.payment_failed", "payment_intent.succeeded"}
	var events []*ledger.Event
	for i := range n {
		in := &ledger.Intent{
			ID: payment, Status: statuses[rng.IntN(len(statuses))], Currency: "eur", Amount: 1000 + rng.Int64N(3), HasAmount: true,
			AmountReceived: rng.Int64N(3) * 500, AmountCapturable: rng.Int64N(2) * 700, Created: 1760000000,
			Description: fmt.Sprint("as of ", i), Metadata: map[string]string{"step": fmt.Sprint(i)},
		}
		if rng.IntN(3) == 0 {
			in.LatestCharge = fmt.Sprintf("ch_%s_%d", payment, rng.IntN(2))
		}
		if rng.IntN(4) == 0 {
			in.LastError = &ledger.PaymentError{Type: "card_error", Code: "card_declined"}
		}
		e := &ledger.Event{
			ID: fmt.Sprintf("evt_%s_%02d", payment, i), Type: types[rng.IntN(len(types))], Created: 1760000000 + rng.Int64N(3),
			Source: ledger.Webhook, Received: time.Unix(1760000100, 0), Facts: ledger.Facts{Intent: in}, Raw: []byte("{}"),
		}
		if rng.IntN(4) == 0 {
			e.Account = fmt.Sprintf("acct_%d", rng.IntN(3))
		}
		events = append(events, e)
	}
	return events
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every order of a payment's events, with repeats among them, ends in the same bytes, and these are the model's.
func TestAnyOrderEndsInTheSamePayment(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	l := ledgertest.Open(t, false)
	for round := range 40 {
		n := 2 + round%3
		original := story(rng, "pi_", n)
		want := ""
		for number, order := range permutations(n) {
			payment := fmt.Sprintf("pi_%d_%d", round, number)
			var sent []*ledger.Event
			for _, i := range order {
				e, in := *original[i], *original[i].Facts.Intent
				e.ID, in.ID = fmt.Sprintf("%s_%d", payment, i), payment
				in.LatestCharge = ""
				e.Facts.Intent = &in
				sent = append(sent, &e)
				if rng.IntN(3) == 0 {
					sent = append(sent, sent[rng.IntN(len(sent))])
				}
			}
			for _, e := range sent {
				mustAppend(t, l, e)
			}
			p, err := l.Payment(payment)
			if err != nil {
				t.Fatal(err)
			}
			expected := model(sent)
			if got, want := asJSON(t, p), asJSON(t, expected); got != want {
				t.Fatalf("order %v of round %d:\n got %s\nwant %s", order, round, got, want)
			}
			p.ID = ""
			if got := asJSON(t, p); want == "" {
				want = got
			} else if got != want {
				t.Fatalf("order %v of round %d differs from the first:\n got %s\nwant %s", order, round, got, want)
			}
		}
	}
}

// permutations of 0..n-1, all of them.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(p), at, n-1))
		}
	}
	return all
}

// FuzzSets builds random sets of events and sends them in two random orders with repeats.
func FuzzSets(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(5))
	l := ledgertest.Open(f, false)
	rounds := 0
	f.Fuzz(func(t *testing.T, a, b uint64, n uint8) {
		rng := rand.New(rand.NewPCG(a, b))
		for range 2 {
			rounds++
			events := story(rng, fmt.Sprintf("pi_f%d", rounds), 1+int(n%24))
			events = append(events, events[:len(events)/2]...)
			rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			for _, e := range events {
				mustAppend(t, l, e)
			}
			p, err := l.Payment(events[0].Facts.Intent.ID)
			if err != nil {
				t.Fatal(err)
			}
			expected := model(events)
			if got, want := asJSON(t, p), asJSON(t, expected); got != want {
				t.Fatalf("got %s\nwant %s", got, want)
			}
		}
	})
}

// The rules one by one, each with the pair of snapshots that it alone decides.
func TestOneSnapshotWins(t *testing.T) {
	type snap struct {
		id, typ, status string
		created         int64
	}
	for _, c := range []struct {
		rule        string
		loser, wins snap
	}{
		{"terminal beats a later one that is not",
			snap{"evt_9", "payment_intent.payment_failed", "requires_payment_method", 2000}, snap{"evt_1", "payment_intent.succeeded", "succeeded", 1000}},
		{"canceled is terminal too",
			snap{"evt_9", "payment_intent.processing", "processing", 2000}, snap{"evt_1", "payment_intent.canceled", "canceled", 1000}},
		{"succeeded beats a later canceled",
			snap{"evt_9", "payment_intent.canceled", "canceled", 2000}, snap{"evt_1", "payment_intent.succeeded", "succeeded", 1000}},
		{"the later of two that are not terminal",
			snap{"evt_9", "payment_intent.processing", "processing", 1000}, snap{"evt_1", "payment_intent.payment_failed", "requires_payment_method", 1001}},
		{"created loses to any other of its second",
			snap{"evt_9", "payment_intent.created", "requires_capture", 1000}, snap{"evt_1", "payment_intent.requires_action", "requires_action", 1000}},
		{"the further status of a second",
			snap{"evt_9", "payment_intent.requires_action", "requires_action", 1000}, snap{"evt_1", "payment_intent.processing", "processing", 1000}},
		{"a known status of a second beats an unknown one",
			snap{"evt_9", "payment_intent.frobnicated", "requires_reconfirmation", 1000}, snap{"evt_1", "payment_intent.payment_failed", "requires_payment_method", 1000}},
		{"the greater id where all else is equal",
			snap{"evt_1", "payment_intent.processing", "processing", 1000}, snap{"evt_9", "payment_intent.processing", "processing", 1000}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			l := ledgertest.Open(t, false)
			for i, order := range [][]snap{{c.loser, c.wins}, {c.wins, c.loser}} {
				for _, s := range order {
					e := succeeded(fmt.Sprintf("%s_%d", s.id, i), fmt.Sprintf("pi_%d", i))
					e.Type, e.Created = s.typ, s.created
					e.Facts.Intent.Status, e.Facts.Intent.Description = s.status, s.id
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
