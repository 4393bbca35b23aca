package ledger_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

const aDay = 24 * time.Hour

// wrongClock is a machine's clock. The time of a test is the true one. Its ledgers look at their
// files once an hour: most of what days that take no time cost would be looks.
type wrongClock struct {
	by     atomic.Int64
	jumped atomic.Int64 // how often it was reported to be far ahead
}

func (w *wrongClock) now() time.Time { return time.Now().Add(time.Duration(w.by.Load())).Round(0) }

func (w *wrongClock) options(dir string) ledger.Options {
	return ledger.Options{Dir: dir, Now: w.now, ClockJumped: func(time.Duration) { w.jumped.Add(1) }, CheckEvery: time.Hour}
}

// came appends an event that is made now at Stripe and dated by the clock.
func (w *wrongClock) append(t *testing.T, l *ledger.Ledger, id string) {
	t.Helper()
	e := succeeded(id, "pi_"+id)
	e.Created, e.Received = time.Now().Unix(), w.now()
	mustAppend(t, l, e)
}

// open opens a ledger whose retention runs, and returns what closes it.
func (w *wrongClock) open(t *testing.T, dir string, keep time.Duration) (*ledger.Ledger, func()) {
	t.Helper()
	l, err := ledger.Open(w.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	halt := ledgertest.Run(t, l)
	stop := startRetention(t, l, keep)
	return l, func() {
		t.Helper()
		stop()
		halt()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func bodiesLeft(t *testing.T, l *ledger.Ledger, ids []string) (n int) {
	t.Helper()
	synctest.Wait()
	for _, id := range ids {
		if hasBody(t, l, id) {
			n++
		}
	}
	return n
}

// A clock that is ahead for a minute costs next to nothing, whether the receiver starts anew
// meanwhile or not, and one that is ahead for long is followed slowly, and said.
func TestRetentionWithClockAhead(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint(restarts), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, dir := &wrongClock{}, ledgertest.Dir(t)
				l, end := w.open(t, dir, 10*aDay)
				defer func() { end() }()
				restart := func() {
					if restarts {
						end()
						l, end = w.open(t, dir, 10*aDay)
					}
				}
				var ids []string
				for day := range 10 {
					ids = append(ids, fmt.Sprint(day))
					w.append(t, l, ids[day])
					time.Sleep(aDay - time.Minute)
				}
				if n := bodiesLeft(t, l, ids); n != 10 || w.jumped.Load() != 0 {
					t.Fatalf("%d are left, %d jumps", n, w.jumped.Load())
				}
				w.by.Store(int64(100 * aDay))
				restart()
				w.append(t, l, "while it was ahead")
				time.Sleep(time.Minute)
				restart() // what came meanwhile is dated so, too
				if n := bodiesLeft(t, l, ids); n < 9 || w.jumped.Load() == 0 || l.RetentionLag() < 99*aDay {
					t.Errorf("after a minute %d are left, %d jumps, a lag of %s", n, w.jumped.Load(), l.RetentionLag())
				}
				w.by.Store(0)
				restart()
				time.Sleep(time.Hour)
				if n := bodiesLeft(t, l, ids); n < 9 || l.RetentionLag() > time.Hour {
					t.Errorf("when it was right again %d are left, a lag of %s", n, l.RetentionLag())
				}
				w.by.Store(int64(100 * aDay))
				time.Sleep(time.Hour)
				if n := bodiesLeft(t, l, ids); n < 7 {
					t.Errorf("an hour ahead left %d", n)
				}
				time.Sleep(5 * aDay)
				if n := bodiesLeft(t, l, ids); n != 0 {
					t.Errorf("a clock that stays ahead left %d", n)
				}
			})
		})
	}
}

// A machine that boots in 1970 and is set by NTP later deletes nothing, and soon as before.
func TestRetentionWithBootIn1970(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, dir := &wrongClock{}, ledgertest.Dir(t)
		l, end := w.open(t, dir, 5*aDay)
		var ids []string
		for i := range 12 {
			for boot := range 2 {
				if boot == 1 {
					end()
					w.by.Store(-int64(30 * 365 * aDay)) // the time of a test begins in 2000
					l, end = w.open(t, dir, 5*aDay)
				}
				id := fmt.Sprintf("%d/%d", i, boot)
				ids = append(ids, id)
				w.append(t, l, id)
				time.Sleep(10 * time.Minute)
			}
			w.by.Store(0)
			time.Sleep(aDay)
			if n, want := bodiesLeft(t, l, ids), 2*min(i+1, 4); n != want {
				t.Errorf("after %d days %d are left, want %d", i+1, n, want)
			}
		}
		end()
	})
}

// One event, or many, that a clock ahead has dated does not keep the others from being deleted in
// their time; one that a clock behind has dated does not delete others.
func TestRetentionWithWrongDates(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-20 * 365 * aDay, -3 * aDay, 3 * aDay, 365 * aDay} {
		for _, many := range []int{1, 7} {
			t.Run(fmt.Sprintf("%s/%d", by, many), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := &wrongClock{}
					l := ledgertest.Start(t, w.options(ledgertest.Dir(t)))
					stop := startRetention(t, l, 5*aDay)
					defer stop()
					var ids []string
					day := func(n int, wrong bool) {
						for i := range n {
							id := fmt.Sprintf("%d", len(ids))
							ids = append(ids, id)
							if e := succeeded(id, "pi_"+id); wrong && i < many {
								e.Created, e.Received = time.Now().Unix()-60, time.Now().Add(by)
								mustAppend(t, l, e)
							} else {
								w.append(t, l, id)
							}
						}
						time.Sleep(aDay)
					}
					day(20, true)
					day(20, false)
					day(20, true)
					day(20, false)
					time.Sleep(aDay - time.Hour)
					if n := bodiesLeft(t, l, ids); n != 80 {
						t.Errorf("before the first are due %d of 80 are left", n)
					}
					time.Sleep(2 * time.Hour)
					if n := bodiesLeft(t, l, ids); n != 60 {
						t.Errorf("when the first day is due %d are left, want 60", n)
					}
					time.Sleep(2 * aDay)
					if n := bodiesLeft(t, l, ids); n != 20 {
						t.Errorf("when the third day is due %d are left, want 20", n)
					}
				})
			})
		}
	}
}

// A clock that jumps at random for at most an hour at a time, around restarts: no body goes more
// than a day too early, and in the end all go.
func TestRetentionWithRandomClocks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 10))
				offsets := []time.Duration{-30 * 365 * aDay, -40 * aDay, -time.Hour, time.Hour, 3 * aDay, 100 * aDay, 20 * 365 * aDay}
				w, dir, keep := &wrongClock{}, ledgertest.Dir(t), 6*aDay
				l, end := w.open(t, dir, keep)
				defer func() { end() }()
				came := map[string]time.Time{"0": time.Now()}
				all := []string{"0"}
				w.append(t, l, "0")
				for range 25 {
					if w.by.Store(0); rng.IntN(2) == 0 {
						w.by.Store(int64(offsets[rng.IntN(len(offsets))]))
					}
					if rng.IntN(3) == 0 {
						end()
						l, end = w.open(t, dir, keep)
					}
					for range rng.IntN(4) {
						id := fmt.Sprint(len(all))
						all = append(all, id)
						w.append(t, l, id)
						came[id] = time.Now()
					}
					time.Sleep(time.Duration(1+rng.IntN(60)) * time.Minute)
					w.by.Store(0)
					time.Sleep(time.Duration(2+rng.IntN(10)) * time.Hour)
					synctest.Wait()
					for id, at := range came {
						if !hasBody(t, l, id) {
							if age := time.Since(at); age < keep-26*time.Hour {
								t.Fatalf("the body of %s went after %s", id, age)
							}
							delete(came, id)
						}
					}
				}
				for range 10 { // a shop goes on
					id := fmt.Sprint(len(all))
					all = append(all, id)
					w.append(t, l, id)
					time.Sleep(aDay)
				}
				if n := bodiesLeft(t, l, slices.Collect(func(yield func(string) bool) {
					for id := range came {
						if !yield(id) {
							return
						}
					}
				})); n != 0 {
					t.Errorf("%d bodies of ten days ago are left", n)
				}
			})
		})
	}
}

// What came last is not dated by a clock that was ahead.
func TestLastEventIgnoresClockAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := &wrongClock{}, ledgertest.Dir(t)
		l, end := w.open(t, dir, 0)
		defer func() { end() }()
		w.by.Store(int64(365 * aDay))
		w.append(t, l, "ahead")
		made := time.Now()
		w.by.Store(0)
		for range 2 {
			time.Sleep(time.Hour)
			if at, ok := l.LastEvent(); !ok || at.Unix() != made.Unix() {
				t.Errorf("the last event came at %s (%v), want %s", at, ok, made)
			}
			end()
			l, end = w.open(t, dir, 0)
		}
		before := mustStats(t, l).LastMoney
		w.append(t, l, "right")
		if at := mustStats(t, l).LastMoney; at.After(time.Now()) {
			t.Errorf("the last money came at %s, before %s", at, before)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A rebuild leaves out no bodies that only a clock ahead calls old.
func TestRebuildKeepsBodiesWithClockAhead(t *testing.T) {
	w, dir := &wrongClock{}, ledgertest.Dir(t)
	l := ledgertest.Start(t, w.options(ledgertest.Dir(t)))
	w.append(t, l, "now")
	mustAppend(t, l, receivedAgo("old", 100*aDay))
	w.append(t, l, "later")
	file, err := os.Create(filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.CopyTo(file), file.Close()); err != nil {
		t.Fatal(err)
	}
	w.by.Store(int64(120 * aDay))
	opts := w.options(dir)
	opts.Retention = 90 * aDay
	done, err := ledger.Rebuild(t.Context(), opts, false)
	if err != nil || done.Expired != 1 {
		t.Errorf("rebuilt %+v, %v", done, err)
	}
}

// The lag of a clock that was ahead ends with the fault, not with the next look for bodies.
func TestRetentionLagEndsWithTheClockFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wrongClock{}
		l, end := w.open(t, t.TempDir(), 10*aDay)
		defer end()
		w.append(t, l, "evt_1")
		w.by.Store(int64(100 * aDay))
		time.Sleep(90 * time.Second)
		if lag := l.RetentionLag(); lag < 99*aDay {
			t.Errorf("while it is ahead the lag is %s", lag)
		}
		w.by.Store(0)
		if lag := l.RetentionLag(); lag > time.Hour {
			t.Errorf("when it is right again the lag is %s", lag)
		}
	})
}
