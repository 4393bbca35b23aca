package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// CheckReplace returns why [Replace] must not put a copy of the file from at path: it is the same
// file, or what is at path is not a file.
func CheckReplace(path, from string) error {
	old, err := findRegular(path)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if info, err := os.Stat(from); err == nil && os.SameFile(info, old) {
		return fmt.Errorf("%s is the ledger itself, and not a copy of it", from)
	}
	return nil
}

// Replace puts a copy of the file from at path, with the owner and the permissions of the file that
// is there, or else of the directory. The old file is kept beside it, under the name that is
// returned, "" if there was none. It returns [ErrLocked] if another process holds that file. The
// caller has verified the copy. If it fails or ctx ends, the file at path is as it was.
func Replace(ctx context.Context, path, from string) (kept string, err error) {
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	if err := CheckReplace(path, from); err != nil {
		return "", err
	}
	path = resolve(path) // a symbolic link stays, and the file that it leads to is replaced
	dir := filepath.Dir(path)
	like, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("stat the data folder: %w", err)
	}
	mode := fs.FileMode(0o600)
	old, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a named pipe by now
	switch {
	case err == nil:
		defer func() { _ = unlockAndClose(old) }() // it was only read
		if err := lockFile(old, exclusive); err != nil {
			return "", err
		}
		if like, err = old.Stat(); err != nil {
			return "", fmt.Errorf("stat the ledger: %w", err)
		}
		mode = like.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("open the ledger: %w", err)
	}
	made, err := copyBeside(ctx, path, from, like, mode)
	if made != "" {
		defer os.Remove(made) // it has another name by then, or is of no use
	}
	if err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", from, dir, err)
	}
	if old != nil {
		kept = KeptName(path, time.Now())
		if err := rename(path, kept); err != nil {
			return "", fmt.Errorf("keep the old ledger: %w", err)
		}
	}
	if err := os.Rename(made, path); err != nil {
		err = fmt.Errorf("put the copy in the ledger's place: %w", err)
		if kept != "" { // without hard links it has that name only
			err = errors.Join(err, os.Rename(kept, path))
		}
		return "", err
	}
	return kept, SyncDir(dir)
}

// KeptName returns the path under which the file at path is kept when another one replaces it.
func KeptName(path string, now time.Time) string {
	return nameBeside(path, now, ".db.old")
}

// nameBeside returns a path beside that of a ledger, with the time in its name.
func nameBeside(path string, now time.Time, suffix string) string {
	return strings.TrimSuffix(path, ".db") + "-" + now.UTC().Format(timeInName) + suffix
}

// copyBeside copies a file into the folder of path, synced, and returns its name there.
func copyBeside(ctx context.Context, path, from string, like fs.FileInfo, mode fs.FileMode) (made string, err error) {
	source, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer source.Close() // it was only read
	f, err := os.CreateTemp(filepath.Dir(path), newPattern(path))
	if err != nil {
		return "", err
	}
	made = f.Name()
	if _, err = io.Copy(ContextWriter(ctx, f), source); err == nil {
		err = f.Chmod(mode)
	}
	if stat, ok := like.Sys().(*syscall.Stat_t); ok && err == nil && os.Geteuid() == 0 {
		err = f.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = Inspect(made)
	}
	return made, err
}
