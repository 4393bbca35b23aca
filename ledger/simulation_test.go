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
	"tillhook/ledger/ledgertest"
)

// simulation is a ledger's life: events in any order and again, restarts, kills, retention, rebuilds, release.
type simulation struct {
	*rand.Rand
	dir      string
	l        *ledger.Ledger
	stop     func()
	pool     []*ledger.Event          // what may come
	came     []*ledger.Event          // what came, in the order in which it was acknowledged
	usable   map[string]*ledger.Event // what a later decoder makes of an event in quarantine, by its body
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

// kill goes on with the file as it is on disk while the ledger runs.
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

// append sends some events of the pool at once; some come before they can be decoded.
func (s *simulation) append(t *testing.T) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 1 + s.IntN(12) {
		e := s.pool[s.IntN(len(s.pool))]
		if s.IntN(8) == 0 {
			held := *e
			held.Quarantine, held.Facts = ledger.Undecodable, ledger.Facts{}
			e = &held
		}
		wg.Go(func() {
			_, err := s.l.Append(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			if s.came = append(s.came, e); err != nil {
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
		for _, e := range slices.Clone(s.came) {
			if e.Quarantine != "" {
				s.came = append(s.came, s.usable[string(e.Raw)])
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

// agrees compares everything that is folded with the model, and requires a sound ledger.
func (s *simulation) agrees(t *testing.T) {
	t.Helper()
	payments, totals := modelResult(s.came)
	if len(s.came) == 0 {
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

// Whatever a ledger lives through, it holds what the model makes of the events that came.
func TestSimulationMatchesTheModel(t *testing.T) {
	t.Parallel()
	lives, steps := 40, 40
	if *long {
		lives, steps = 400, 120
	}
	rebuilds, came := 0, 0
	for life := range lives {
		s := &simulation{Rand: rand.New(rand.NewPCG(uint64(life), 17)), dir: ledgertest.Dir(t), usable: map[string]*ledger.Event{}}
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
			s.agrees(t)
		}
		s.close(t)
		if _, err := ledger.Verify(s.l.Path()); err != nil {
			t.Fatal(err)
		}
		rebuilds, came = rebuilds+s.rebuilds, came+len(s.came)
	}
	t.Logf("%d lives, %d deliveries, %d rebuilds", lives, came, rebuilds)
}
