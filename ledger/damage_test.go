package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// sampleLedger creates a ledger with events of several outcomes, and closes it.
func sampleLedger(t *testing.T) (dir string) {
	t.Helper()
	dir = ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	mustAppend(t, l, succeeded("evt_2", "pi_1"))
	mustAppend(t, l, &ledger.Event{ID: "evt_3", Source: ledger.Webhook, Received: time.Unix(1, 0),
		Quarantine: ledger.ThinEvent, Raw: []byte("{}")})
	mustAppend(t, l, &ledger.Event{ID: "evt_4", Type: "customer.created", Source: ledger.Webhook,
		Received: time.Unix(1, 0), Raw: []byte("{}")})
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Verify checks each byte of each key and value in the bucket meta. This includes accounts and
// checkpoints, which no other bucket repeats.
func TestVerifyFindsDamageInMeta(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	e := succeeded("evt_1", "pi_1")
	e.Account = "acct_1"
	mustAppend(t, l, e)
	if err := l.SetCheckpoints(t.Context(), map[string]int64{"a": 7}); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	meta := []byte("meta")
	intact := map[string][]byte{}
	edit(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket(meta).ForEach(func(k, v []byte) error { intact[string(k)] = bytes.Clone(v); return nil })
	})
	if len(intact) < 6 {
		t.Fatalf("the bucket meta has only %d entries", len(intact))
	}
	for name, value := range intact {
		for i := range len(name) + len(value) {
			entry := []byte(name + string(value))
			entry[i] ^= 0x40
			key, damaged := entry[:len(name)], entry[len(name):]
			edit(t, dir, func(tx *bolt.Tx) error {
				return errors.Join(tx.Bucket(meta).Delete([]byte(name)), tx.Bucket(meta).Put(key, damaged))
			})
			if _, err := check.Verify(t.Context(), filepath.Join(dir, "ledger.db")); err == nil {
				t.Errorf("Verify did not find %q = %q instead of %q = %q", key, damaged, name, value)
			}
			edit(t, dir, func(tx *bolt.Tx) error {
				return errors.Join(tx.Bucket(meta).Delete(key), tx.Bucket(meta).Put([]byte(name), value))
			})
		}
	}
	if _, err := check.Verify(t.Context(), filepath.Join(dir, "ledger.db")); err != nil {
		t.Errorf("the intact ledger: %v", err)
	}
}

// edit changes the file of a closed ledger directly.
func edit(t *testing.T, dir string, change func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "ledger.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Check finds a changed bit in any value, a truncated value, a missing entry, and a value that was
// copied to another key, in every bucket.
func TestCheckFindsEveryDamage(t *testing.T) {
	type entry struct{ bucket, key, value []byte }
	var entries []entry
	intact := sampleLedger(t)
	edit(t, intact, func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				entries = append(entries, entry{slices.Clone(name), slices.Clone(k), slices.Clone(v)})
				return nil
			})
		})
	})
	sound := func(dir string) error {
		l, err := ledger.OpenReadOnly(dir)
		if err != nil {
			return err
		}
		return errors.Join(l.Check(), l.Close())
	}
	if err := sound(intact); err != nil || len(entries) < 20 {
		t.Fatalf("the intact ledger of %d entries: %v", len(entries), err)
	}
	damage := func(what string, e entry, change func(b *bolt.Bucket) error) {
		dir := intact
		edit(t, dir, func(tx *bolt.Tx) error { return change(tx.Bucket(e.bucket)) })
		err := sound(dir)
		if err == nil {
			t.Errorf("%s in %s, key %q, was not found", what, e.bucket, e.key)
		}
		edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket(e.bucket).Put(e.key, e.value) })
	}
	for _, e := range entries {
		for _, at := range []int{0, len(e.value) / 2, len(e.value) - 1} {
			damage("a changed bit", e, func(b *bolt.Bucket) error {
				v := slices.Clone(e.value)
				v[at] ^= 0x10
				return b.Put(e.key, v)
			})
		}
		damage("a truncated value", e, func(b *bolt.Bucket) error { return b.Put(e.key, e.value[:len(e.value)-1]) })
		if string(e.bucket) != "bodies" { // they may be deleted
			damage("a missing entry", e, func(b *bolt.Bucket) error { return b.Delete(e.key) })
		}
	}
	for _, e := range entries {
		if string(e.bucket) == "meta" {
			continue
		}
		moved := append(slices.Clone(e.key), 'x')
		edit(t, intact, func(tx *bolt.Tx) error { return tx.Bucket(e.bucket).Put(moved, e.value) })
		if sound(intact) == nil {
			t.Errorf("a copy under another key in %s, key %q, was not found", e.bucket, e.key)
		}
		edit(t, intact, func(tx *bolt.Tx) error { return tx.Bucket(e.bucket).Delete(moved) })
	}
	if err := sound(intact); err != nil {
		t.Errorf("after all changes were undone the ledger is not sound: %v", err)
	}
}

// A damaged payment fails only the events about it. Other events of the same batch are posted.
func TestDamagedPaymentFailsOnlyItsEvents(t *testing.T) {
	dir := sampleLedger(t)
	edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("payments")).Put([]byte("pi_1"), []byte("noise")) })
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for range 2 {
		if _, err := l.Append(t.Context(), succeeded("evt_5", "pi_1")); !errors.Is(err, ledger.ErrUnavailable) ||
			!errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("an event about the damaged payment returned %v", err)
		}
	}
	if res := mustAppend(t, l, succeeded("evt_6", "pi_6")); res.Status != ledger.Applied || res.Sequence != 5 {
		t.Errorf("an event about another payment returned %+v", res)
	}
	if _, err := l.Payment("pi_1"); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("reading the damaged payment returned %v", err)
	}
	if h := l.Health(); h.Err != nil {
		t.Errorf("with one damaged payment the health is %v", h.Err)
	}
	stop()
	if err := l.Check(); err == nil || !strings.Contains(err.Error(), "payments") {
		t.Errorf("Check returned %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// If no event can be stored because of damage, Health reports a fault until an event is stored.
func TestHealthReportsRepeatedDamage(t *testing.T) {
	dir := sampleLedger(t)
	edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("payments")).Put([]byte("pi_1"), []byte("noise")) })
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	defer ledgertest.Run(t, l)()
	for n := 1; n <= 4; n++ {
		fetched := succeeded(fmt.Sprintf("evt_fetched%d", n), "pi_1")
		fetched.Source = ledger.Reconcile
		event := succeeded(fmt.Sprintf("evt_5%d", n), "pi_1")
		for _, e := range []*ledger.Event{fetched, event, event} { // they count as one
			if _, err := l.Append(t.Context(), e); !errors.Is(err, ledger.ErrCorrupt) {
				t.Fatalf("an event about the damaged payment returned %v", err)
			}
		}
		h := l.Health()
		if n < 3 && h.Err != nil {
			t.Errorf("after %d events that could not be stored: %v", n, h.Err)
		}
		if n >= 3 && (!errors.Is(h.Err, ledger.ErrUnavailable) || h.Fault == nil ||
			!strings.Contains(h.Fault.What, "is damaged (")) {
			t.Errorf("after %d events that could not be stored: %v", n, h.Err)
		}
	}
	mustAppend(t, l, succeeded("evt_6", "pi_6"))
	if h := l.Health(); h.Err != nil || h.Fault != nil {
		t.Errorf("after an event was stored: %v", h.Err)
	}
}

// alteredPages creates a ledger of 300 payments and calls alter for each leaf page. It fails the
// test if alter changes no page.
func alteredPages(t *testing.T, alter func(page []byte) (changed bool)) (dir string) {
	t.Helper()
	dir = ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	var group sync.WaitGroup
	for i := range 300 {
		group.Go(func() { mustAppend(t, l, succeeded(fmt.Sprintf("evt_%03d", i), fmt.Sprintf("pi_%03d", i))) })
	}
	group.Wait()
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(ledger.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	for at := 2 * 4096; at+4096 <= len(file); at += 4096 {
		if page := file[at : at+4096]; page[flagsAt] == 0x02 && alter(page) {
			changed = true
		}
	}
	if !changed {
		t.Fatal("no page was changed")
	}
	if err := os.WriteFile(ledger.Path(dir), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flagsAt is the offset of the flags in a page.
const flagsAt = 8

// damagedPages creates a ledger and damages the header of every leaf page that matches a pattern.
func damagedPages(t *testing.T, pattern string) (dir string) {
	t.Helper()
	return alteredPages(t, func(page []byte) bool {
		if !regexp.MustCompile(pattern).Match(page) {
			return false
		}
		page[flagsAt] = 0x40
		return true
	})
}

// replacedText creates a ledger and replaces a text in all its leaf pages.
func replacedText(t *testing.T, old, new string) (dir string) {
	t.Helper()
	return alteredPages(t, func(page []byte) bool {
		if !bytes.Contains(page, []byte(old)) {
			return false
		}
		copy(page, bytes.ReplaceAll(page, []byte(old), []byte(new)))
		return true
	})
}

// An entry whose leaf page is damaged stays in the write buffer. Events that need no other part of
// the page are stored.
func TestDamagedPageDoesNotStopWrites(t *testing.T) {
	// In the bucket payments_time an id follows the time, which ends in these bytes.
	l, err := ledger.Open(ledger.Options{Dir: damagedPages(t, `x\x00pi_150`)})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(1)
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_new", "pi_1505"))
	for i := range 40 {
		mustAppend(t, l, succeeded(fmt.Sprintf("zzz_%d", i), fmt.Sprintf("zz_%d", i)))
	}
	if p, err := l.Payment("pi_1505"); err != nil || p.Events != 1 {
		t.Errorf("the payment is %+v, %v", p, err)
	}
	stop()
	if entries, records := l.Buffered(); entries != 1 || records != 1 {
		t.Errorf("%d entries are buffered in %d records, want 1 in 1", entries, records)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// bbolt panics on a page whose header is damaged. The ledger returns an error instead, and only for
// operations that need the page.
func TestDamagedPageIsAnError(t *testing.T) {
	// A stored payment begins with its flags and its account, which are both empty here.
	for bucket, pattern := range map[string]string{"ids": "tevt_150", "payments": `(?s)pi_150\x00\x00`} {
		t.Run(bucket, func(t *testing.T) {
			l, err := ledger.Open(ledger.Options{Dir: damagedPages(t, pattern)})
			if err != nil {
				t.Fatal(err)
			}
			stop := ledgertest.Run(t, l)
			e := succeeded("evt_150", "pi_150")
			if bucket == "payments" {
				e.ID = "evt_150_again"
			}
			if _, err := l.Append(t.Context(), e); !errors.Is(err, ledger.ErrUnavailable) ||
				!errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("an append that needs the damaged page returned %v", err)
			}
			if h := l.Health(); h.Err != nil {
				t.Errorf("the health is %v", h.Err)
			}
			mustAppend(t, l, succeeded("zzz_1", "zz_1"))
			if _, err := l.PaymentEvents(t.Context(), "pi_150", ledger.EventQuery{Limit: 1}); bucket == "payments" &&
				!errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("reading the events of the payment returned %v", err)
			}
			stop()
			if err := l.Check(); !errors.Is(err, ledger.ErrCorrupt) {
				t.Errorf("Check returned %v", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDamagedLastRowDoesNotStopOpen(t *testing.T) {
	dir := sampleLedger(t)
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("events"))
		key, _ := b.Cursor().Last()
		return b.Put(slices.Clone(key), []byte("noise"))
	})
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	if res := mustAppend(t, l, succeeded("evt_9", "pi_9")); res.Sequence != 5 {
		t.Errorf("the next event got %+v", res)
	}
	stop()
	if err := l.Check(); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("Check returned %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// If the total of a day is damaged, only events of that day fail.
func TestDamagedTotalFailsOnlyItsDay(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("a", "pi_a"))
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("totals"))
		key, _ := b.Cursor().Last() // the total of the day; the sum over all days has a smaller key
		return b.Put(append([]byte{}, key...), []byte("noise"))
	})
	if l, err = ledger.Open(ledger.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	stop = ledgertest.Run(t, l)
	if _, err := l.Append(t.Context(), succeeded("b", "pi_b")); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("an event of that day returned %v", err)
	}
	other := succeeded("c", "pi_c")
	other.Created -= 24 * 60 * 60
	if _, err := l.Append(t.Context(), other); err != nil {
		t.Errorf("an event of another day: %v", err)
	}
	if err := l.Health().Err; err != nil {
		t.Errorf("the health is %v", err)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A damaged sum over all days would fail every event. The next event recomputes it from the totals
// of the days.
func TestDamagedSumOverAllDaysIsRecomputed(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for i := range 4 {
		mustAppend(t, l, paidCharge(fmt.Sprint(i), 1760000000+int64(i)*86400, 100))
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("totals"))
		key, _ := b.Cursor().First()
		return b.Put(append([]byte{}, key...), []byte("noise"))
	})
	l = ledgertest.Start(t, ledger.Options{Dir: dir}) // its cleanup checks the ledger
	if _, err := l.Totals(t.Context(), ledger.TotalsQuery{Limit: 1}); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("reading the damaged sum returned %v", err)
	}
	mustAppend(t, l, paidCharge("5", 1760000000, 100))
	if page, err := l.Totals(t.Context(), ledger.TotalsQuery{Limit: 1}); err != nil || len(page.Data) != 1 ||
		page.Data[0].Received != ledger.SumOf(500) {
		t.Errorf("the sum is %+v, %v", page.Data, err)
	}
}

// Two bodies of the same size that were swapped are intact, but belong to other rows.
func TestVerifyFindsSwappedBodies(t *testing.T) {
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	mustAppend(t, l, succeeded("evt_2", "pi_2"))
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("bodies"))
		first, second := slices.Clone(b.Get(seq(1))), slices.Clone(b.Get(seq(2)))
		return errors.Join(b.Put(seq(1), second), b.Put(seq(2), first))
	})
	if report, err := check.Verify(t.Context(), l.Path()); !errors.Is(err, ledger.ErrCorrupt) || report.Sound {
		t.Errorf("the report is %+v, %v", report, err)
	}
}

// A damaged key must not hide another one: no other stored event or payment may count as new.
func TestDamagedKeyHidesNoOther(t *testing.T) {
	for what, change := range map[string][2]string{
		"the greatest id": {"tevt_299", "tevt_099"}, "the kind of the greatest id": {"tevt_299", "pevt_299"},
		"the greatest payment": {"pi_299\x00\x00", "pi_099\x00\x00"},
		"an id in the middle":  {"tevt_280", "tzvt_280"},
	} {
		t.Run(what, func(t *testing.T) {
			l, err := ledger.Open(ledger.Options{Dir: replacedText(t, change[0], change[1])})
			if err != nil {
				t.Fatal(err)
			}
			stop := ledgertest.Run(t, l)
			for i := range 250 {
				res, err := l.Append(t.Context(), succeeded(fmt.Sprintf("evt_%03d", i), fmt.Sprintf("pi_%03d", i)))
				if err == nil && !res.Repeat {
					t.Fatalf("event %d is not damaged, but was posted twice", i)
				}
				_, err = l.Append(t.Context(), succeeded(fmt.Sprintf("zvt_%03d", i), fmt.Sprintf("pi_%03d", i)))
				if p, notFound := l.Payment(fmt.Sprintf("pi_%03d", i)); err == nil &&
					(notFound != nil || p.Events != 2) {
					t.Fatalf("payment %d is not damaged, but is %+v, %v", i, p, notFound)
				}
			}
			stop()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A commit fails for a temporary reason while an entry waits for a damaged page. Afterwards the
// ledger accepts events again.
func TestRecoveryBesideADamagedPage(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: damagedPages(t, `x\x00pi_150`)})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(1)
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_new", "pi_1505")) // its entry in payments_time belongs on the damaged page
	stop()
	if err := l.RecoverAfter(os.ErrDeadlineExceeded); err != nil {
		t.Errorf("the recovery failed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
