package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/acme/autocert"

	"tillhook/receiver/server"
)

// The account key and the certificates are readable only by their owner, and nothing is created
// before there is something to store.
func TestStoreOfCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	store := server.NewStore(dir)
	if _, err := store.Get(t.Context(), "acme_account+key"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Errorf("an empty store returns %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reading created the directory: %v", err)
	}
	for _, text := range []string{"one", "another one"} {
		if err := store.Put(t.Context(), "acme_account+key", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := store.Get(t.Context(), "acme_account+key"); err != nil || string(got) != text {
			t.Errorf("got %q, %v, want %q", got, err, text)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the directory holds %v, %v", entries, err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, entries[0].Name()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("the mode of %s is %v, %v", path, info.Mode(), err)
		}
	}
}
