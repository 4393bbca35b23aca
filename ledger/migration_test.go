package ledger_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/stripe"
)

// sampleEvents returns an event for each sample body.
func sampleEvents(t *testing.T) (events []*ledger.Event) {
	t.Helper()
	names, err := filepath.Glob("../testdata/events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		e := decode(mustRead(t, name))
		if slices.ContainsFunc(events, func(other *ledger.Event) bool { return other.ID == e.ID }) {
			continue
		}
		e.Source, e.Received = ledger.Webhook, time.Unix(1, 0)
		events = append(events, e)
	}
	return events
}

// olderLedger creates a ledger of an older schema. It holds the sample events without facts, as
// stored by a decoder that read no facts. The first event was delivered three times.
func olderLedger(t *testing.T) (dir string, file []byte) {
	t.Helper()
	dir = t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for i, e := range sampleEvents(t) {
		e.Facts = ledger.Facts{}
		mustAppend(t, l, e)
		if i == 0 {
			mustAppend(t, l, e)
			mustAppend(t, l, e)
		}
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, ledger.MakeOlder)
	return dir, mustRead(t, ledger.Path(dir))
}

// Opening a ledger of an older schema decodes every body again. The migrated ledger agrees with one
// that receives the same events now.
func TestMigration(t *testing.T) {
	dir, file := olderLedger(t)
	l := ledgertest.Start(t, ledger.Options{Dir: dir, Decode: decode, Decoder: stripe.Decoder})
	present, events := ledgertest.Open(t, false), sampleEvents(t)
	for _, e := range events {
		mustAppend(t, present, e)
		if body, err := l.Body(e.ID); err != nil || !bytes.Equal(body, e.Raw) {
			t.Errorf("%s: the body changed: %v", e.Type, err)
		}
	}
	m, n := l.Migrated, uint64(len(events))
	if m == nil || m.Schema != ledger.OlderSchema || m.Events != n || m.Decoded != n ||
		m.Unusable+m.Gone+m.Recreated != 0 {
		t.Fatalf("the migration returned %+v, want %d events", m, n)
	}
	if !bytes.Equal(mustRead(t, m.Kept), file) {
		t.Error("the kept file differs from the old one")
	}
	payments := func(l *ledger.Ledger) string {
		list, err := l.Payments(t.Context(), ledger.PaymentQuery{Limit: 100})
		if err != nil || list.Next != "" || len(list.Data) == 0 {
			t.Fatalf("%d payments, then %q, %v", len(list.Data), list.Next, err)
		}
		return asJSON(t, list.Data)
	}
	if got, want := payments(l), payments(present); got != want {
		t.Errorf("the payments are\n%s\nwant\n%s", got, want)
	}
	if got, want := mustStats(t, l), mustStats(t, present); asJSON(t, got.Quarantined) != asJSON(t, want.Quarantined) ||
		asJSON(t, got.Outcomes) != asJSON(t, want.Outcomes) {
		t.Errorf("the statistics are %+v, want %+v", got, want)
	}
	if rec, err := l.Event(events[0].ID); err != nil || rec.Repeats != 2 {
		t.Errorf("the repeated event is %+v, %v", rec, err)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func TestSecondOpenDoesNotMigrate(t *testing.T) {
	dir, _ := olderLedger(t)
	opts := ledger.Options{Dir: dir, Decode: decode, Decoder: stripe.Decoder}
	for i, migrates := range []bool{true, false} {
		l, err := ledger.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		if (l.Migrated != nil) != migrates {
			t.Errorf("start %d: Migrated is %+v", i+1, l.Migrated)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names := fileNames(t, dir); len(names) != 2 {
		t.Errorf("the directory holds %v", names)
	}
}

// Operations that cannot migrate a ledger refuse it with the next step, and do not change it.
func TestOlderSchemaIsRefused(t *testing.T) {
	dir, file := olderLedger(t)
	for _, c := range []struct {
		name string
		open func() error
		want error
		says string
	}{
		{"by a reader", func() error { _, err := ledger.OpenReadOnly(dir); return err }, ledger.ErrSchema,
			"start the receiver once"},
		{"by Verify", func() error { _, err := check.Verify(t.Context(), filepath.Join(dir, "ledger.db")); return err },
			ledger.ErrSchema, "has an older schema"},
		{"without a decoder", func() error { _, err := ledger.Open(ledger.Options{Dir: dir}); return err },
			ledger.ErrSchema, "start the receiver once"},
		{"in the other mode", func() error {
			_, err := ledger.Open(ledger.Options{Dir: dir, Livemode: true, Decode: decode})
			return err
		}, ledger.ErrOtherMode, "test mode payments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.open(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that contains %q", err, c.want, c.says)
			}
			if names := fileNames(t, dir); len(names) != 1 ||
				!bytes.Equal(mustRead(t, filepath.Join(dir, "ledger.db")), file) {
				t.Errorf("the directory holds %v, or the ledger was changed", names)
			}
		})
	}
}

// A file with a schema that this version cannot decode is refused by every operation, and not
// changed.
func TestUnknownSchemaIsRefused(t *testing.T) {
	for version, says := range map[uint64]string{ledger.OlderSchema - 1: "no longer reads",
		ledger.OlderSchema + 2: "or a newer one"} {
		dir, _ := olderLedger(t)
		edit(t, dir, func(tx *bolt.Tx) error { return ledger.SetSchema(tx, version) })
		file := mustRead(t, ledger.Path(dir))
		opts := ledger.Options{Dir: dir, Decode: decode, BackupDir: t.TempDir()}
		for what, read := range map[string]func() error{
			"Open":         func() error { _, err := ledger.Open(opts); return err },
			"OpenReadOnly": func() error { _, err := ledger.OpenReadOnly(dir); return err },
			"Rebuild":      func() error { _, err := ledger.Rebuild(t.Context(), opts, true); return err },
			"ReadHeader":   func() error { _, err := ledger.ReadHeader(ledger.Path(dir)); return err },
			"Verify": func() error {
				report, err := check.Verify(t.Context(), ledger.Path(dir))
				if report == nil || report.Older {
					t.Errorf("schema %d: the report is %+v", version, report)
				}
				return err
			},
		} {
			if err := read(); !errors.Is(err, ledger.ErrSchema) || !strings.Contains(err.Error(), says) {
				t.Errorf("schema %d: %s returned %v, want an error that contains %q", version, what, err, says)
			}
		}
		if names := fileNames(t, dir); len(names) != 1 || !bytes.Equal(mustRead(t, ledger.Path(dir)), file) {
			t.Errorf("schema %d: the directory holds %v, or the ledger was changed", version, names)
		}
	}
}
