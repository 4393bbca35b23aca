package ledger_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/export"
	"tillhook/ledger/ledgertest"
)

// Index entries are flushed to their buckets in later commits. Until then every reader finds them
// in the write buffer, also after a crash. Closing a ledger flushes the buffer.
func TestBufferedEntriesAreFound(t *testing.T) {
	const payments = 300
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(100)
	stop := ledgertest.Run(t, l)
	check := func(l *ledger.Ledger, upTo int) {
		t.Helper()
		for i := range upTo {
			id := fmt.Sprintf("pi_%03d", i)
			p, err := l.Payment("ch_" + id)
			if err != nil || p.ID != id || p.Events != 2 {
				t.Fatalf("%s is %+v, %v", id, p, err)
			}
			if page, err := l.PaymentEvents(t.Context(), id, ledger.EventQuery{Limit: 5}); err != nil ||
				page.Next != "" || len(page.Data) != 2 {
				t.Fatalf("%s has %d events, then %q, %v", id, len(page.Data), page.Next, err)
			}
		}
		q, n := ledger.PaymentQuery{Limit: 7}, 0
		for more := true; more; {
			page, err := l.Payments(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			more = page.Next != ""
			for _, p := range page.Data {
				q.After = p.ID
				n++
			}
		}
		if n != upTo {
			t.Fatalf("%d payments are listed, want %d", n, upTo)
		}
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	send := func(upTo int) {
		var group sync.WaitGroup
		for ; sent < upTo; sent++ {
			for _, event := range []string{"a", "b"} {
				e := succeeded(fmt.Sprintf("evt_%s_%03d", event, sent), fmt.Sprintf("pi_%03d", sent))
				e.Facts.Charge = "ch_" + e.Facts.PaymentIntent
				e.Facts.Intents[0].LatestCharge = e.Facts.Charge
				group.Go(func() { mustAppend(t, l, e) })
			}
			if sent%10 == 9 {
				group.Wait()
			}
		}
		group.Wait()
	}
	send(payments / 2)
	check(l, payments/2)
	copied := ledgertest.Dir(t)
	if err := ledger.Save(ledger.Path(copied), l.CopyTo, nil); err != nil {
		t.Fatal(err)
	}
	send(payments)
	check(l, payments)
	stop()
	if entries, records := l.Buffered(); entries+records != 0 {
		t.Errorf("%d entries and %d records are still in the buffer", entries, records)
	}
	check(l, payments)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	crashed, err := ledger.OpenReadOnly(copied)
	if err != nil {
		t.Fatal(err)
	}
	if entries, records := crashed.Buffered(); entries == 0 || records == 0 {
		t.Errorf("the copy has %d buffered entries in %d records: the test shows nothing", entries, records)
	}
	check(crashed, payments/2)
	if err := crashed.Close(); err != nil {
		t.Fatal(err)
	}
	again := ledgertest.Start(t, ledger.Options{Dir: copied})
	if res := mustAppend(t, again, succeeded("evt_b_149", "pi_149")); !res.Repeat {
		t.Errorf("an event from before the crash returned %+v", res)
	}
}

// Readers begin and end during commits, and each sees one consistent snapshot.
func TestReadersSeeAConsistentSnapshot(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(64)
	stop := ledgertest.Run(t, l)
	var group sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// Each listed payment must exist.
				x, err := l.NewExport(export.Query{Table: export.Payments, Format: "jsonl"})
				if err == nil {
					err = x.Write(t.Context(), io.Discard)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", rng.IntN(150))))
	}
	close(done)
	group.Wait()
	stop()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Readers between commits reuse the merged run of an earlier reader, unless it belongs to another
// generation.
func TestReadersBetweenCommits(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(12)
	stop := ledgertest.Run(t, l)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 500 {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%03d", i), fmt.Sprintf("pi_%03d", i)))
		if rng.IntN(4) > 0 {
			continue
		}
		for n := max(0, i-8); n <= i; n++ {
			if _, err := l.Payment(fmt.Sprintf("pi_%03d", n)); err != nil {
				t.Fatalf("after %d events: %v", i+1, err)
			}
		}
	}
	stop()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A repeat is found whether its id is in the write buffer, was flushed recently or long ago, or was
// stored before the last start. Most ids arrive in order.
func TestRepeatsAreFoundInBufferAndBuckets(t *testing.T) {
	dir := ledgertest.Dir(t)
	rng := rand.New(rand.NewPCG(5, 6))
	var sent []string
	for start := range 3 {
		l, err := ledger.Open(ledger.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		l.LimitBuffer(12)
		stop := ledgertest.Run(t, l)
		for i := range 300 {
			id := fmt.Sprintf("evt_%d%04d%c", start, i-rng.IntN(1+i/10), 'a'+rng.IntN(26))
			if rng.IntN(3) == 0 && len(sent) > 0 {
				id = sent[rng.IntN(len(sent))]
			}
			repeat := slices.Contains(sent, id)
			if res := mustAppend(t, l, succeeded(id, "pi_"+id[4:])); res.Repeat != repeat {
				t.Fatalf("event %s, %d events after start %d: %+v", id, i, start, res)
			}
			if !repeat {
				sent = append(sent, id)
			}
		}
		stop()
		if err := errors.Join(l.Check(), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged record of the write buffer hides the entries in it, so the ledger is not opened before
// it is rebuilt. Otherwise a repeat would be posted again.
func TestDamagedBufferRecordIsRefused(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	dir := ledgertest.Dir(t)
	if err := ledger.Save(filepath.Join(dir, "ledger.db"), l.CopyTo, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("buffer")).Put(seq(1), []byte("noise")) })
	if _, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrCorrupt) ||
		!strings.Contains(err.Error(), "tillhook rebuild") {
		t.Fatalf("Open returned %v", err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); err != nil {
		t.Fatal(err)
	}
	rebuilt := ledgertest.Start(t, ledger.Options{Dir: dir})
	if res := mustAppend(t, rebuilt, succeeded("evt_1", "pi_1")); !res.Repeat {
		t.Errorf("after a rebuild the repeat returned %+v", res)
	}
}

// While many small entries are being flushed, large entries arrive. They do not accumulate in the
// buffer.
func TestBufferIsBoundedInBytes(t *testing.T) {
	l := ledgertest.Open(t, false)
	n := 0
	send := func(events int, metadata map[string]string) {
		t.Helper()
		for range events / 64 {
			var group sync.WaitGroup
			for range 64 {
				n++
				e := succeeded(fmt.Sprintf("evt_%09d", n), fmt.Sprintf("pi_%09d", n))
				e.Facts.Intents[0].Metadata = metadata
				group.Go(func() {
					if _, err := l.Append(t.Context(), e); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if err := l.WaitIdle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	large := map[string]string{}
	for i := range 50 {
		// equal texts would be stored only once
		large[fmt.Sprintf("key %d", i)] = fmt.Sprint(i) + strings.Repeat("x", 490)
	}
	for before := -1; l.BufferedBytes() > before; { // until the next generation begins
		before = l.BufferedBytes()
		send(64, nil)
	}
	most := 0
	for range 24 {
		send(128, large)
		most = max(most, l.BufferedBytes())
	}
	if most > 32<<20 {
		t.Errorf("the buffer grew to %d MB", most>>20)
	}
	t.Logf("the buffer grew to %d MB", most>>20)
}
