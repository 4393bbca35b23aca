package ledger_test

import (
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// InspectDir changes nothing, and finds the process that holds the ledger.
func TestInspectDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	p, err := ledger.InspectDir(dir)
	if err != nil || p.There || !p.Writable || p.File || p.FreeBytes == 0 || p.TotalBytes < p.FreeBytes {
		t.Errorf("of a missing directory: %+v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("a directory was created: %v", err)
	}
	ledgertest.Start(t, ledger.Options{Dir: dir})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	p, err = ledger.InspectDir(dir)
	if err != nil || !p.There || p.Mode != 0o700 || p.Owner != me.Username || !p.Writable || !p.File ||
		p.FileMode != 0o600 || p.FileBytes == 0 || p.Holder != os.Getpid() {
		t.Errorf("of an open ledger: %+v, %v", p, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := ledger.InspectDir(file); err == nil {
		t.Errorf("of a file instead of a directory: %+v", p)
	}
}

// A file with the same inode number on another device has another holder.
func TestInspectDirComparesDevices(t *testing.T) {
	// Inode numbers of a tmpfs count from 1, so the two files usually have the same number.
	var dirs []string
	for range 2 {
		mount := t.TempDir()
		if err := syscall.Mount("none", mount, "tmpfs", 0, "size=80m,inode32"); err != nil {
			t.Skipf("mounting a file system needs root: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
		dirs = append(dirs, mount)
		createAndClose(t, mount)
	}
	inode := func(dir string) uint64 {
		var stat syscall.Stat_t
		must(t, syscall.Stat(ledger.Path(dir), &stat))
		return stat.Ino
	}
	if inode(dirs[0]) != inode(dirs[1]) {
		t.Skip("the files have different inode numbers")
	}
	ledgertest.Start(t, ledger.Options{Dir: dirs[0]})
	for i, want := range []int{os.Getpid(), 0} {
		if p, err := ledger.InspectDir(dirs[i]); err != nil || p.Holder != want {
			t.Errorf("the holder of file %d is %d, %v, want %d", i, p.Holder, err, want)
		}
	}
}
