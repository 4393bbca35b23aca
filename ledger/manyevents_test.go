package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// manyEvents generates any number of events of one payment: failed attempts, each with its own
// charge, and refunds, each as the total of the charge and as an object.
type manyEvents struct {
	payment string // the part that all ids share
	bodies  [4][]byte
	next    int
}

func newManyEvents(t testing.TB, payment string) *manyEvents {
	t.Helper()
	m := &manyEvents{payment: payment}
	for i, name := range []string{"charge.failed", "payment_intent.payment_failed", "charge.refunded",
		"refund.created"} {
		m.bodies[i] = mustRead(t, "../testdata/events/"+name+".json")
	}
	return m
}

// id returns an id in the form that Stripe uses. The last part differs between ids as if it was
// random.
func (m *manyEvents) id(kind string, n int) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	x := uint64(n+1) * 0x9E3779B97F4A7C15
	end := make([]byte, 8)
	for i := range end {
		end[i] = letters[x%62]
		x /= 62
	}
	return kind + "_" + m.payment + string(end)
}

// makeEvents returns the next n events.
func (m *manyEvents) makeEvents(n int) (events []*ledger.Event) {
	for range n {
		events = append(events, m.event(m.next))
		m.next++
	}
	return events
}

func (m *manyEvents) event(n int) *ledger.Event {
	at := midnight + int64(n)
	intent, paid := m.id("pi", 0), m.id("ch", 0)
	e := &ledger.Event{ID: m.id("evt", n), Created: at, APIVersion: "2023-10-16", Source: ledger.Webhook,
		Received: time.Unix(at, 0)}
	e.Facts.PaymentIntent = intent
	charge := ledger.Charge{ID: paid, Status: "succeeded", Currency: "usd", Amount: 10_000_000,
		AmountCaptured: 10_000_000, Captured: true, Created: midnight}
	refunded := int64(n/4+1) * 100
	switch n % 4 {
	case 0:
		e.Type, e.Facts.Charge = "charge.failed", m.id("ch", n+1)
		e.Facts.Charges = []ledger.Charge{{ID: e.Facts.Charge, Status: "failed", Currency: "usd", Amount: 10_000_000,
			FailureCode: "card_declined", Created: at}}
	case 1:
		e.Type, e.Facts.Charge = "payment_intent.payment_failed", m.id("ch", n)
		e.Facts.Intents = []ledger.Intent{{ID: intent, Status: "requires_payment_method", Currency: "usd",
			Amount: 10_000_000, HasAmount: true,
			LatestCharge: e.Facts.Charge, Created: midnight}}
	case 2:
		e.Type, e.Facts.Charge = "charge.refunded", paid
		charge.AmountRefunded = refunded
		e.Facts.Charges = []ledger.Charge{charge}
	default:
		e.Type, e.Facts.Charge = "refund.created", paid
		e.Facts.Refunds = []ledger.Refund{{ID: m.id("re", n), Charge: paid, Status: "succeeded", Currency: "usd",
			Amount: 100, Created: at}}
	}
	e.Raw = bytes.Replace(m.bodies[n%4], []byte("evt_"), []byte(e.ID), 1)
	return e
}

// The disk space of an event does not grow with the number of events of its payment. Events of a
// payment with 1,500 events write and occupy at most twice as many bytes as its first events did.
func TestDiskOfManyEvents(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 64} {
		t.Run(fmt.Sprintf("%d at once", at), func(t *testing.T) {
			dir := ledgertest.Dir(t)
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			m := newManyEvents(t, "3wManyEventsAaBb")
			commit := func(n, at int) (written, kept int64) {
				_, before, err := l.CommitBatch(nil)
				for events := range slices.Chunk(m.makeEvents(n), at) {
					more, pages, commitErr := l.CommitBatch(events)
					if err != nil || commitErr != nil {
						t.Fatal(err, commitErr)
					}
					written, kept = written+more, int64(pages-before)*4096
				}
				return written / int64(n), kept / int64(n)
			}
			written, kept := commit(256, at)
			commit(1244, 256)
			writtenThen, keptThen := commit(256, at)
			t.Logf("an event writes %d bytes and occupies %d, after 1,500 events %d and %d", written, kept, writtenThen,
				keptThen)
			if writtenThen > 2*written || keptThen > 2*kept {
				t.Errorf("an event writes %d bytes and occupies %d, after 1,500 events %d and %d", written, kept,
					writtenThen, keptThen)
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// processorTime returns the processor time of the process. Unlike the elapsed time it does not
// depend on other processes.
func processorTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkManyEvents posts events of a payment that already has n events, with the cache of such
// payments and without it.
func BenchmarkManyEvents(b *testing.B) {
	for _, c := range []struct {
		n      int
		cached bool
	}{{1, true}, {100, true}, {100, false}, {1000, true}, {1000, false}, {3000, true}, {3000, false}} {
		b.Run(fmt.Sprintf("%d cached=%v", c.n, c.cached), func(b *testing.B) {
			l, err := ledger.Open(ledger.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			if !c.cached {
				l.LimitCache(1)
			}
			m := newManyEvents(b, "3wManyEventsAaBb")
			for events := range slices.Chunk(m.makeEvents(c.n), 256) {
				if _, _, err := l.CommitBatch(events); err != nil {
					b.Fatal(err)
				}
			}
			const more = 16
			var used time.Duration
			for b.Loop() {
				b.StopTimer()
				events := m.makeEvents(more)
				b.StartTimer()
				before := processorTime(b)
				if _, _, err := l.CommitBatch(events); err != nil {
					b.Fatal(err)
				}
				used += processorTime(b) - before
			}
			b.ReportMetric(float64(used.Microseconds())/float64(b.N*more), "cpu-µs/event")
			if err := l.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

// Lists that are stored in the bucket lists agree with the model, in any order of the events,
// however the lists grow and shrink, and after restarts and rebuilds.
func TestLongListsMatchTheModel(t *testing.T) {
	t.Parallel()
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(29, 31))
	for range 24 {
		checkAgainstModel(t, l, rng, manyRandomEvents(rng, "l", 40+rng.IntN(80)))
	}
	for round := range 6 {
		dir := ledgertest.Dir(t)
		events := manyRandomEvents(rng, "r", 160)
		for i, part := range [][]*ledger.Event{events[:100], events[100:]} {
			s := &simulation{Rand: rng, dir: dir, arrived: events[:100+60*i]}
			s.open(t)
			for _, e := range part {
				mustAppend(t, s.l, e)
			}
			s.check(t)
			s.close(t)
			if round%2 == 0 {
				if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// Verify checks the elements of lists in the bucket lists: none may be damaged, missing,
// additional, or different from what the events state.
func TestVerifyFindsDamagedLists(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for _, e := range newManyEvents(t, "3wManyEventsAaBb").makeEvents(100) {
		mustAppend(t, l, e)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lists, whole := []byte("lists"), mustRead(t, ledger.Path(dir))
	for what, damage := range map[string]func(b *bolt.Bucket, key, value []byte) error{
		"noise":      func(b *bolt.Bucket, key, _ []byte) error { return b.Put(key, []byte("noise")) },
		"missing":    func(b *bolt.Bucket, key, _ []byte) error { return b.Delete(key) },
		"additional": func(b *bolt.Bucket, key, value []byte) error { return b.Put(append(key, 'x'), value) },
		"of an unknown payment": func(b *bolt.Bucket, _, _ []byte) error {
			const key = "pi_0\x00\x00\x01"
			return b.Put([]byte(key), ledger.Seal("lists", key, "\x01"))
		},
		"another amount": func(b *bolt.Bucket, key, value []byte) error {
			value[len(value)-5] ^= 2 // the lowest bit, above the sign, of the last number before the checksum
			return b.Put(key, ledger.Seal("lists", string(key), string(value[:len(value)-4])))
		},
		"another refund": func(b *bolt.Bucket, key, _ []byte) error {
			id, _, _ := bytes.Cut(key, []byte{0})
			key, value := b.Cursor().Seek(append(id, 0, 1))
			// 101 instead of 100
			changed := bytes.Replace(value[:len(value)-4], []byte("\xc8\x01"), []byte("\xca\x01"), 1)
			return b.Put(slices.Clone(key), ledger.Seal("lists", string(key), string(changed)))
		},
	} {
		t.Run(what, func(t *testing.T) {
			damaged := ledgertest.Dir(t)
			if err := os.WriteFile(ledger.Path(damaged), whole, 0o600); err != nil {
				t.Fatal(err)
			}
			edit(t, damaged, func(tx *bolt.Tx) error {
				key, value := tx.Bucket(lists).Cursor().Last() // an entry
				return damage(tx.Bucket(lists), slices.Clone(key), slices.Clone(value))
			})
			if _, err := check.Verify(t.Context(), ledger.Path(damaged)); err == nil {
				t.Error("Verify did not find the damage")
			}
		})
	}
}

// A transaction whose first attempt failed takes nothing from the payments of that attempt.
func TestCacheForgetsAFailedAttempt(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	m := newManyEvents(t, "3wManyEventsAaBb")
	if _, _, err := l.CommitBatch(m.makeEvents(60)); err != nil {
		t.Fatal(err)
	}
	if err := l.CommitAtSecondAttempt(m.makeEvents(8)); err != nil {
		t.Fatal(err)
	}
	if p, err := l.Payment(m.id("pi", 0)); err != nil || p.Events != 68 {
		t.Errorf("the payment is %+v, %v", p, err)
	}
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Error(err)
	}
}

// A cached payment is folded from committed events only. Events of a transaction that was rolled
// back are not in the cache.
func TestCacheForgetsARolledBackTransaction(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	commit := func(events []*ledger.Event) {
		t.Helper()
		if _, _, err := l.CommitBatch(events); err != nil {
			t.Fatal(err)
		}
	}
	m := newManyEvents(t, "3wManyEventsAaBb")
	commit(m.makeEvents(60))
	if payments, _, _ := l.CacheSize(); payments != 1 {
		t.Fatalf("%d payments are cached", payments)
	}
	if err := l.RollBack(m.makeEvents(8)); err != nil {
		t.Fatal(err)
	}
	commit(m.makeEvents(4))
	if p, err := l.Payment(m.id("pi", 0)); err != nil || p.Events != 64 {
		t.Errorf("the payment is %+v, %v", p, err)
	}
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Error(err)
	}
}

// The cache of payments stays within its limit, however many payments have many events.
func TestPaymentCacheIsBounded(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitCache(200)
	var payments []*manyEvents
	for i := range 6 {
		payments = append(payments, newManyEvents(t, fmt.Sprintf("3wManyEventsAaB%d", i)))
	}
	most := 0
	for range 10 {
		for _, m := range payments {
			if _, _, err := l.CommitBatch(m.makeEvents(12)); err != nil {
				t.Fatal(err)
			}
			n, size, limit := l.CacheSize()
			if most = max(most, n); size > limit {
				t.Fatalf("%d cached payments take %d bytes, the limit is %d", n, size, limit)
			}
		}
	}
	if most < 2 {
		t.Errorf("at most %d payments were cached", most)
	}
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Error(err)
	}
}

// manyCharges returns an event of a PaymentIntent whose body contains n charges.
func manyCharges(id, payment string, n int) *ledger.Event {
	m := &manyEvents{payment: payment}
	e := &ledger.Event{ID: id, Type: "payment_intent.succeeded", Created: midnight, APIVersion: "2020-08-27",
		Source:   ledger.Webhook,
		Received: time.Unix(midnight, 0), Raw: fmt.Appendf(nil, "{%q:%q}", "id", id)}
	e.Facts.PaymentIntent = m.id("pi", 0)
	for i := range n {
		e.Facts.Charges = append(e.Facts.Charges,
			ledger.Charge{ID: m.id("ch", i), Status: "succeeded", Currency: "usd", Amount: 100,
				AmountCaptured: 100, AmountRefunded: 100, Captured: true, Created: midnight + int64(i)})
	}
	e.Facts.Charge = e.Facts.Charges[0].ID
	return e
}

// Of the events with thousands of objects each commit posts only one, after the other events in the
// queue. So no other event waits for more than one of them, and none is lost.
func TestHeavyEventsDoNotDelayOthers(t *testing.T) {
	var commits []int
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t),
		Observe: func(c ledger.CommitStats) { commits = append(commits, c.Events) }})
	if err != nil {
		t.Fatal(err)
	}
	const heavy, light = 5, 12
	events := newManyEvents(t, "3wManyEventsAaBb").makeEvents(light)
	for i := range heavy {
		events = slices.Insert(events, i, manyCharges(fmt.Sprint("evt_", i), fmt.Sprintf("3wManyCharges%03d", i), 1000))
	}
	var wg sync.WaitGroup
	for i, e := range events {
		wg.Go(func() {
			if _, err := l.Append(t.Context(), e); err != nil {
				t.Errorf("%s: %v", e.ID, err)
			}
		})
		for l.Queued() <= i { // the heavy events are first in the queue
			runtime.Gosched()
		}
	}
	stop := ledgertest.Run(t, l)
	wg.Wait()
	stop()
	if want := []int{light + 1, 1, 1, 1, 1}; !slices.Equal(commits, want) {
		t.Errorf("the commits were of %v events, want %v", commits, want)
	}
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Error(err)
	}
}

// Heavy events that are still queued when the ledger stops are posted and answered.
func TestQueuedHeavyEventsAreAnswered(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := l.Append(t.Context(),
				manyCharges(fmt.Sprint("evt_", i), fmt.Sprintf("3wManyCharges%03d", i), 300)); err != nil {
				t.Error(err)
			}
		})
	}
	for l.Queued() < 4 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if s, err := l.Stats(); err != nil || s.Events != 4 {
		t.Errorf("%d events are posted, %v", s.Events, err)
	}
	if err := errors.Join(l.Check(), l.Close()); err != nil {
		t.Error(err)
	}
}

// BenchmarkManyCharges posts an event with 16,000 charges, the most that fit in a body.
func BenchmarkManyCharges(b *testing.B) {
	l, err := ledger.Open(ledger.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		e := manyCharges(fmt.Sprint("evt_", n), fmt.Sprintf("3wManyCharges%03d", n), 16000)
		n++
		b.StartTimer()
		before := processorTime(b)
		if _, _, err := l.CommitBatch([]*ledger.Event{e}); err != nil {
			b.Fatal(err)
		}
		used += processorTime(b) - before
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/event")
	if err := l.Close(); err != nil {
		b.Error(err)
	}
}
