package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
	"tillhook/ledger/rebuild"
	"tillhook/receiver/stripe"
)

// decode is the decoder of a test mode receiver.
func decode(raw []byte) *ledger.Event { return stripe.Decode(raw, false) }

// scenarioLedger creates a ledger with the events of all scenarios, with events without a payment,
// with repeats and with a release, and closes it.
func scenarioLedger(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	all := scenarios(t)
	var once []*ledger.Event
	for _, name := range slices.Sorted(maps.Keys(all)) {
		once = append(once, all[name].events...)
	}
	quarantined := *once[3]
	quarantined.Quarantine = ledger.Undecodable // its usable form follows below
	mustAppend(t, l, &quarantined)
	for i, e := range once {
		mustAppend(t, l, e)
		for range i % 3 {
			mustAppend(t, l, e)
		}
	}
	for _, name := range []string{"customer.created", "v1.payment_intent.succeeded", "payment_intent.created",
		"refund.failed"} {
		body, err := os.ReadFile("../testdata/events/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if name == "payment_intent.created" {
			body = bytes.ReplaceAll(body, []byte(`"livemode": false`), []byte(`"livemode": true`))
		}
		e := decode(body)
		e.Source, e.Received = ledger.Webhook, time.Unix(1793000000, 500e6)
		mustAppend(t, l, e)
	}
	broken := decode([]byte("{ no JSON"))
	broken.Source, broken.Received = ledger.Reconcile, time.Unix(1793000001, 0)
	mustAppend(t, l, broken)
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// contents returns every key and value of a file, by bucket, as plain bbolt reads them.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			var text strings.Builder
			err := b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&text, "%q %q\n", k, v)
				return nil
			})
			all[string(name)] = text.String()
			return err
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return all
}

// requireSame requires that two files have the same contents, except for the buckets in but.
func requireSame(t *testing.T, got, want map[string]string, but ...string) {
	t.Helper()
	for bucket, text := range want {
		if !slices.Contains(but, bucket) && got[bucket] != text {
			t.Errorf("bucket %s differs:\n got %.600s\nwant %.600s", bucket, got[bucket], text)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d buckets, want %d", len(got), len(want))
	}
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustVerify(t *testing.T, path string) *check.Report {
	t.Helper()
	report, err := check.Verify(t.Context(), path)
	if err != nil || !report.Sound || len(report.Faults) > 0 {
		t.Fatalf("%s is not sound: %v", path, err)
	}
	return report
}

// A rebuild writes, byte for byte, what the old file held: every row with its sequence, arrival,
// outcome and repeats, every body, and all derived data.
func TestRebuildWritesTheSameContents(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("decode %v", again), func(t *testing.T) {
			dir := scenarioLedger(t)
			path := filepath.Join(dir, "ledger.db")
			file, before, report := mustRead(t, path), contents(t, path), mustVerify(t, path)
			done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Decode: decode}, again)
			if err != nil {
				t.Fatal(err)
			}
			requireSame(t, contents(t, path), before)
			after := mustVerify(t, path)
			if after.Events != report.Events || after.Bodies != report.Bodies || after.Payments != report.Payments ||
				after.Quarantined != 3 {
				t.Errorf("the report was %+v and is %+v", report, after)
			}
			want := rebuild.Result{Schema: 7, Events: report.Events, Payments: report.Payments, Path: path,
				Kept:     done.Kept,
				OldBytes: int64(len(file)), NewBytes: after.Bytes}
			if again {
				want.Decoded = report.Bodies
			}
			if *done != want {
				t.Errorf("the rebuild returned %+v, want %+v", *done, want)
			}
			mustVerify(t, done.Kept)
			if !bytes.Equal(mustRead(t, done.Kept), file) {
				t.Error("the kept file differs from the old one")
			}
			if names := fileNames(t, dir); len(names) != 2 || !slices.Contains(names, filepath.Base(done.Kept)) {
				t.Errorf("the directory holds %v", names)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || info.Size() >= int64(len(file)) {
				t.Errorf("the new file is %v, %v", info, err)
			}
			l := ledgertest.Start(t, ledger.Options{Dir: dir, Decode: decode})
			if res := mustAppend(t, l, succeeded("evt_next", "pi_next")); res.Sequence != report.Events+1 {
				t.Errorf("the next event got %+v", res)
			}
		})
	}
}

func TestRebuildRefuses(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	panics := func([]byte) *ledger.Event { panic("a decoder's own mistake") }
	for _, c := range []struct {
		name    string
		ctx     context.Context
		prepare func(t *testing.T, dir string)
		opts    ledger.Options
		decode  bool
		want    error
		says    string
	}{
		{name: "a ledger that is open", want: ledger.ErrLocked,
			prepare: func(t *testing.T, dir string) { ledgertest.Start(t, ledger.Options{Dir: dir}) }},
		{name: "the other mode", want: ledger.ErrOtherMode, opts: ledger.Options{Livemode: true},
			says: "test mode payments"},
		{name: "a canceled context", ctx: done, want: context.Canceled},
		{name: "a decoder that panics", opts: ledger.Options{Decode: panics}, decode: true, want: ledger.ErrCorrupt,
			says: "a decoder's own mistake"},
		{name: "a missing row", want: ledger.ErrCorrupt, says: "event row 2 is missing",
			prepare: func(t *testing.T, dir string) {
				edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("events")).Delete(seq(2)) })
			}},
		{name: "a damaged row without a decoder", want: ledger.ErrCorrupt, says: "event row 2: ",
			prepare: damageRow("events", 2)},
		{name: "a damaged row without its body", opts: ledger.Options{Decode: decode}, want: ledger.ErrCorrupt,
			says: "event row 2: ", prepare: func(t *testing.T, dir string) {
				damageRow("events", 2)(t, dir)
				edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("bodies")).Delete(seq(2)) })
			}},
		{name: "a damaged row with a damaged body", opts: ledger.Options{Decode: decode}, want: ledger.ErrCorrupt,
			says: "event row 2: ", prepare: func(t *testing.T, dir string) {
				damageRow("events", 2)(t, dir)
				damageRow("bodies", 2)(t, dir)
			}},
		{name: "a damaged body", opts: ledger.Options{Decode: decode}, want: ledger.ErrCorrupt,
			says: "event row 2: its body", prepare: damageRow("bodies", 2)},
		// The row that is created from body 2 takes the id of row 1. This fails no write, and only
		// Verify finds it.
		{name: "a result that is not sound",
			opts: ledger.Options{Decode: func([]byte) *ledger.Event { return succeeded("evt_1", "pi_1") }},
			says: "not sound", prepare: damageRow("events", 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := sampleLedger(t)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			before, names := mustRead(t, filepath.Join(dir, "ledger.db")), fileNames(t, dir)
			c.opts.Dir = dir
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			rebuilt, err := ledger.Rebuild(c.ctx, c.opts, c.decode)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) ||
				rebuilt != nil {
				t.Errorf("got %+v, %v, want %v that contains %q", rebuilt, err, c.want, c.says)
			}
			if !bytes.Equal(mustRead(t, filepath.Join(dir, "ledger.db")), before) {
				t.Error("the ledger was changed")
			}
			if after := fileNames(t, dir); !slices.Equal(after, names) {
				t.Errorf("the directory held %v and holds %v", names, after)
			}
		})
	}
	t.Run("a missing ledger", func(t *testing.T) {
		dir := t.TempDir()
		if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if names := fileNames(t, dir); len(names) != 0 {
			t.Errorf("the rebuild created %v", names)
		}
	})
	t.Run("a read-only directory", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may write anywhere")
		}
		dir := sampleLedger(t)
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
		if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); !errors.Is(err, os.ErrPermission) {
			t.Errorf("got %v", err)
		}
		mustVerify(t, filepath.Join(dir, "ledger.db"))
	})
}

func seq(n byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, n} }

// damageRow returns a function that damages a row of a bucket whose keys are sequences.
func damageRow(bucket string, row byte) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(seq(row), []byte("noise")) })
	}
}

// A rebuild restores everything that is derived from the events, whatever is damaged.
func TestRebuildRepairsDerivedData(t *testing.T) {
	dir := scenarioLedger(t)
	path := filepath.Join(dir, "ledger.db")
	want := contents(t, path)
	damages := map[string]func(b *bolt.Bucket, key []byte) error{
		"noise":   func(b *bolt.Bucket, key []byte) error { return b.Put(key, []byte("noise")) },
		"missing": func(b *bolt.Bucket, key []byte) error { return b.Delete(key) },
		"additional": func(b *bolt.Bucket, key []byte) error {
			return b.Put(append(slices.Clone(key), 'x'), slices.Clone(b.Get(key)))
		},
	}
	for _, bucket := range []string{"payments", "payments_time", "links", "entries", "totals", "ids", "quarantine"} {
		for what, damage := range damages {
			t.Run(bucket+" "+what, func(t *testing.T) {
				edit(t, dir, func(tx *bolt.Tx) error {
					key, _ := tx.Bucket([]byte(bucket)).Cursor().First()
					return damage(tx.Bucket([]byte(bucket)), slices.Clone(key))
				})
				if _, err := check.Verify(t.Context(), path); err == nil {
					t.Error("Verify did not find the damage")
				}
				requireRebuilt(t, dir, want)
			})
		}
	}
	t.Run("counts", func(t *testing.T) {
		edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Delete([]byte("counts")) })
		requireRebuilt(t, dir, want)
	})
	t.Run("a whole bucket", func(t *testing.T) {
		edit(t, dir, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("payments")) })
		requireRebuilt(t, dir, want)
	})
}

// requireRebuilt rebuilds a ledger and requires the given contents. It deletes the old file, so
// that the next call can keep one of the same name.
func requireRebuilt(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Decode: decode}, false)
	if err != nil {
		t.Fatal(err)
	}
	requireSame(t, contents(t, done.Path), want)
	if err := os.Remove(done.Kept); err != nil {
		t.Fatal(err)
	}
}

// A damaged row is created again from its body. The time of its arrival and its repeats are lost,
// because the body does not contain them.
func TestRebuildRestoresADamagedRow(t *testing.T) {
	dir := scenarioLedger(t)
	path := filepath.Join(dir, "ledger.db")
	want := contents(t, path)
	before := readRow(t, dir, 7)
	damageRow("events", 7)(t, dir)
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Decode: decode}, false)
	if err != nil || done.Recreated != 1 || done.Decoded != 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	mustVerify(t, path)
	requireSame(t, contents(t, path), want, "events", "meta")
	after := readRow(t, dir, 7)
	if after.ID != before.ID || after.Type != before.Type || after.PaymentID != before.PaymentID ||
		after.Size != before.Size || after.Sequence != 7 ||
		after.Created != before.Created || after.Outcome == ledger.Quarantined ||
		after.Received < ledger.OrNullTime(before.Created) {
		t.Errorf("the row was %+v and is %+v", before, after)
	}
}

// readRow returns a row of a closed ledger.
func readRow(t *testing.T, dir string, seq uint64) *ledger.EventRecord {
	t.Helper()
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	page, err := l.Events(t.Context(), ledger.EventQuery{Limit: 10000})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return page.Data[uint64(len(page.Data))-seq]
}

// The outcome of an event is that of its arrival. It does not change if a later decoder reads the
// body differently.
func TestRebuildKeepsOutcomes(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("first", "pi_1"))
	if res := mustAppend(t, l, succeeded("second", "pi_1")); res.Status != ledger.Unchanged {
		t.Fatalf("the second event is %s", res.Status)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Decode: func(raw []byte) *ledger.Event {
		e := succeeded(strings.Split(string(raw), `"`)[3], "pi_1")
		if e.ID == "second" {
			e.Facts.Intents[0].Metadata = map[string]string{"order": "2"}
			e.Created++
		}
		return e
	}}, true)
	if err != nil {
		t.Fatal(err)
	}
	if l, err = ledger.OpenReadOnly(dir); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := l.Payment("pi_1")
	if err != nil || p.Metadata["order"] != "2" {
		t.Errorf("the payment has the metadata %v, %v", p.Metadata, err)
	}
	if e, err := l.Event("second"); err != nil || e.Outcome != ledger.Unchanged {
		t.Errorf("the outcome of the second event is %s, %v", e.Outcome, err)
	}
}

// A rebuild with decode replaces stored facts by those of the bodies. An event stays unchanged if
// the decoder cannot use its body or reads another id in it.
func TestRebuildDecodesBodies(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	stale := func(id string) *ledger.Event {
		e := succeeded(id, "pi_"+id)
		e.Facts.Intents[0].Status, e.Facts.Intents[0].AmountReceived = "processing", 0
		return e
	}
	quarantined := stale("held")
	quarantined.Quarantine = ledger.Undecodable
	for _, e := range []*ledger.Event{stale("stale"), stale("gone"), stale("useless"), stale("other"), quarantined,
		quarantined} {
		mustAppend(t, l, e)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte("bodies")).Delete(seq(2)) })
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Decode: func(raw []byte) *ledger.Event {
		id := strings.Split(string(raw), `"`)[3]
		e := succeeded(id, "pi_"+id)
		switch id {
		case "useless":
			e.Quarantine = ledger.Undecodable
		case "other":
			e.ID = "another"
		}
		return e
	}}, true)
	if err != nil || done.Decoded != 2 || done.Unusable != 2 || done.Gone != 1 || done.Released != 1 ||
		done.Recreated != 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	mustVerify(t, done.Path)
	l, err = ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	for id, status := range map[string]ledger.OrNull{"stale": "succeeded", "gone": "processing",
		"useless": "processing", "other": "processing", "held": "succeeded"} {
		if p, err := l.Payment("pi_" + id); err != nil || p.Status != status {
			t.Errorf("%s: the payment is %+v, %v, want it %s", id, p, err, status)
		}
	}
	if rec, err := l.Event("held"); err != nil || rec.Outcome != ledger.Applied || rec.Sequence != 6 ||
		rec.ReleasedFrom != 5 || rec.Repeats != 0 || rec.Reason != "" {
		t.Errorf("the event that left quarantine is %+v, %v", rec, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// During a rebuild no other rebuild, reader or receiver can open the ledger.
func TestRebuildLocksTheLedger(t *testing.T) {
	dir := scenarioLedger(t)
	entered, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := ledger.Options{Dir: dir, Decode: func(raw []byte) *ledger.Event {
		once.Do(func() { close(entered); <-resume })
		return decode(raw)
	}}
	done := make(chan error, 1)
	go func() { _, err := ledger.Rebuild(context.Background(), slow, true); done <- err }()
	<-entered
	if l, err := ledger.OpenReadOnly(dir); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("during the rebuild OpenReadOnly returned %v, %v", l, err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("during the rebuild a second one returned %v", err)
	}
	if l, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("during the rebuild Open returned %v", err)
		if l != nil {
			l.Close()
		}
	}
	close(resume)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A rebuild deletes the files that interrupted rebuilds left.
func TestRebuildDeletesLeftovers(t *testing.T) {
	dir := scenarioLedger(t)
	left := filepath.Join(dir, "ledger.db.new-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of an interrupted rebuild still exists: %v", err)
	}
}

// A rebuild drops bodies that are older than the retention time, and keeps their facts.
func TestRebuildDropsOldBodies(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, receivedAgo("old", 48*time.Hour))
	mustAppend(t, l, receivedAgo("new", time.Hour))
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir, Retention: 24 * time.Hour}, false)
	if err != nil || done.Expired != 1 || done.Events != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if l, err = ledger.OpenReadOnly(dir); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Body("old"); !errors.Is(err, ledger.ErrGone) {
		t.Errorf("reading the old body returned %v", err)
	}
	if _, err := l.Body("new"); err != nil {
		t.Errorf("reading the new body returned %v", err)
	}
}
