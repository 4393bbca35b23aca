package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// newPattern returns the pattern of the names of files that will replace, or become, the one at
// path.
func newPattern(path string) string { return filepath.Base(path) + ".new-*" }

// timeInName is the time in the name of a file that was kept beside another one, in UTC.
const timeInName = "20060102T150405.000Z"

// DirLock is the lock of a directory. A nil one locks nothing.
type DirLock struct{ dir *os.File }

// LockDir creates the directory of a file if it does not exist, takes its lock and deletes what
// earlier processes left in it. The lock is held for as long as the file is open for writing. The
// lock on the file would not be enough: while there is no file yet, or the file was deleted under a
// receiver, another process could create an empty one beside it. The result is nil on a file system
// that cannot lock a directory.
func LockDir(path string) (*DirLock, error) {
	dir := filepath.Dir(path)
	if err := MakeDir(dir); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	if err := lockFile(f, exclusive); err != nil {
		_ = f.Close() // it was only read
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return nil, nil
	}
	removeTemporary(path)
	return &DirLock{f}, nil
}

// removeTemporary deletes the files that earlier processes left beside a file, and beside a link to
// it. The directory of the link is locked, but another link can lead to the same file: what is
// beside that stays as long as a process holds the file.
func removeTemporary(path string) {
	RemoveMatching(filepath.Dir(path), newPattern(path))
	target := resolve(path)
	if held, err := IsLocked(target); target != path && err == nil && !held {
		RemoveMatching(filepath.Dir(target), newPattern(target))
	}
}

// Release releases the lock.
func (l *DirLock) Release() {
	if l != nil {
		_ = unlockAndClose(l.dir) // it was only read
	}
}

// Create creates the file at path unless it exists, with the buckets of the layout and what fill
// writes, and reports whether it did. It returns [ErrMissing] if a process lost the file while it
// ran. A file that exists is never half made, whatever stops the process: it gets its name when it
// is whole.
func Create(path string, layout Layout, fill func(tx *Tx) error) (created bool, err error) {
	there, err := exists(path)
	if err != nil {
		return false, fmt.Errorf("find the ledger: %w", err)
	}
	if there {
		return false, nil
	}
	if err := refuseIfMissing(path); err != nil {
		return false, err
	}
	made, err := createUnnamed(path, layout, fill)
	if err != nil {
		return false, err
	}
	defer os.Remove(made) // it has another name by then, or is of no use
	// Where directories cannot be locked, another process can have created a file meanwhile, and
	// can have taken ours for a leftover.
	err = rename(made, path)
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: %s appeared while this process was making it", ErrLocked, path)
	case err != nil:
		return false, fmt.Errorf("make the ledger: %w", err)
	}
	return true, nil
}

// createUnnamed creates a whole file under a name of its own, beside path. If it fails, it leaves
// nothing.
func createUnnamed(path string, layout Layout, fill func(tx *Tx) error) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), newPattern(path))
	if err != nil {
		return "", fmt.Errorf("make a ledger: %w", err)
	}
	err = f.Close()
	if err == nil {
		err = initialise(f.Name(), layout, fill)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // err says what was wrong
		return "", fmt.Errorf("make a ledger: %w", err)
	}
	return f.Name(), nil
}

// initialise makes a store of an empty file.
func initialise(path string, layout Layout, fill func(tx *Tx) error) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Millisecond})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		names := []string{bufferBucket}
		for _, spec := range layout {
			names = append(names, spec.Name)
		}
		for _, name := range names {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return fill(&Tx{store: &Store{opts: Options{Layout: layout}}, bolt: tx})
	})
	return errors.Join(err, db.Close())
}

// RemoveMatching deletes the files of a directory whose names match a pattern. What cannot be
// deleted stays.
func RemoveMatching(dir, pattern string) {
	for _, path := range matching(dir, pattern) {
		_ = os.Remove(path)
	}
}

// matching lists the files of a directory whose names match a pattern, none where it cannot be
// read. (filepath.Glob would read the directory's own name as a pattern.)
func matching(dir, pattern string) (paths []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// MakeDir creates a directory of mode 0700, and every missing one above it, durably.
func MakeDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		err = explainPath(dir, err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := MakeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a directory durable. (fsync(2): syncing a file does not sync its
// name.)
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		err = nil // a file system without it
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	return nil
}
