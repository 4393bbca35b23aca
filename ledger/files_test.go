package ledger_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"tillhook/ledger"
)

func TestFilesOfOtherRooms(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	f := ledger.NewFiles(dir, "acme")
	if _, err := f.Get(t.Context(), "acme_account+key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of none there is %v", err)
	}
	if err := f.Delete(t.Context(), "acme_account+key"); err != nil {
		t.Errorf("deleting none: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking made a folder: %v", err)
	}
	for _, text := range []string{"one", "another one"} {
		if err := f.Put(t.Context(), "acme_account+key", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Get(t.Context(), "acme_account+key"); err != nil || string(got) != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "acme"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder holds %v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "acme")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode is %v, %v", info.Mode(), err)
	}
	if err := f.Delete(t.Context(), "acme_account+key"); err != nil {
		t.Error(err)
	}
	if _, err := f.Get(t.Context(), "acme_account+key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a deleted one there is %v", err)
	}
	for _, name := range []string{"", ".", "..", "../ledger.db", "a/b", ".hidden", "a\x00b"} {
		if err := f.Put(t.Context(), name, nil); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}
