package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// receivedAgo returns an event that was received some time ago.
func receivedAgo(id string, ago time.Duration) *ledger.Event {
	e := succeeded(id, "pi_"+id)
	e.Received = time.Now().Add(-ago)
	return e
}

// startRetention starts retention. The function stop ends it and waits for its end.
func startRetention(t *testing.T, l *ledger.Ledger, keep time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.RunRetention(ctx, keep) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("RunRetention returned %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("RunRetention has not returned after its context was canceled")
		}
	}
}

// hasBody reports whether the body of an event is still stored.
func hasBody(t *testing.T, l *ledger.Ledger, id string) bool {
	t.Helper()
	_, err := l.Body(id)
	if err != nil && !errors.Is(err, ledger.ErrGone) {
		t.Errorf("the body of %s: %v", id, err)
	}
	return err == nil
}

// pass is longer than the pause between two passes of retention.
const pass = 2 * time.Minute

func TestRetentionDeletesOldBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledgertest.Open(t, false)
		const old = 1400 // more than one step deletes
		var group sync.WaitGroup
		for i := range old {
			group.Go(func() { mustAppend(t, l, receivedAgo(fmt.Sprintf("old_%d", i), 48*time.Hour)) })
		}
		group.Wait()
		quarantined := receivedAgo("quarantined", 47*time.Hour)
		quarantined.Quarantine = ledger.WrongMode
		mustAppend(t, l, quarantined)
		mustAppend(t, l, receivedAgo("edge", 24*time.Hour-time.Hour)) // due in an hour
		mustAppend(t, l, receivedAgo("new", 0))
		before, p := mustStats(t, l), payment(t, l, "pi_old_3")

		stop := startRetention(t, l, 24*time.Hour)
		defer stop()
		time.Sleep(pass)
		synctest.Wait()
		for i := range old {
			if hasBody(t, l, fmt.Sprintf("old_%d", i)) {
				t.Fatalf("body %d is still stored", i)
			}
		}
		for _, id := range []string{"quarantined", "edge", "new"} {
			if !hasBody(t, l, id) {
				t.Errorf("the body of %s was deleted", id)
			}
		}
		if got := asJSON(t, payment(t, l, "pi_old_3")); got != asJSON(t, p) {
			t.Errorf("the payment changed to %s", got)
		}
		after := mustStats(t, l)
		before.FileBytes, before.FreeBytes = after.FileBytes, after.FreeBytes
		if asText(after) != asText(before) {
			t.Errorf("the statistics were %+v and are %+v", before, after)
		}
		if res := mustAppend(t, l, receivedAgo("old_3", 0)); res.Status != ledger.AlreadyProcessed {
			t.Errorf("a repeat of an event without its body returned %+v", res)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}

		time.Sleep(time.Hour)
		synctest.Wait()
		if hasBody(t, l, "edge") || !hasBody(t, l, "new") || !hasBody(t, l, "quarantined") {
			t.Error("after an hour the body that became too old is still stored, or another one was deleted")
		}
	})
}

func payment(t *testing.T, l *ledger.Ledger, id string) *ledger.Payment {
	t.Helper()
	p, err := l.Payment(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The age of the body of an event that left quarantine is that of its new row. The new row has the
// time of the old one if the event was decoded again, and a new time if it was delivered again.
func TestRetentionDeletesBodiesOfReleasedEvents(t *testing.T) {
	for _, by := range []string{"release", "append"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable})
				quarantined := receivedAgo("quarantined", 48*time.Hour)
				quarantined.Quarantine = ledger.Undecodable
				mustAppend(t, l, quarantined)
				mustAppend(t, l, receivedAgo("old", 47*time.Hour))
				stop := startRetention(t, l, 24*time.Hour)
				defer stop()
				time.Sleep(pass)
				synctest.Wait()
				if !hasBody(t, l, "quarantined") || hasBody(t, l, "old") {
					t.Fatal("the first pass deleted a quarantined body or kept an old one")
				}
				if by == "append" {
					mustAppend(t, l, receivedAgo("quarantined", 0))
				} else if res, err := l.Release(t.Context(), "quarantined"); err != nil ||
					res.Status != ledger.Applied {
					t.Fatalf("got %+v, %v", res, err)
				}
				time.Sleep(pass)
				synctest.Wait()
				if hasBody(t, l, "quarantined") != (by == "append") {
					t.Errorf("the body is stored: %v", by != "append")
				}
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				if hasBody(t, l, "quarantined") {
					t.Error("the body is still stored after the retention time")
				}
				if err := l.Check(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRetentionOfZeroKeepsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int64
		l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), CheckEvery: time.Hour,
			Observe: func(ledger.CommitStats) { commits.Add(1) }})
		mustAppend(t, l, receivedAgo("old", 10000*time.Hour))
		stop := startRetention(t, l, 0)
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		if n := commits.Load(); !hasBody(t, l, "old") || n != 1 {
			t.Errorf("the body was deleted, or there were %d commits", n)
		}
		stop()
	})
}

// bbolt writes its list of free pages with every commit. While that list is long, retention waits
// until events have used the free pages, and then continues.
func TestRetentionWaitsUntilFreePagesAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledgertest.Open(t, false)
		const size, old = 72 << 10, 4 * 256 // a step frees about 4,600 pages
		rng := rand.NewChaCha8([32]byte{1})
		add := func(name string, n int, ago time.Duration) {
			var group sync.WaitGroup
			for i := range n {
				e := receivedAgo(fmt.Sprintf("%s_%d", name, i), ago)
				e.Raw = make([]byte, size) // random bytes cannot be compressed
				rng.Read(e.Raw)
				group.Go(func() { mustAppend(t, l, e) })
				if i%256 == 255 {
					group.Wait() // the queue is limited in bytes
				}
			}
			group.Wait()
		}
		left := func() (n int) {
			for i := range old {
				if hasBody(t, l, fmt.Sprintf("old_%d", i)) {
					n++
				}
			}
			return n
		}
		add("old", old, 48*time.Hour)
		stop := startRetention(t, l, 24*time.Hour)
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		waiting := left()
		if waiting == 0 || waiting == old {
			t.Fatalf("after an hour %d of %d bodies are left", waiting, old)
		}
		for round := 0; left() > 0; round++ {
			if round == 4 {
				t.Fatalf("%d bodies are still stored, although events have used the free pages", left())
			}
			add(fmt.Sprintf("new%d", round), 256, 0)
			time.Sleep(pass)
			synctest.Wait()
		}
	})
}

// Retention shares the transactions of concurrent events and delays none of them.
func TestRetentionDoesNotBlockAppend(t *testing.T) {
	l := ledgertest.Open(t, false)
	const n = 1500
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { mustAppend(t, l, receivedAgo(fmt.Sprintf("old_%d", i), 48*time.Hour)) })
	}
	group.Wait()
	stop := startRetention(t, l, 24*time.Hour)
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				mustAppend(t, l, receivedAgo(fmt.Sprintf("new_%d_%d", i, j), 0))
			}
		})
	}
	group.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; i < n; {
		switch {
		case !hasBody(t, l, fmt.Sprintf("old_%d", i)):
			i++
		case time.Now().After(deadline):
			t.Fatalf("body %d is still stored", i)
		default:
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	for i := range 8 {
		for j := range 50 {
			if !hasBody(t, l, fmt.Sprintf("new_%d_%d", i, j)) {
				t.Fatal("a new body was deleted")
			}
		}
	}
}

// RunRetention returns if the ledger has stopped or is stopping.
func TestRetentionEndsWithTheLedger(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
	if err != nil {
		t.Fatal(err)
	}
	halt := ledgertest.Run(t, l)
	mustAppend(t, l, receivedAgo("old", 48*time.Hour))
	halt()
	ended := make(chan error, 1)
	go func() { ended <- l.RunRetention(t.Context(), time.Hour) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("RunRetention has not returned after Run ended")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Retention passes rows in quarantine in stretches, and does not read them again.
func TestRetentionSkipsTheQuarantine(t *testing.T) {
	l := ledgertest.Open(t, false)
	var wg sync.WaitGroup
	for i := range 4500 {
		wg.Go(func() {
			e := receivedAgo(fmt.Sprintf("q%d", i), 200*24*time.Hour)
			e.Quarantine, e.Facts = ledger.ThinEvent, ledger.Facts{}
			if _, err := l.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustAppend(t, l, receivedAgo("old", 199*24*time.Hour))
	if err := l.Expire(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if hasBody(t, l, "old") {
		t.Error("the old body after the quarantined ones is still stored")
	}
	if !hasBody(t, l, "q7") {
		t.Error("a quarantined body was deleted")
	}
	if at := l.Expired(); at != 4501 {
		t.Errorf("retention has passed row %d, want 4501", at)
	}
}
