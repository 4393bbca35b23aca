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

// wrongClock is the clock of a machine. It differs from the true time, which is the fake time of
// the test, by an offset. The ledgers check their files only once an hour, because in days of fake
// time nearly all work would be these checks.
type wrongClock struct {
	by     atomic.Int64 // offset in nanoseconds
	jumped atomic.Int64 // number of reports that the clock jumped
}

func (w *wrongClock) now() time.Time { return time.Now().Add(time.Duration(w.by.Load())).Round(0) }

func (w *wrongClock) options(dir string) ledger.Options {
	return ledger.Options{Dir: dir, Now: w.now, ClockJumped: func(time.Duration) { w.jumped.Add(1) },
		CheckEvery: time.Hour}
}

// append appends an event that Stripe creates now and that the clock dates.
func (w *wrongClock) append(t *testing.T, l *ledger.Ledger, id string) {
	t.Helper()
	e := succeeded(id, "pi_"+id)
	e.Created, e.Received = time.Now().Unix(), w.now()
	mustAppend(t, l, e)
}

// open opens a ledger and starts its retention. The function close stops both and closes the
// ledger.
func (w *wrongClock) open(t *testing.T, dir string, keep time.Duration) (_ *ledger.Ledger, close func()) {
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

// bodiesLeft returns how many of the events still have a body.
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

// A clock that is ahead for a minute costs almost no bodies, with and without restarts in between.
// A clock that stays ahead is followed slowly, and reported.
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
					t.Fatalf("%d bodies are left, %d jumps were reported", n, w.jumped.Load())
				}
				w.by.Store(int64(100 * aDay))
				restart()
				w.append(t, l, "while it was ahead")
				time.Sleep(time.Minute)
				restart() // the ledger now holds an event with a date in the future
				if n := bodiesLeft(t, l, ids); n < 9 || w.jumped.Load() == 0 || l.RetentionLag() < 99*aDay {
					t.Errorf("after a minute %d bodies are left, %d jumps were reported, the lag is %s", n,
						w.jumped.Load(), l.RetentionLag())
				}
				w.by.Store(0)
				restart()
				time.Sleep(time.Hour)
				if n := bodiesLeft(t, l, ids); n < 9 || l.RetentionLag() > time.Hour {
					t.Errorf("after the clock was corrected %d bodies are left, the lag is %s", n, l.RetentionLag())
				}
				w.by.Store(int64(100 * aDay))
				time.Sleep(time.Hour)
				if n := bodiesLeft(t, l, ids); n < 7 {
					t.Errorf("after an hour with the clock ahead %d bodies are left", n)
				}
				time.Sleep(5 * aDay)
				if n := bodiesLeft(t, l, ids); n != 0 {
					t.Errorf("with a clock that stays ahead %d bodies are left", n)
				}
			})
		})
	}
}

// A machine that boots in 1970, and whose clock NTP sets later, deletes no body too early, and soon
// deletes in time again.
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
					w.by.Store(-int64(30 * 365 * aDay)) // fake time begins in 2000
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
				t.Errorf("after %d days %d bodies are left, want %d", i+1, n, want)
			}
		}
		end()
	})
}

// Events that a clock ahead has dated do not delay the deletion of others. Events that a clock
// behind has dated do not cause the deletion of others.
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
						t.Errorf("before the first bodies are due %d of 80 are left", n)
					}
					time.Sleep(2 * time.Hour)
					if n := bodiesLeft(t, l, ids); n != 60 {
						t.Errorf("when the first day is due %d bodies are left, want 60", n)
					}
					time.Sleep(2 * aDay)
					if n := bodiesLeft(t, l, ids); n != 20 {
						t.Errorf("when the third day is due %d bodies are left, want 20", n)
					}
				})
			})
		}
	}
}

// The clock jumps at random, each time for at most an hour, with restarts in between. No body is
// deleted more than a day too early, and finally all are deleted.
func TestRetentionWithRandomClocks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 10))
				offsets := []time.Duration{-30 * 365 * aDay, -40 * aDay, -time.Hour, time.Hour, 3 * aDay, 100 * aDay,
					20 * 365 * aDay}
				w, dir, keep := &wrongClock{}, ledgertest.Dir(t), 6*aDay
				l, end := w.open(t, dir, keep)
				defer func() { end() }()
				arrived := map[string]time.Time{"0": time.Now()}
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
						arrived[id] = time.Now()
					}
					time.Sleep(time.Duration(1+rng.IntN(60)) * time.Minute)
					w.by.Store(0)
					time.Sleep(time.Duration(2+rng.IntN(10)) * time.Hour)
					synctest.Wait()
					for id, at := range arrived {
						if !hasBody(t, l, id) {
							if age := time.Since(at); age < keep-26*time.Hour {
								t.Fatalf("the body of %s was deleted after %s", id, age)
							}
							delete(arrived, id)
						}
					}
				}
				for range 10 { // days with one more event each
					id := fmt.Sprint(len(all))
					all = append(all, id)
					w.append(t, l, id)
					time.Sleep(aDay)
				}
				if n := bodiesLeft(t, l, slices.Collect(func(yield func(string) bool) {
					for id := range arrived {
						if !yield(id) {
							return
						}
					}
				})); n != 0 {
					t.Errorf("%d bodies that are ten days old are left", n)
				}
			})
		})
	}
}

// A clock that was ahead does not date the last event.
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
				t.Errorf("the last event is of %s (%v), want %s", at, ok, made)
			}
			end()
			l, end = w.open(t, dir, 0)
		}
		before := mustStats(t, l).LastMoney
		w.append(t, l, "right")
		if at := mustStats(t, l).LastMoney; at.After(time.Now()) {
			t.Errorf("the last money is of %s, before it was of %s", at, before)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A rebuild keeps bodies that are old only by a clock that is ahead.
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
		t.Errorf("the rebuild returned %+v, %v", done, err)
	}
}

// The lag that a clock ahead causes ends with the fault, and not only with the next run of
// retention.
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
			t.Errorf("while the clock is ahead the lag is %s", lag)
		}
		w.by.Store(0)
		if lag := l.RetentionLag(); lag > time.Hour {
			t.Errorf("after the clock was corrected the lag is %s", lag)
		}
	})
}
