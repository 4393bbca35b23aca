package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// hostileLinks returns sets of events whose ids link objects in ways that Stripe never does.
func hostileLinks() map[string][]*ledger.Event {
	charge := func(id string) ledger.Charge {
		return ledger.Charge{ID: id, Status: "succeeded", Currency: "usd", Amount: 1000, AmountCaptured: 1000,
			Captured: true, Created: midnight}
	}
	of := func(intent, id string) ledger.Facts {
		return ledger.Facts{PaymentIntent: intent, Charge: id, Charges: []ledger.Charge{charge(id)}}
	}
	refund := func(intent, of, id string) ledger.Facts {
		return ledger.Facts{PaymentIntent: intent, Charge: of,
			Refunds: []ledger.Refund{{ID: id, Charge: of, Status: "succeeded", Currency: "usd", Amount: 300,
				Created: midnight}}}
	}
	sets := map[string][]ledger.Facts{
		"a charge linked to itself":             {of("ch_1", "ch_1"), of("", "ch_1"), refund("", "ch_1", "re_1")},
		"a charge linked to itself and another": {of("ch_1", "ch_1"), of("pi_1", "ch_1"), of("", "ch_1")},
		"two charges linked to each other": {of("ch_1", "ch_2"), of("ch_2", "ch_1"), of("", "ch_1"),
			of("", "ch_2")},
		"a cycle of three": {of("a", "b"), of("b", "c"), of("c", "a"), of("", "a"), of("", "b"),
			of("", "c")},
		"a refund with a charge's id": {of("", "ch_1"), refund("pi_1", "ch_2", "ch_1")},
		"a refund linked to itself": {refund("", "re_1", "re_1"), refund("pi_1", "re_1", "re_1"),
			refund("re_1", "re_1", "re_1")},
		"a session with a charge's id": {of("", "x"),
			{PaymentIntent: "pi_1", Sessions: []ledger.Session{{ID: "x", PaymentStatus: "paid"}}}},
		"a dispute with a charge's id": {of("", "x"), {PaymentIntent: "pi_1", Charge: "ch_1",
			Disputes: []ledger.Dispute{{ID: "x", Charge: "ch_1", Status: "lost", Currency: "usd", Amount: 5}}}},
		"a PaymentIntent within another": {of("", "x"),
			{PaymentIntent: "pi_1", Intents: []ledger.Intent{{ID: "x", Status: "succeeded"}}}},
	}
	events := map[string][]*ledger.Event{}
	for name, facts := range sets {
		for i, f := range facts {
			e := about(fmt.Sprintf("evt_%d", i), "charge.updated", midnight+int64(i), f)
			e.Raw = []byte(fmt.Sprintf(`{"id":%q}`, e.ID))
			events[name] = append(events[name], e)
		}
	}
	return events
}

// Whatever the ids link, no payment is lost. For any order of the events the ledger is sound and
// agrees with the model, a copy is sound, a rebuilt ledger holds the same, and every id finds a
// payment.
func TestHostileLinksKeepTheLedgerSound(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 23))
	for name, events := range hostileLinks() {
		t.Run(name, func(t *testing.T) {
			shared := ledgertest.Open(t, false)
			checkAgainstModel(t, shared, rng, events)
			orders(rng, events, 6, func(order []*ledger.Event) {
				if *long || len(events) < 6 || rng.IntN(24) == 0 { // six events have 720 orders
					checkHostileLinks(t, order)
				}
			})
		})
	}
}

func checkHostileLinks(t *testing.T, events []*ledger.Event) {
	t.Helper()
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for _, e := range events {
		mustAppend(t, l, e)
	}
	if err := l.Check(); err != nil {
		t.Errorf("after %v: %v", ids(events), err)
	}
	if err := ledger.Save(filepath.Join(ledgertest.Dir(t), "copy.db"), l.CopyTo, func(path string) error {
		_, err := check.Verify(t.Context(), path)
		return err
	}); err != nil {
		t.Error(err)
	}
	for id := range idsIn(events) {
		if _, err := l.Payment(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if _, _, err := l.Timeline(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	want, _ := modelResult(events)
	list := func(l *ledger.Ledger) string {
		var all []*ledger.Payment
		for _, p := range want {
			found, err := l.Payment(p.ID)
			if err != nil {
				t.Fatalf("after %v the payment %s is missing: %v", ids(events), p.ID, err)
			}
			all = append(all, found)
		}
		return asJSON(t, all)
	}
	if got, want := list(l), asJSON(t, want); got != want {
		t.Errorf("after %v\n got %s\nwant %s", ids(events), got, want)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); err != nil {
		t.Fatalf("after %v: %v", ids(events), err)
	}
	again, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, want := list(again), asJSON(t, want); got != want {
		t.Errorf("rebuilt after %v\n got %s\nwant %s", ids(events), got, want)
	}
}

// idsIn returns every id by which a payment of the events can be found.
func idsIn(events []*ledger.Event) map[string]bool {
	all := map[string]bool{}
	for _, e := range events {
		f := &e.Facts
		list := append(chargesNamed(f), f.PaymentIntent)
		for _, o := range f.Intents {
			list = append(list, o.ID)
		}
		for _, o := range f.Refunds {
			list = append(list, o.ID)
		}
		for _, o := range f.Disputes {
			list = append(list, o.ID)
		}
		for _, o := range f.Sessions {
			list = append(list, o.ID)
		}
		for _, id := range list {
			all[id] = true
		}
	}
	delete(all, "")
	return all
}

// mixUp replaces the ids in facts by random ids of the pool, regardless of their kind.
func (w *world) mixUp(f *ledger.Facts) {
	mix := func(id *string) {
		if *id == "" {
			return
		}
		to, known := w.mixed[*id]
		if !known || w.oneIn(8) {
			to = pick(w.Rand, w.pool...)
			w.mixed[*id] = to
		}
		*id = to
	}
	mix(&f.PaymentIntent)
	mix(&f.Charge)
	f.Intents, f.Charges, f.Refunds = slices.Clone(f.Intents), slices.Clone(f.Charges), slices.Clone(f.Refunds)
	f.Disputes, f.Sessions = slices.Clone(f.Disputes), slices.Clone(f.Sessions)
	for i := range f.Intents {
		mix(&f.Intents[i].ID)
		mix(&f.Intents[i].LatestCharge)
	}
	for i := range f.Charges {
		mix(&f.Charges[i].ID)
		if b := f.Charges[i].BalanceTransaction; b != nil {
			booking := *b
			mix(&booking.ID)
			f.Charges[i].BalanceTransaction = &booking
		}
	}
	for i := range f.Refunds {
		mix(&f.Refunds[i].ID)
		mix(&f.Refunds[i].Charge)
	}
	for i := range f.Disputes {
		d := &f.Disputes[i]
		mix(&d.ID)
		mix(&d.Charge)
		d.Transactions = slices.Clone(d.Transactions)
		for j := range d.Transactions {
			mix(&d.Transactions[j].ID)
		}
	}
	for i := range f.Sessions {
		mix(&f.Sessions[i].ID)
	}
}
