package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Header is what a file says of itself.
type Header struct {
	Livemode bool // the mode that it is bound to
	Older    bool // it is of an older schema, and is brought up to date when a receiver opens it
}

// ReadHeader reads what a ledger, or a copy of one, says of itself: of any schema, and whatever
// else may be damaged. No receiver may hold it ([ErrLocked]).
func ReadHeader(path string) (h Header, err error) {
	there, err := exists(path)
	switch {
	case err != nil:
		return h, fmt.Errorf("look for the ledger: %w", err)
	case !there:
		return h, fmt.Errorf("%w: no ledger at %s", ErrNotFound, path)
	}
	l, err := openFile(path, true)
	if err != nil {
		return h, err
	}
	err = l.viewFile(func(file *bolt.Tx) error {
		tx := inPlace(file)
		schema, err := readVersion(tx)
		if err != nil {
			return err
		}
		h.Older = schema < schemaVersion
		h.Livemode, err = readMode(tx)
		return err
	})
	if err := errors.Join(err, l.closeFile()); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// IsLocked reports whether another process holds the ledger in a folder.
func IsLocked(dir string) (bool, error) {
	// Opening a pipe that stands in its place would wait for the pipe's other end.
	f, err := os.OpenFile(Path(dir), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the ledger: %w", err)
	}
	defer func() { _ = unlockAndClose(f) }() // it was only read
	err = lockFile(f, syscall.LOCK_SH)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}

// RestoreResult says what a restore did.
type RestoreResult struct {
	Path string // the ledger
	Kept string // the ledger that was there before; empty if there was none
}

// RestoreFrom puts a copy of the file from in the place of the ledger in a folder, under the owner
// and with the permissions of that ledger, or else of the folder. The old file is kept beside it.
// No receiver may run ([ErrLocked]). The caller has verified the copy. Where it fails, the ledger is
// as it was.
func RestoreFrom(dir, from string) (_ *RestoreResult, err error) {
	done := &RestoreResult{Path: Path(dir)}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	switch same, err := isSame(from, done.Path); {
	case err != nil:
		return nil, fmt.Errorf("look at the copy: %w", err)
	case same:
		return nil, fmt.Errorf("%s is the ledger itself, and not a copy of it", from)
	}
	like, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at the data folder: %w", err)
	}
	mode := fs.FileMode(0o600)
	old, err := os.Open(done.Path)
	switch {
	case err == nil:
		defer func() { _ = unlockAndClose(old) }() // it was only read
		if err := lockFile(old, syscall.LOCK_EX); err != nil {
			return nil, err
		}
		if like, err = old.Stat(); err != nil {
			return nil, fmt.Errorf("look at the ledger: %w", err)
		}
		mode = like.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	made, err := copyBeside(done.Path, from, like, mode)
	if made != "" {
		defer os.Remove(made) // it has another name by then, or is of no use
	}
	if err != nil {
		return nil, fmt.Errorf("copy %s to %s: %w", from, dir, err)
	}
	if old != nil {
		done.Kept = filepath.Join(dir, "ledger-"+time.Now().UTC().Format("20060102T150405.000Z")+".db.old")
		if err := place(done.Path, done.Kept); err != nil {
			return nil, fmt.Errorf("keep the old ledger: %w", err)
		}
	}
	if err := os.Rename(made, done.Path); err != nil {
		err = fmt.Errorf("put the copy in the ledger's place: %w", err)
		if done.Kept != "" { // where there are no links, it has that name alone
			err = errors.Join(err, os.Rename(done.Kept, done.Path))
		}
		return nil, err
	}
	return done, syncDir(dir)
}

// copyBeside copies a file into the folder of path, synced, and returns its name there.
func copyBeside(path, from string, like fs.FileInfo, mode fs.FileMode) (made string, err error) {
	source, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer source.Close() // it was only read
	f, err := os.CreateTemp(filepath.Dir(path), newPattern)
	if err != nil {
		return "", err
	}
	made = f.Name()
	if _, err = io.Copy(f, source); err == nil {
		err = f.Chmod(mode)
	}
	if stat, ok := like.Sys().(*syscall.Stat_t); ok && err == nil && os.Geteuid() == 0 {
		err = f.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = inspect(made)
	}
	return made, err
}

// isSame reports whether two names are those of one file. The second need not exist.
func isSame(a, b string) (bool, error) {
	infoA, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	infoB, err := os.Stat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(infoA, infoB), err
}
