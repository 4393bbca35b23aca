package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFaults ends a check: a file with so many is not read further.
const maxFaults = 50

// bbolt follows pages blindly: a damaged count can make it fill the memory, a page that is its own
// child keeps it busy forever, and reading behind the end of a page can end the process. So the
// pages of a file are walked here with bounds, before bbolt reads one that may be damaged.
//
// A page begins with its number in 8 bytes, flags and count in 2 each, and in 4 how many pages it
// overflows into. In a branch page follow, for each child, position and size of the key in 4 bytes
// each and the page in 8; in a leaf page flags, position, key size and value size in 4 each. A
// position counts from its own element. A value whose flags have the lowest bit is a bucket: the
// number of its root page in 8 bytes and a sequence in 8, and where that number is 0 the page
// itself. https://pkg.go.dev/go.etcd.io/bbolt/internal/common#Page
const (
	pageHeader   = 16
	elementSize  = 16
	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	maxDepth     = 64 // of branches and buckets; a file of 2^40 pages has ten
)

// VerifyPages checks the pages of a file that no process writes to: both meta pages are sound, and
// every page is used once or free, and is what it says. It returns [ErrLocked] if another process
// holds the file, and every fault that it found, joined. free is how many pages are free.
func VerifyPages(ctx context.Context, path string) (free int64, err error) {
	err = Inspect(path)
	var bad *PathFault
	if errors.As(err, &bad) && errors.Is(err, ErrFormat) {
		return 0, fmt.Errorf("%s: it is of no use as a copy", bad.What())
	}
	if err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, openError(path, err)
	}
	defer func() { _ = unlockAndClose(f) }() // it was only read
	if err := lockFile(f, shared); err != nil {
		return 0, err
	}
	newest, err := readMetaPage(f, 0)
	if err != nil {
		return 0, err
	}
	if newest == nil {
		newest = &meta{pageSize: uint64(os.Getpagesize())}
	}
	second, err := readMetaPage(f, int64(newest.pageSize))
	if err != nil {
		return 0, err
	}
	if newest.pages == 0 || second == nil { // bbolt would silently use the other one
		return 0, fmt.Errorf("%w: %s: one of its two meta pages: the last transaction may be missing", ErrCorrupt, path)
	}
	if second.tx > newest.tx {
		newest = second
	}
	if free, err = walkPages(contextReader{ctx, f}, newest); err != nil {
		return free, fmt.Errorf("%s: %w", path, err)
	}
	return free, nil
}

// VerifyPages is [VerifyPages] for the pages that a transaction sees, of a store that may be
// written to meanwhile: pages that the transaction can reach are not reused before it ends. It
// returns how many pages are free.
func (tx *Tx) VerifyPages(ctx context.Context) (free int64, err error) {
	for page := range int64(2) {
		m, err := readMetaPage(tx.store.file, page*tx.store.pageSize)
		if err != nil {
			return 0, err
		}
		if m != nil && m.tx == uint64(tx.bolt.ID()) {
			return walkPages(contextReader{ctx, tx.store.file}, m)
		}
	}
	return 0, errPagesChanged
}

// errPagesChanged is returned where so many commits came since a transaction began that its meta
// page was overwritten.
var errPagesChanged = errors.New("the ledger was written to meanwhile; verify a copy of it")

// contextReader reads a file until ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.ReaderAt
}

func (c contextReader) ReadAt(p []byte, off int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.ReadAt(p, off)
}

// pageWalk is a walk over the pages of a file.
type pageWalk struct {
	file   io.ReaderAt
	size   uint64   // of a page
	end    uint64   // the first page that is not in use
	seen   []uint64 // a bit for each page
	free   int64    // pages in the freelist
	faults []error
}

func (p *pageWalk) fault(format string, args ...any) {
	if len(p.faults) < maxFaults {
		p.faults = append(p.faults, fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...))
	}
}

// walkPages demands that every page is used once or free, and is what it says. It returns how many
// pages are free.
func walkPages(file io.ReaderAt, m *meta) (free int64, err error) {
	p := &pageWalk{file: file, size: m.pageSize, end: m.pages, seen: make([]uint64, m.pages/64+1)}
	p.take(0, 1, "the first meta page")
	p.take(1, 1, "the second meta page")
	if m.freelist != noFreelist {
		p.freelist(m.freelist)
	}
	p.tree(m.root, 0)
	if m.freelist != noFreelist {
		for page := uint64(2); page < p.end && len(p.faults) < maxFaults; page++ {
			if p.seen[page/64]&(1<<(page%64)) == 0 {
				p.fault("page %d is neither in use nor free", page)
			}
		}
	}
	return p.free, errors.Join(p.faults...)
}

// noFreelist stands in a meta page where the file has no freelist.
const noFreelist = ^uint64(0)

// take marks n pages from one on as used. It fails if the file has no such pages, or one is used
// already.
func (p *pageWalk) take(page, n uint64, what string) bool {
	if page >= p.end || n > p.end-page {
		p.fault("%s: pages %d to %d are not in the file", what, page, page+n-1)
		return false
	}
	for i := page; i < page+n; i++ {
		if p.seen[i/64]&(1<<(i%64)) != 0 {
			p.fault("%s: page %d is used twice", what, i)
			return false
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	return true
}

// load reads a page with its overflow pages, nil if it is not what it should be.
func (p *pageWalk) load(page uint64, what string) (content []byte, kind, count uint16) {
	header := make([]byte, pageHeader)
	if page >= p.end {
		p.fault("%s: page %d is not in the file", what, page)
		return nil, 0, 0
	}
	if _, err := p.file.ReadAt(header, int64(page*p.size)); err != nil {
		p.fault("%s: page %d: %w", what, page, err)
		return nil, 0, 0
	}
	id, kind, count, over := readPageHeader(header)
	if id != page {
		p.fault("%s: page %d calls itself %d", what, page, id)
		return nil, 0, 0
	}
	if !p.take(page, uint64(over)+1, what) {
		return nil, 0, 0
	}
	content = make([]byte, (uint64(over)+1)*p.size)
	if _, err := p.file.ReadAt(content, int64(page*p.size)); err != nil {
		p.fault("%s: page %d: %w", what, page, err)
		return nil, 0, 0
	}
	return content, kind, count
}

func readPageHeader(b []byte) (id uint64, kind, count uint16, over uint32) {
	order := binary.NativeEndian
	return order.Uint64(b), order.Uint16(b[8:]), order.Uint16(b[10:]), order.Uint32(b[12:])
}

// freelist marks the pages that are listed as free.
func (p *pageWalk) freelist(page uint64) {
	content, kind, count := p.load(page, "the list of free pages")
	if content == nil {
		return
	}
	if kind != freelistPage {
		p.fault("page %d should list the free pages, and is of kind %#x", page, kind)
		return
	}
	list, n := content[pageHeader:], uint64(count)
	if count == 0xFFFF { // the count does not fit: it is the first number
		n, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		p.fault("the list of free pages has no space for %d", n)
		return
	}
	before := uint64(0)
	for i := range n {
		free := binary.NativeEndian.Uint64(list[8*i:])
		if free <= before {
			p.fault("the list of free pages is not in order at %d", free)
			return
		}
		if before = free; !p.take(free, 1, "the list of free pages") {
			return
		}
		p.free++
	}
}

// tree walks a bucket's pages from a root down.
func (p *pageWalk) tree(page uint64, depth int) {
	if depth > maxDepth {
		p.fault("page %d lies deeper than any page can", page)
		return
	}
	content, kind, count := p.load(page, "a bucket")
	switch {
	case content == nil:
	case kind == branchPage && count > 0:
		p.branch(page, content, count, depth)
	case kind == leafPage:
		p.leaf(page, content, count, depth)
	default:
		p.fault("page %d should be a branch or a leaf, and is of kind %#x with %d elements", page, kind, count)
	}
}

// elements reports whether a page has space for so many.
func (p *pageWalk) elements(page uint64, content []byte, count uint16) bool {
	if pageHeader+int(count)*elementSize > len(content) {
		p.fault("page %d has no space for %d elements", page, count)
		return false
	}
	return true
}

// within reports whether what an element points to is in its page.
func (p *pageWalk) within(page uint64, content []byte, at int, sizes ...uint32) bool {
	end := uint64(at)
	for _, n := range sizes {
		end += uint64(n)
	}
	if end > uint64(len(content)) || sizes[0] < elementSize {
		p.fault("page %d: the element at %d points out of it", page, at)
		return false
	}
	return true
}

func (p *pageWalk) branch(page uint64, content []byte, count uint16, depth int) {
	if !p.elements(page, content, count) {
		return
	}
	order := binary.NativeEndian
	for i := range int(count) {
		at := pageHeader + i*elementSize
		if len(p.faults) >= maxFaults || !p.within(page, content, at, order.Uint32(content[at:]), order.Uint32(content[at+4:])) {
			return
		}
		p.tree(order.Uint64(content[at+8:]), depth+1)
	}
}

func (p *pageWalk) leaf(page uint64, content []byte, count uint16, depth int) {
	if !p.elements(page, content, count) {
		return
	}
	order := binary.NativeEndian
	for i := range int(count) {
		at := pageHeader + i*elementSize
		flags, position, key, value := order.Uint32(content[at:]), order.Uint32(content[at+4:]), order.Uint32(content[at+8:]), order.Uint32(content[at+12:])
		if len(p.faults) >= maxFaults || !p.within(page, content, at, position, key, value) {
			return
		}
		if flags > 1 {
			p.fault("page %d: an element has the flags %#x", page, flags)
			return
		}
		if flags == 1 {
			begin := uint64(at) + uint64(position) + uint64(key)
			p.bucket(page, content[begin:begin+uint64(value)], depth)
		}
	}
}

// bucket walks the pages of a bucket, or the page that is inside its value.
func (p *pageWalk) bucket(page uint64, value []byte, depth int) {
	if len(value) < 16 {
		p.fault("page %d: a bucket has %d bytes", page, len(value))
		return
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		p.tree(root, depth+1)
		return
	}
	inner := value[16:]
	if len(inner) < pageHeader {
		p.fault("page %d: a bucket in it has %d bytes", page, len(inner))
		return
	}
	id, kind, count, over := readPageHeader(inner)
	if id != 0 || kind != leafPage || over != 0 || depth >= maxDepth {
		p.fault("page %d: a bucket in it is no leaf page", page)
		return
	}
	p.leaf(page, inner, count, depth+1)
}
