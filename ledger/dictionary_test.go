package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// order is an event about a payment of a customer, with a body as a shop's bodies are: much the same each time.
func order(n int, customer string) *ledger.Event {
	id := fmt.Sprintf("evt_%05d", n)
	raw := fmt.Appendf(nil, `{
  "id": %q,
  "created": %d,
  "data": {"object": {"id": "pi_%05d", "customer": %q, "amount": %d, "description": "Ordine %05d, Cartoleria Buonarroti",
    "receipt_email": %q, "metadata": {"magazzino": "Firenze Nord", "corriere": "Posta Celere Toscana", "lotto": "%08x"}}},
  "type": "payment_intent.succeeded"
}`, id, 1776163468+n, n, customer, 1000+n*37, n, customer+"@esempio.it", n*2654435761%(1<<32))
	e := succeeded(id, fmt.Sprintf("pi_%05d", n))
	e.Type, e.Raw, e.Facts.Intents[0].Customer = "payment_intent.succeeded", raw, customer
	return e
}

// learning runs a ledger that learns.
func learning(t *testing.T, dir string) (l *ledger.Ledger, end func()) {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.LearnBodies(ctx) }()
	return l, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stop()
		if err := errors.Join(l.Check(), l.Close()); err != nil {
			t.Error(err)
		}
	}
}

// awaitDictionaries waits for a ledger to have learned something, for 10 s.
func awaitDictionaries(t testing.TB, l *ledger.Ledger, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); l.Dictionaries() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there are %d dictionaries, not %d", l.Dictionaries(), n)
		}
	}
}

// Bodies that have come are what later ones are packed against: those are smaller, and come back byte for byte, after a
// restart and a rebuild, too.
func TestALedgerLearnsItsBodies(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, end := learning(t, dir)
	late := order(9999, "cus_late")
	before := l.Packed(late)
	for n := range 64 {
		mustAppend(t, l, order(n, fmt.Sprintf("cus_%d", n)))
	}
	awaitDictionaries(t, l, 2)
	if after := l.Packed(late); after > before*2/3 {
		t.Errorf("a body takes %d bytes, and took %d before", after, before)
	}
	mustAppend(t, l, late)
	end()

	back := func() {
		t.Helper()
		l, end := learning(t, dir)
		defer end()
		if l.Dictionaries() != 2 {
			t.Errorf("there are %d dictionaries", l.Dictionaries())
		}
		for n, e := range map[int]*ledger.Event{0: order(0, "cus_0"), 63: order(63, "cus_63"), 9999: late} {
			if raw, err := l.Body(e.ID); err != nil || !bytes.Equal(raw, e.Raw) {
				t.Errorf("body %d is not what it was: %v", n, err)
			}
		}
	}
	back()
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); err != nil {
		t.Fatal(err)
	}
	back()
}

// What is learned is kept longer than bodies are: it must hold nothing of a single customer, nor of a single payment.
func TestNothingIsLearnedOfOneCustomer(t *testing.T) {
	var bodies [][]byte
	for n := range 16 {
		bodies = append(bodies, order(n, fmt.Sprintf("cus_%c%d", 'a'+n, n)).Raw)
	}
	text := ledger.FormOf(bodies).Text()
	for _, shops := range []string{`"magazzino": "Firenze Nord"`, `"corriere": "Posta Celere Toscana"`, `, Cartoleria Buonarroti`, `"receipt_email": "`,
		`"type": "payment_intent.succeeded"`, `"lotto": "`} {
		if !strings.Contains(text, shops) {
			t.Errorf("it lacks %s:\n%s", shops, text)
		}
	}
	for _, persons := range []string{"esempio.it", "cus_"} {
		if strings.Contains(text, persons) {
			t.Errorf("it holds %s:\n%s", persons, text)
		}
	}
	if few := ledger.FormOf(bodies[:11]); few != nil {
		t.Errorf("of eleven bodies it learned %q", few.Text())
	}
	other := append(bytes.Clone(bodies[12][:len(bodies[12])-1]), `,"more":1}`...)
	if mixed := ledger.FormOf(append(bodies[:11:11], other)); mixed != nil {
		t.Errorf("of eleven bodies that are alike, and another one, it learned %q", mixed.Text())
	}

	l, end := learning(t, ledgertest.Dir(t))
	for n := range 200 { // one customer, however often it comes
		mustAppend(t, l, order(n, "cus_regular"))
	}
	for n := range 20 { // one payment, whoever it is said to be of
		e := order(1000, fmt.Sprintf("cus_%d", n))
		e.ID = fmt.Sprintf("evt_again_%d", n)
		mustAppend(t, l, e)
		mustAppend(t, l, order(2000+n, "")) // and a guest
	}
	if held := l.Remembered("payment_intent.succeeded"); held != 2 {
		t.Errorf("%d bodies of two customers are remembered", held)
	}
	end()
	if l.Dictionaries() != 1 {
		t.Error("it learned from one customer")
	}
}

// A dictionary that is damaged takes the bodies with it that need it, and nothing else.
func TestADamagedDictionary(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, end := learning(t, dir)
	for n := range 64 {
		mustAppend(t, l, order(n, fmt.Sprintf("cus_%d", n)))
	}
	awaitDictionaries(t, l, 2)
	mustAppend(t, l, order(64, "cus_64"))
	unusual := order(66, "cus_66")
	unusual.Raw = bytes.Replace(unusual.Raw, []byte(`"lotto"`), []byte(`"partita"`), 1) // not of the form
	mustAppend(t, l, unusual)
	end()
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("dictionaries")).Put([]byte{1}, bytes.Repeat([]byte("noise"), 13_000))
	})
	if _, err := ledger.Verify(ledger.Path(dir)); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("the proof says %v", err)
	}
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for _, id := range []string{"evt_00064", "evt_00066"} {
		if _, err := l.Body(id); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("the body of %s, which needs it, gave %v", id, err)
		}
	}
	mustAppend(t, l, order(65, "cus_65"))
	for _, n := range []int{3, 65} {
		if raw, err := l.Body(fmt.Sprintf("evt_%05d", n)); err != nil || !bytes.Equal(raw, order(n, fmt.Sprintf("cus_%d", n)).Raw) {
			t.Errorf("body %d: %v", n, err)
		}
	}
	stop()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
