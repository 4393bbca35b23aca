package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// simulation is a ledger that receives events in any order and repeatedly, is restarted, killed and
// rebuilt, deletes bodies and releases events.
type simulation struct {
	*rand.Rand
	dir      string
	l        *ledger.Ledger
	stop     func()
	pool     []*ledger.Event          // the events that can arrive
	arrived  []*ledger.Event          // the events that arrived, in the order of the acknowledgments
	usable   map[string]*ledger.Event // the usable form of each event, by its body
	rebuilds int
}

func (s *simulation) open(t *testing.T) {
	t.Helper()
	var err error
	s.l, err = ledger.Open(ledger.Options{Dir: s.dir, Decode: func(raw []byte) *ledger.Event {
		e := *s.usable[string(raw)]
		e.Raw = raw
		return &e
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.l.LimitBuffer(1 + s.IntN(60))
	s.stop = ledgertest.Run(t, s.l)
}

// kill simulates a crash: it continues with a copy of the file that was made while the ledger runs.
func (s *simulation) kill(t *testing.T) {
	t.Helper()
	dir := ledgertest.Dir(t)
	if err := ledger.Save(ledger.Path(dir), s.l.CopyTo, nil); err != nil {
		t.Fatal(err)
	}
	s.close(t)
	s.dir = dir
	s.open(t)
}

func (s *simulation) close(t *testing.T) {
	t.Helper()
	s.stop()
	if err := s.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// append appends some events of the pool concurrently. Some arrive before they can be decoded.
func (s *simulation) append(t *testing.T) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 1 + s.IntN(12) {
		e := s.pool[s.IntN(len(s.pool))]
		if s.IntN(8) == 0 {
			quarantined := *e
			quarantined.Quarantine, quarantined.Facts = ledger.Undecodable, ledger.Facts{}
			e = &quarantined
		}
		wg.Go(func() {
			_, err := s.l.Append(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			if s.arrived = append(s.arrived, e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func (s *simulation) step(t *testing.T) {
	t.Helper()
	switch n := s.IntN(20); {
	case n < 14:
		s.append(t)
	case n < 15:
		s.close(t)
		s.open(t)
	case n < 17:
		s.kill(t)
	case n < 18:
		if err := s.l.Expire(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
	case n < 19:
		if _, err := s.l.ReleaseAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, e := range slices.Clone(s.arrived) {
			if e.Quarantine != "" {
				s.arrived = append(s.arrived, s.usable[string(e.Raw)])
			}
		}
	default:
		s.close(t)
		if _, err := ledger.Rebuild(context.Background(), ledger.Options{Dir: s.dir}, false); err != nil {
			t.Fatal(err)
		}
		s.rebuilds++
		s.open(t)
	}
}

// check compares the payments, totals and statistics with the model, and requires that the ledger
// is sound.
func (s *simulation) check(t *testing.T) {
	t.Helper()
	payments, totals := modelResult(s.arrived)
	if len(s.arrived) == 0 {
		return
	}
	for _, want := range payments {
		got, err := s.l.Payment(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := asJSON(t, got), asJSON(t, want); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	}
	listed, err := s.l.Payments(t.Context(), ledger.PaymentQuery{Limit: len(payments) + 1})
	if err != nil || listed.Next != "" || len(listed.Data) != len(payments) {
		t.Fatalf("%d payments are listed, the model has %d: %v", len(listed.Data), len(payments), err)
	}
	kept, err := allTotals(t, s.l)
	if got, want := asJSON(t, kept), asJSON(t, totals); got != want || err != nil {
		t.Fatalf("\n got %s\nwant %s\n%v", got, want, err)
	}
	statuses := map[string]uint64{}
	for _, p := range payments {
		status := string(p.Status)
		switch {
		case status == "":
			status = ledger.StatusNone
		case !slices.Contains(ledger.Statuses[:], status):
			status = ledger.StatusOther
		}
		statuses[status]++
	}
	stats, err := s.l.Stats()
	for status, n := range stats.Payments {
		if statuses[status] != n || err != nil {
			t.Fatalf("%d payments are counted in status %s, the model has %d: %v", n, status, statuses[status], err)
		}
	}
	if err := s.l.Check(); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to a ledger, it holds what the model computes from the events that arrived.
func TestSimulationMatchesTheModel(t *testing.T) {
	t.Parallel()
	runs, steps := 40, 40
	if *long {
		runs, steps = 400, 120
	}
	rebuilds, arrived := 0, 0
	for run := range runs {
		s := &simulation{Rand: rand.New(rand.NewPCG(uint64(run), 17)), dir: ledgertest.Dir(t),
			usable: map[string]*ledger.Event{}}
		for n := range 6 {
			s.pool = append(s.pool, randomEvents(s.Rand, fmt.Sprintf("l%d", n), 1+s.IntN(16))...)
		}
		for _, e := range s.pool {
			e.Raw = []byte(`{"id":"` + e.ID + `"}`)
			s.usable[string(e.Raw)] = e
		}
		s.open(t)
		for range steps {
			s.step(t)
			s.check(t)
		}
		s.close(t)
		if _, err := check.Verify(t.Context(), s.l.Path()); err != nil {
			t.Fatal(err)
		}
		rebuilds, arrived = rebuilds+s.rebuilds, arrived+len(s.arrived)
	}
	t.Logf("%d runs, %d deliveries, %d rebuilds", runs, arrived, rebuilds)
}
