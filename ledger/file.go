package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
)

// unusable is a file that no ledger can be in. It is an [ErrSchema].
type unusable struct {
	path, problem string
	mend          string // what to do where it stands in a ledger's place
}

func (u *unusable) Error() string {
	return fmt.Sprintf("%v: %s %s; %s", ErrSchema, u.path, u.problem, u.mend)
}
func (u *unusable) Unwrap() error { return ErrSchema }

// inspect looks at a file before bbolt maps it into memory: reading behind the end of a mapped file is a
// fault that ends the process, and an empty file would be laid out anew. It writes nothing.
//
// Of a bbolt file it reads what each of the two first pages begins with, after a page header of 16
// bytes: magic, version, page size and flags in 4 bytes each; the root bucket in 16, then the free list,
// the number of pages in use and the transaction in 8 each; FNV-1a over that. Numbers are in the
// machine's order. https://pkg.go.dev/go.etcd.io/bbolt/internal/common#Meta
func inspect(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look for the ledger: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return &unusable{path, "is not a regular file", "set TILLHOOK_DATA_DIR to another folder"}
	case info.Size() == 0:
		return &unusable{path, "is empty", "remove it, and the next start makes a new one"}
	}
	f, err := os.Open(path)
	if err != nil {
		return opening(path, err)
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
		return &unusable{path, "was written by another program, or its beginning is damaged", "move it away, or restore a copy"}
	case uint64(info.Size()) < needed:
		return &unusable{path, fmt.Sprintf("is cut short: it has %d bytes of %d", info.Size(), needed), "restore a copy"}
	}
	return nil
}

// meta is what is needed of a bbolt meta page.
type meta struct{ pageSize, root, freelist, pages, tx uint64 }

// readMetaPage reads the meta page at an offset, nil where there is none that is sound.
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

// exists tells whether there is something under a name, if only a link to nowhere.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// mustExist returns [ErrNotFound] if there is nothing under a name, in the words given, or why that
// cannot be seen.
func mustExist(path, none string) error {
	there, err := exists(path)
	switch {
	case err != nil:
		return fmt.Errorf("look for %s: %w", path, err)
	case !there:
		return fmt.Errorf("%w: %s %s", ErrNotFound, none, path)
	}
	return nil
}

// mustNotExist returns an [fs.ErrExist] if there is something under a name, or why that cannot be
// seen.
func mustNotExist(path string) error {
	there, err := exists(path)
	switch {
	case err != nil:
		return fmt.Errorf("look whether there is a file %s: %w", path, err)
	case there:
		return &taken{path}
	}
	return nil
}

// taken is the error about a name that another file has. It is an [fs.ErrExist].
type taken struct{ path string }

func (t *taken) Error() string {
	return t.path + " is there already: name another file, or move it away"
}
func (t *taken) Unwrap() error { return fs.ErrExist }

// opening is the error of a file that cannot be opened. The system's own names the file already.
func opening(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) && p.Path == path {
		return err
	}
	return fmt.Errorf("open %s: %w", path, err)
}
