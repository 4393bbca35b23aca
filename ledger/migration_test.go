package ledger_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/stripe"
	"time"
)

// older lays a ledger of an older schema in a folder of its own.
func older(t *testing.T, schema int) (dir string, file []byte) {
	t.Helper()
	packed, err := os.Open(fmt.Sprintf("../testdata/ledgers/schema-%d.db.gz", schema))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	if file, err = io.ReadAll(unpacked); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ledger.db"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func TestASecondStartDoesNotMigrate(t *testing.T) {
	dir, _ := older(t, 5)
	opts := ledger.Options{Dir: dir, Decode: decode, Decoder: stripe.Decoder}
	for i, migrates := range []bool{true, false} {
		l, err := ledger.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		if (l.Migrated != nil) != migrates {
			t.Errorf("start %d: migrated is %+v", i+1, l.Migrated)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names := files(t, dir); len(names) != 2 {
		t.Errorf("the folder holds %v", names)
	}
}

// What cannot or must not migrate a ledger leaves it as it is, and says what will.
func TestAnOlderLedgerIsRefused(t *testing.T) {
	dir, file := older(t, 5)
	for _, c := range []struct {
		name string
		open func() error
		want error
		says string
	}{
		{"by a reader", func() error { _, err := ledger.OpenReadOnly(dir); return err }, ledger.ErrSchema, "start the receiver once"},
		{"by the proof", func() error { _, err := ledger.Verify(filepath.Join(dir, "ledger.db")); return err }, ledger.ErrSchema, "is of an older schema"},
		{"without a decoder", func() error { _, err := ledger.Open(ledger.Options{Dir: dir}); return err }, ledger.ErrSchema, "start the receiver once"},
		{"in the other mode", func() error {
			_, err := ledger.Open(ledger.Options{Dir: dir, Livemode: true, Decode: decode})
			return err
		}, ledger.ErrOtherMode, "test mode payments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.open(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
			if names := files(t, dir); len(names) != 1 || !bytes.Equal(mustRead(t, filepath.Join(dir, "ledger.db")), file) {
				t.Errorf("the folder holds %v, or the ledger was changed", names)
			}
		})
	}
}

// A ledger of schema 3, which listed a payment's events apart, or of schema 5, which had all of a
// payment's lists in its state and one kind of links, is brought up to date: it holds what one does
// that was given the same events. That of schema 3 was killed.
func TestMigrationFromLaterSchemas(t *testing.T) {
	for schema, repeated := range map[int]string{3: "evt_3wBTwEKvHadernBlBPBleRA0",
		5: "evt_3wJoPRKvHadernBlLhtHhUpY"} {
		t.Run(fmt.Sprint(schema), func(t *testing.T) { migrates(t, schema, repeated) })
	}
}

func migrates(t *testing.T, schema int, repeated string) {
	dir, _ := older(t, schema)
	l := ledgertest.Start(t, ledger.Options{Dir: dir, Decode: decode, Decoder: stripe.Decoder})
	if m := l.Migrated; m == nil || m.Schema != uint64(schema) || m.Events != 33 || m.Decoded != 33 || m.Unusable+m.Gone+m.Mended != 0 {
		t.Fatalf("it tells %+v", l.Migrated)
	}
	fresh := ledgertest.Open(t, false)
	bodies, err := filepath.Glob("../testdata/events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, name := range bodies {
		raw := mustRead(t, name)
		e := decode(raw)
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		e.Source, e.Received = ledger.Webhook, time.Unix(1, 0)
		mustAppend(t, fresh, e)
		if body, err := l.Body(e.ID); err != nil || !bytes.Equal(body, raw) {
			t.Errorf("%s: the body is not what it was: %v", name, err)
		}
	}
	page := func(l *ledger.Ledger) string {
		list, err := l.Payments(t.Context(), ledger.PaymentQuery{Limit: 100})
		if err != nil || list.Next != "" || len(list.Data) == 0 {
			t.Fatalf("%d payments, then %q, %v", len(list.Data), list.Next, err)
		}
		return asJSON(t, list.Data)
	}
	if got, want := page(l), page(fresh); got != want {
		t.Errorf("the payments are\n%s\nnot\n%s", got, want)
	}
	if rec, err := l.Event(repeated); err != nil || rec.Repeats != 2 {
		t.Errorf("the repeated event is %+v, %v", rec, err)
	}
}
