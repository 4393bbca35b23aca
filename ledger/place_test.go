package ledger_test

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// Looking at a place changes nothing there, and sees who holds the ledger.
func TestAPlaceIsLookedAt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	p, err := ledger.Look(dir)
	if err != nil || p.There || !p.Writable || p.File || p.FreeBytes == 0 || p.TotalBytes < p.FreeBytes {
		t.Errorf("where nothing is: %+v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	ledgertest.Start(t, ledger.Options{Dir: dir})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	p, err = ledger.Look(dir)
	if err != nil || !p.There || p.Mode != 0o700 || p.Owner != me.Username || !p.Writable || !p.File || p.FileMode != 0o600 || p.FileBytes == 0 || p.Holder != os.Getpid() {
		t.Errorf("of an open ledger: %+v, %v", p, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := ledger.Look(file); err == nil {
		t.Errorf("a file was taken for a folder: %+v", p)
	}
}
