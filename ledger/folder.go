package ledger

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

// newPattern names a ledger that is being made.
const newPattern = fileName + ".new-*"

// lockFolder makes the data folder if it does not exist, takes its lock and deletes what earlier
// processes left in it. The lock is held for as long as a ledger is open for writing. The lock on
// the ledger's file would not be enough: while there is no file yet, or the file was deleted under
// a receiver, another process could make an empty ledger beside it. The result is nil on a file
// system that cannot lock a folder.
func lockFolder(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the data folder: %w", err)
	}
	if err := lockFile(folder, syscall.LOCK_EX); err != nil {
		_ = folder.Close() // it was only read
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, Path(dir))
		}
		folder = nil
	} else {
		removeMatching(dir, newPattern)
	}
	return folder, nil
}

// unlockFolder releases what lockFolder returned.
func unlockFolder(folder *os.File) {
	if folder != nil {
		_ = unlockAndClose(folder) // it was only read
	}
}

// makeEmpty makes a whole, empty ledger under a name of its own. Where it fails, nothing is left.
func makeEmpty(dir string, livemode bool) (string, error) {
	f, err := os.CreateTemp(dir, newPattern)
	if err != nil {
		return "", fmt.Errorf("make a ledger: %w", err)
	}
	err = f.Close()
	if err == nil {
		err = layOut(f.Name(), livemode)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // err says what was wrong
		return "", fmt.Errorf("make a ledger: %w", err)
	}
	return f.Name(), nil
}

// layOut writes an empty ledger to an empty file.
func layOut(path string, livemode bool) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Millisecond})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error { return initialise(inPlace(tx), livemode) })
	return errors.Join(err, db.Close())
}

// create makes the ledger under another name and then gives it its own, so that a ledger.db that
// exists is never half made, whatever stops the process.
func create(dir string, livemode bool) error {
	made, err := makeEmpty(dir, livemode)
	if err != nil {
		return err
	}
	defer os.Remove(made) // it has another name by then, or is of no use
	path := filepath.Join(dir, fileName)
	// Where folders cannot be locked, another process can have made a ledger meanwhile, and can
	// have taken ours for a leftover.
	err = place(made, path)
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s appeared while this process was making it", ErrLocked, path)
	case err != nil:
		return fmt.Errorf("make the ledger: %w", err)
	}
	return nil
}

// removeMatching deletes the files in a folder whose names match. What cannot be deleted is not
// worth an error. (filepath.Glob would read the folder's own name as a pattern.)
func removeMatching(dir, pattern string) {
	for _, path := range matching(dir, pattern) {
		_ = os.Remove(path)
	}
}

// matching lists the files of a folder whose names match a pattern, none where it cannot be read.
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

// makeDir makes a folder, and every one above it that is missing, and makes their names durable.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o700)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// syncDir makes the folder's entries durable (fsync(2): syncing a file does not sync its name).
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that has no such thing
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	return nil
}
