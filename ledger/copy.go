package ledger

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// CopyTo writes the ledger as it is at one moment, a whole file that opens by itself. It reads in one transaction, in
// which no page is used again: w should be a file, and whoever reads slowly reads from that.
func (l *Ledger) CopyTo(w io.Writer) error {
	return l.viewFile(func(tx *bolt.Tx) error {
		if _, err := tx.WriteTo(w); err != nil {
			return fmt.Errorf("copy the ledger: %w", err)
		}
		return nil
	})
}

// WithCopy hands the name of a copy of the ledger to use, and removes it afterwards. It returns
// [ErrNoRoom] if the copy would take what is reserved for events.
func (l *Ledger) WithCopy(ctx context.Context, use func(path string) error) error {
	dir := filepath.Dir(l.path)
	f, err := os.CreateTemp(dir, newPattern)
	if err != nil {
		return fmt.Errorf("make a copy of the ledger: %w", noRoom(err, dir))
	}
	defer os.Remove(f.Name())
	if err := errors.Join(l.copyInto(ctx, dir, f), f.Close()); err != nil {
		return err
	}
	return use(f.Name())
}

// Spool has a file filled that has no name, and returns it at its beginning: what is in it takes no
// transaction while it is read. Closing it frees its space, and so does the end of the
// process. It returns [ErrNoRoom] before it takes what is reserved for events.
func (l *Ledger) Spool(fill func(w io.Writer) error) (_ *os.File, err error) {
	return l.spool(func(f *os.File) error {
		k := l.keep(filepath.Dir(l.path), f)
		defer k.Close()
		w := bufio.NewWriterSize(k, 1<<20)
		if err := fill(w); err != nil {
			return cmp.Or(k.err, err)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write to a file first: %w", err)
		}
		return nil
	})
}

// SpoolCopy is Spool of a copy of the ledger.
func (l *Ledger) SpoolCopy(ctx context.Context) (*os.File, error) {
	return l.spool(func(f *os.File) error { return l.copyInto(ctx, filepath.Dir(l.path), f) })
}

// spool returns a file without a name once it is filled, at its beginning.
func (l *Ledger) spool(fill func(f *os.File) error) (_ *os.File, err error) {
	f, err := l.tempFile()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := fill(f); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return f, nil
}

// Save writes a copy of a ledger to a new file of mode 0600: under another name first, synced, looked at, and checked by check
// where that is not nil. It never replaces a file.
func Save(path string, fill func(w io.Writer) error, check func(made string) error) (err error) {
	if err := mustNotExist(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("save a copy: %w", err)
	}
	made := f.Name()
	defer func() { _ = os.Remove(made) }() // it has another name by then, or is of no use
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save a copy as %s: %w", path, err)
	}
	if err := inspect(made); err != nil {
		return fmt.Errorf("the copy is not whole, and was not kept: %w", err)
	}
	if check != nil {
		if err := check(made); err != nil {
			return fmt.Errorf("the copy is not sound, and was not kept: %w", err)
		}
	}
	if err := place(made, path); err != nil {
		return fmt.Errorf("save a copy as %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// place gives a file its name and never replaces another file: by a hard link, or on a file system
// that has none by a rename that refuses to replace. Where the file system has neither, there is a
// moment in which place could.
func place(made, path string) error {
	err := os.Link(made, path)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, syscall.EEXIST):
		return &taken{path}
	case err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL):
		return err
	}
	return os.Rename(made, path) // there was no file a moment ago, or the error would be EEXIST
}

// ContextWriter returns a writer that fails once ctx has ended.
func ContextWriter(ctx context.Context, w io.Writer) io.Writer { return until{ctx, w} }

type until struct {
	ctx context.Context
	w   io.Writer
}

func (u until) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}

// untilAt reads a file until ctx ends.
type untilAt struct {
	ctx context.Context
	r   io.ReaderAt
}

func (u untilAt) ReadAt(p []byte, off int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.ReadAt(p, off)
}
