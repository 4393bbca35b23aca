package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// quarantineSimulation is a ledger that receives usable and unusable forms of events, is restarted,
// killed and rebuilt, and deletes bodies.
type quarantineSimulation struct {
	*rand.Rand
	opts    ledger.Options
	l       *ledger.Ledger
	stop    func()
	arrived map[string]bool // ids of events that arrived in any form
	posted  map[string]bool // ids of events that arrived in a usable form or were released
	journal []string        // every row as it was first seen
}

func (s *quarantineSimulation) open(t *testing.T) {
	t.Helper()
	var err error
	if s.l, err = ledger.Open(s.opts); err != nil {
		t.Fatal(err)
	}
	s.l.LimitBuffer(1 + s.IntN(60))
	s.stop = ledgertest.Run(t, s.l)
}

func (s *quarantineSimulation) close(t *testing.T) {
	t.Helper()
	s.stop()
	if err := s.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// pool is the number of events. Each payment has two of them.
const pool = 40

func poolEvent(n int) *ledger.Event {
	return succeeded(fmt.Sprintf("evt_%d", n), fmt.Sprintf("pi_%d", n/2))
}

func decodePool(raw []byte) *ledger.Event {
	var n int
	if _, err := fmt.Sscanf(string(raw), `{"id":"evt_%d"}`, &n); err != nil {
		panic(err) // nothing else is appended
	}
	e := poolEvent(n)
	e.Raw = raw
	return e
}

func (s *quarantineSimulation) append(t *testing.T) {
	var wg sync.WaitGroup
	for range 1 + s.IntN(12) {
		e := poolEvent(s.IntN(pool))
		s.arrived[e.ID] = true
		if s.IntN(2) == 0 {
			e.Quarantine, e.Facts = ledger.Undecodable, ledger.Facts{}
			if s.IntN(2) == 0 {
				e.Quarantine, e.Snapshot = ledger.ThinEvent, fmt.Sprintf("evt_%d", s.IntN(pool))
			}
		} else {
			s.posted[e.ID] = true
		}
		wg.Go(func() {
			if _, err := s.l.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// released marks all events that arrived as posted.
func (s *quarantineSimulation) released() {
	for id := range s.arrived {
		s.posted[id] = true
	}
}

func (s *quarantineSimulation) step(t *testing.T) {
	t.Helper()
	switch s.IntN(12) {
	case 0:
		s.close(t)
		s.open(t)
	case 1: // simulates a crash: continue with a copy that was made while the ledger runs
		dir := ledgertest.Dir(t)
		if err := ledger.Save(ledger.Path(dir), s.l.CopyTo, nil); err != nil {
			t.Fatal(err)
		}
		s.close(t)
		s.opts.Dir = dir
		s.open(t)
	case 2:
		if err := s.l.Expire(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
	case 3:
		if _, err := s.l.ReleaseAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.released()
	case 4:
		for id := range s.arrived {
			if err := s.l.Dismiss(t.Context(), id); err != nil && !errors.Is(err, ledger.ErrNotQuarantined) {
				t.Fatal(err)
			}
		}
	case 5:
		s.close(t)
		decode := s.IntN(2) == 0
		if _, err := ledger.Rebuild(t.Context(), s.opts, decode); err != nil {
			t.Fatal(err)
		}
		if decode {
			s.released()
		}
		s.open(t)
	default:
		s.append(t)
	}
}

// check requires that no row has changed since it was first seen, that each usable event is posted
// once, and that the ledger is sound.
func (s *quarantineSimulation) check(t *testing.T) {
	t.Helper()
	var rows []string
	released := 0
	for _, e := range allRows(t, s.l) {
		rows = append(rows, fmt.Sprint(e.Sequence, e.ID, e.Outcome, e.Reason, e.Received, e.Source, e.Size,
			e.ReleasedFrom))
		if e.ReleasedAs != 0 {
			released++
		}
	}
	if len(rows) < len(s.journal) || !slices.Equal(rows[:len(s.journal)], s.journal) {
		t.Fatalf("the rows were\n%v\nand begin with\n%v", s.journal, rows)
	}
	s.journal = rows
	stats := mustStats(t, s.l)
	if int(stats.Events) != len(s.arrived) || len(rows) != len(s.arrived)+released ||
		int(stats.Outcomes[ledger.Quarantined]) != len(s.arrived)-len(s.posted) {
		t.Fatalf("%d events arrived, %d of them usable; there are %d rows, %d left quarantine, and the statistics are %+v", len(s.arrived), len(s.posted), len(rows), released, stats)
	}
	events := map[string]uint64{}
	for id := range s.posted {
		var n int
		if _, err := fmt.Sscanf(id, "evt_%d", &n); err != nil {
			t.Fatal(err)
		}
		events[fmt.Sprintf("pi_%d", n/2)]++
	}
	for id, n := range events {
		if p := payment(t, s.l, id); p.Events != n || *p.AmountReceived != 4200 {
			t.Fatalf("%s is %+v, want %d events", id, p, n)
		}
	}
	quarantineStates(t, s.l)
	if err := s.l.Check(); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to a ledger, releasing an event only appends a row.
func TestSimulationOfTheQuarantine(t *testing.T) {
	t.Parallel()
	runs, steps := 20, 40
	if *long {
		runs = 200
	}
	for run := range runs {
		s := &quarantineSimulation{Rand: rand.New(rand.NewPCG(uint64(run), 23)), arrived: map[string]bool{},
			posted: map[string]bool{},
			opts:   ledger.Options{Dir: ledgertest.Dir(t), Decode: decodePool}}
		s.open(t)
		for range steps {
			s.step(t)
			s.check(t)
		}
		s.close(t)
		mustVerify(t, s.l.Path())
	}
}
