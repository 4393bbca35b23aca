package store

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

// CopyTo writes the file as it is at one moment: a whole file that opens by itself. It reads in one
// transaction, in which no page is reused: w should be a file.
func (s *Store) CopyTo(w io.Writer) error {
	return s.viewFile(func(tx *bolt.Tx) error {
		if _, err := tx.WriteTo(w); err != nil {
			return fmt.Errorf("copy the ledger: %w", err)
		}
		return nil
	})
}

// WithCopy calls use with the path of a copy of the file, and removes the copy afterwards. It
// returns [ErrNoSpace] if the copy would take what is reserved for events.
func (s *Store) WithCopy(ctx context.Context, use func(path string) error) error {
	f, err := os.CreateTemp(s.dir(), newPattern(s.target))
	if err != nil {
		return fmt.Errorf("make a copy of the ledger: %w", diskFull(err, s.dir()))
	}
	defer os.Remove(f.Name())
	if err := errors.Join(s.CopyInto(ctx, s.dir(), f), f.Close()); err != nil {
		return err
	}
	return use(f.Name())
}

// TempFile returns an unlinked temporary file, which is freed when it is closed.
func (s *Store) TempFile() (*os.File, error) {
	dir := s.TempDir()
	f, err := os.CreateTemp(dir, newPattern(s.target))
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", diskFull(err, dir))
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("make a temporary file: %w", err), f.Close())
	}
	return f, nil
}

// TempDir returns the directory of temporary files. That of a writer is the file's own, which is
// known to have space; a reader of a copy may not be allowed to write there.
func (s *Store) TempDir() string {
	if s.opts.ReadOnly {
		return os.TempDir()
	}
	return s.dir()
}

// Spool runs fill into an unlinked temporary file and returns it rewound, so that a slow reader
// holds a file open and not a read transaction. It returns [ErrNoSpace] before it takes what is
// reserved for events.
func (s *Store) Spool(fill func(w io.Writer) error) (*os.File, error) {
	return s.spool(func(f *os.File) error {
		k := s.Reserved(s.dir(), f)
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

// SpoolCopy is Spool of a copy of the file.
func (s *Store) SpoolCopy(ctx context.Context) (*os.File, error) {
	return s.spool(func(f *os.File) error { return s.CopyInto(ctx, s.dir(), f) })
}

func (s *Store) spool(fill func(f *os.File) error) (_ *os.File, err error) {
	f, err := s.TempFile()
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

// Save writes a copy of a store to a new file of mode 0600: under another name first, synced,
// inspected, and checked by check unless that is nil. It never replaces a file.
func Save(path string, fill func(w io.Writer) error, check func(made string) error) (err error) {
	if err := mustNotExist(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), newPattern(path))
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
	if err := Inspect(made); err != nil {
		return fmt.Errorf("the copy is not whole, and was not kept: %w", err)
	}
	if check != nil {
		if err := check(made); err != nil {
			return fmt.Errorf("the copy is not sound, and was not kept: %w", err)
		}
	}
	if err := rename(made, path); err != nil {
		return fmt.Errorf("save a copy as %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// rename gives a file a path and never replaces another file: by a hard link, or on a file system
// without hard links by a rename that refuses to replace. Where the file system has neither, there
// is a moment in which it could replace one.
func rename(made, path string) error {
	err := os.Link(made, path)
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, syscall.EEXIST):
		return &existsError{path}
	case err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL):
		return err
	}
	return os.Rename(made, path) // no file was there a moment ago, or the error would be EEXIST
}

// KeepAs gives the file another name as well. Where the file system has no hard links it is copied:
// a rename would leave a moment without a file, and a process that starts then would create an
// empty one.
func (s *Store) KeepAs(name string) error {
	err := os.Link(s.target, name)
	if err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return Save(name, s.CopyFile, nil)
}

// CopyFile copies the file byte for byte, without the space behind its last page. No transaction
// may write to it meanwhile.
func (s *Store) CopyFile(w io.Writer) error {
	size, err := s.usedBytes()
	if err == nil {
		_, err = io.Copy(w, io.NewSectionReader(s.file, 0, size))
	}
	return err
}

// usedBytes returns how many bytes of the file its pages take.
func (s *Store) usedBytes() (int64, error) {
	newest, err := s.newestMeta()
	if err == nil && newest == nil {
		err = fmt.Errorf("%w: neither of its meta pages is sound", ErrCorrupt)
	}
	if err != nil {
		return 0, err
	}
	return int64(newest.pages * newest.pageSize), nil
}

// ContextWriter returns a writer to w that fails once ctx has ended.
func ContextWriter(ctx context.Context, w io.Writer) io.Writer { return contextWriter{ctx, w} }

type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
