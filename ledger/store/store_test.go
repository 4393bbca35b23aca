package store_test

import (
	"errors"
	"path/filepath"
	"testing"

	"tillhook/ledger/store"
)

// After a failed write the store writes nothing before it has recovered: readers of the next
// transaction would see what the failed one left in the write buffer.
func TestWritesAreRefusedUntilRecovery(t *testing.T) {
	layout := store.Layout{{Name: "plain"}, {Name: "keys", Buffered: true}}
	path := filepath.Join(t.TempDir(), "ledger.db")
	if _, err := store.Create(path, layout, func(*store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path, store.Options{Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("failure")
	put := func(key string, err error) func(tx *store.Tx) error {
		return func(tx *store.Tx) error { return errors.Join(tx.Put(1, []byte(key), []byte("value")), err) }
	}
	if err := s.Write(put("lost", failure)); !errors.Is(err, failure) {
		t.Fatalf("the failing write returned %v", err)
	}
	if err := s.Write(put("early", nil)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a write before the recovery returned %v", err)
	}
	if err := s.ViewLatest(func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a read of the writer before the recovery returned %v", err)
	}
	if _, err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(put("kept", nil)); err != nil {
		t.Errorf("a write after the recovery returned %v", err)
	}
	err = s.View(func(tx *store.Tx) error {
		for key, want := range map[string]bool{"lost": false, "early": false, "kept": true} {
			if got := tx.Has(1, []byte(key)); got != want {
				t.Errorf("the key %q exists: %t", key, got)
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenReportsAMissingFile(t *testing.T) {
	if _, err := store.Open(filepath.Join(t.TempDir(), "ledger.db"), store.Options{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Open returned %v", err)
	}
}
