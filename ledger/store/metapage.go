package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

// Inspect checks a file before bbolt maps it into memory: reading behind the end of a mapped file
// is a fault that ends the process, and bbolt would initialise an empty file. It writes nothing.
//
// Of a bbolt file it reads what each of the first two pages begins with, after a page header of 16
// bytes: magic, version, page size and flags in 4 bytes each; the root bucket in 16, then the
// freelist, the number of pages in use and the transaction in 8 each; FNV-1a over that. Numbers are
// in the machine's byte order. https://pkg.go.dev/go.etcd.io/bbolt/internal/common#Meta
func Inspect(path string) error {
	info, err := findRegular(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return &PathFault{path, "is empty", "remove it, and the next start makes a new one", ErrFormat}
	}
	f, err := os.Open(path)
	if err != nil {
		return explainPath(path, openError(path, err))
	}
	defer f.Close()
	needed, sound := uint64(0), false
	newest := uint64(0)
	pageSize := uint64(os.Getpagesize())
	for page := range uint64(2) {
		m, err := readMetaPage(f, int64(page*pageSize))
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if m == nil {
			continue
		}
		pageSize = m.pageSize
		if !sound || m.tx > newest {
			sound, newest, needed = true, m.tx, m.pages*m.pageSize
		}
	}
	if info, err = f.Stat(); err != nil { // after the pages: a writer may have grown the file meanwhile
		return fmt.Errorf("read %s: %w", path, err)
	}
	switch {
	case !sound:
		return &PathFault{path, "was written by another program, or its beginning is damaged", "move it away, or restore a copy", ErrFormat}
	case uint64(info.Size()) < needed:
		return &PathFault{path, fmt.Sprintf("is cut short: it has %d bytes of %d", info.Size(), needed), "restore a copy", ErrFormat}
	}
	return nil
}

// meta is what is needed of a bbolt meta page.
type meta struct{ pageSize, root, freelist, pages, tx uint64 }

// readMetaPage reads the meta page at an offset, nil if it is not sound.
func readMetaPage(f io.ReaderAt, at int64) (*meta, error) {
	const header, size, magic = 16, 64, 0xED0CDAED
	b := make([]byte, header+size)
	if _, err := f.ReadAt(b, at); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	b = b[header:]
	order := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:56])
	m := &meta{pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
	if order.Uint32(b) != magic || order.Uint64(b[56:]) != sum.Sum64() || m.pageSize < 512 || m.pageSize > 64<<10 || m.pages > 1<<40 {
		return nil, nil
	}
	return m, nil
}

// exists reports whether a path names something, if only a symbolic link to nothing.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// MustExist returns [ErrNotFound] with the words of problem if a path names nothing, or why that
// cannot be seen.
func MustExist(path, problem string) error {
	there, err := exists(path)
	switch {
	case err != nil:
		return explainPath(path, err)
	case !there && danglingLink(path) != "":
		return explainPath(path, fs.ErrNotExist)
	case !there:
		return fmt.Errorf("%w: %s %s", ErrNotFound, problem, path)
	}
	return nil
}

// mustNotExist returns an [fs.ErrExist] if a path names something, or why that cannot be seen.
func mustNotExist(path string) error {
	there, err := exists(path)
	switch {
	case err != nil:
		return fmt.Errorf("check whether %s exists: %w", path, err)
	case there:
		return &existsError{path}
	}
	return nil
}

// existsError says that another file has a path. It is an [fs.ErrExist].
type existsError struct{ path string }

func (e *existsError) Error() string {
	return e.path + " is there already: name another file, or move it away"
}
func (e *existsError) Unwrap() error { return fs.ErrExist }

// openError returns the error of a file that cannot be opened, with its path once.
func openError(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && p.Path == path {
		return err
	}
	return fmt.Errorf("open %s: %w", path, err)
}
