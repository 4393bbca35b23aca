// Package store keeps ordered keys and values in one bbolt file, durably, with a write buffer in
// front of the buckets whose keys arrive in random order.
//
// # Contract
//
// A [Store] has one writer and any number of readers. The ledger reads and writes with these
// operations:
//
//   - [Store.View] begins a read transaction. It sees one moment and ends when the function
//     returns.
//   - [Store.Write] begins the write transaction, and commits it when the function returns nil. A
//     nil result means that the transaction is durable.
//   - [Tx.Get], [Tx.GetAll] and [Tx.Has] read single keys, [Tx.Ascend], [Tx.Descend] and
//     [Tx.Prefix] read keys in order, [Tx.Last] reads the greatest key of a bucket.
//   - [Tx.Put] and [Tx.Delete] write, and are visible to the same transaction at once.
//
// Keys and values that a transaction returns are valid until it ends. A value is stored with a
// CRC-32C over bucket, key and value, and is checked whenever it is read.
//
// Another engine would also have to offer:
//
//   - a life cycle: [Create], [Open], [Store.Flush] and [Store.Close],
//   - the handling of failures: [Store.Recover], [Store.CheckFile], [Store.Leave], [NeedsReopen],
//   - copies of one moment: [Store.CopyTo], [Store.WithCopy], [Store.Spool] and what follows from
//     them (copy.go, replace.go).
//
// [Store.ViewLatest], [Tx.Touch], [Store.LimitBuffer] and [Draft] exist because of bbolt and of the
// write buffer in front of it.
//
// # A failed write
//
// If Write returns an error, the transaction may be on disk or not. The store refuses further
// transactions until [Store.Recover] has succeeded: see recovery.go. [Store.CheckFile]
// finds a file that was deleted, replaced, cut short or overwritten while it was open: see
// watch.go.
//
// # On disk
//
// The file is a bbolt database with one bucket for each entry of the [Layout] and the bucket
// "buffer", which is the log of the write buffer (buffer.go). bbolt checks only its two meta pages;
// [VerifyPages] checks the others.
//
// # Dangers
//
//   - bbolt shows a transaction to readers before its last sync has returned. What a reader sees
//     may still be lost.
//   - A read transaction that stays open stops pages from being reused.
//   - Damage that bbolt meets is a panic, or a fault of the process. Every transaction here turns
//     both into [ErrCorrupt].
//
// The package knows no events and no payments. Its errors are written for the operator of a ledger
// and name tillhook's commands. It never logs.
package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrNotFound is returned where a file does not exist.
	ErrNotFound = errors.New("not found")
	// ErrLocked is returned where another process has the file open. bbolt admits one process.
	ErrLocked = errors.New("the ledger is held by another process")
	// ErrFormat is returned for a file that is no bbolt database, or not one of this layout.
	ErrFormat = errors.New("the file is not a ledger this version can read")
	// ErrCorrupt is returned where a stored value does not match its checksum or cannot be read.
	ErrCorrupt = errors.New("a stored value is damaged")
	// ErrUnavailable is returned where the file cannot be read or written for the time being.
	ErrUnavailable = errors.New("the ledger is not available")
	// ErrMissing is returned where the file disappeared while a process had it open (see watch.go).
	// An empty file must not replace it without the operator's consent.
	ErrMissing = errors.New("the ledger is missing")
)

// errNotRecovered is returned for a write after a failed one.
var errNotRecovered = fmt.Errorf("%w: a write failed, and the file was not recovered since", ErrUnavailable)

// errReopen marks a panic of bbolt in a commit. Its state in memory may be wrong afterwards.
var errReopen = errors.New("the ledger must be opened again")

// NeedsReopen reports whether an error of [Store.Write], [Store.CheckFile] or [Store.Recover]
// persists until the file is opened again.
func NeedsReopen(err error) bool {
	var fault *FileFault
	return errors.Is(err, errReopen) || errors.As(err, &fault) && fault.reopen
}

// mapSize is the address space reserved for the file. bbolt grows its map only while no reader
// holds a transaction; a map that never grows never waits for one. It costs no memory, and fits the
// 39 bit address space of small arm64 kernels.
const mapSize = 256 << 30

// A Bucket is the number of a bucket in the [Layout] of its store.
type Bucket uint8

// Layout lists the buckets of a file by their numbers. Numbers of buffered buckets are part of the
// file format.
type Layout []Spec

// Spec describes a bucket.
type Spec struct {
	Name string
	// Buffered says that the keys of the bucket pass through the write buffer. It is meant for keys
	// that arrive in random order, such as Stripe's ids.
	Buffered bool
	// Append says that keys only ascend, so that pages are filled to their end.
	Append bool
}

// Options say how a file is opened.
type Options struct {
	Layout   Layout
	ReadOnly bool
	// Exclusive keeps other readers out, too. It goes with ReadOnly.
	Exclusive bool
	// Unbuffered does not read the write buffer: transactions see only what is in the buckets. It
	// goes with ReadOnly, for files whose buffer may be damaged or of another layout.
	Unbuffered bool
	// Check, if set, is called before the write buffer is read, with a transaction that sees only
	// what is in the buckets, to verify that the file is one that the caller can read.
	Check func(tx *Tx) error
	// Wedged, if set, is called when bbolt keeps its internal locks because it panicked while it
	// began a transaction: every later call would block. The writer must end and close the store.
	Wedged func(err error)
}

// Store is an open file. View, the copies and the sizes may be used from any goroutine, everything
// that writes or recovers from one goroutine only.
type Store struct {
	path     string // as the caller named it
	target   string // the file that path leads to; see resolve
	opts     Options
	db       *bolt.DB
	file     *os.File // the handle that bbolt writes through
	pageSize int64    // asking bbolt later would read the file, which may have been cut short
	reserve  *Reserve

	snapshots atomic.Pointer[[]snapshot]
	merged    atomic.Pointer[mergedRun]
	durableTx atomic.Uint64         // every transaction up to here is on disk
	wedged    atomic.Bool           // bbolt holds locks of its own permanently; see markWedged
	refused   atomic.Pointer[error] // why reading could end the process; nil while it cannot

	// What follows belongs to the writing goroutine.
	mustRecover bool // a write failed, and Recover has not succeeded since
	buffer      buffer
	failed      failedCommit
	size        int64     // of the file, before the transaction under way
	spoiled     fileState // what happened to the contents of the file while it was open
	rescue      rescue
}

// Open opens an existing file. It returns [ErrNotFound], [ErrLocked] if another process holds it
// for longer than an instant, [ErrFormat] or [ErrCorrupt]. Nothing is written but, where the file
// is not opened for reading, the two meta pages as they are (see syncMetaPages).
func Open(path string, opts Options) (_ *Store, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := Inspect(path); err != nil {
		return nil, err
	}
	target := resolve(path)
	s := &Store{path: path, target: target, opts: opts, reserve: &Reserve{path: target}, buffer: newBuffer()}
	defer func() {
		if err != nil && s.file != nil {
			_ = unlockAndClose(s.file) // bbolt leaves it open and locked where it panics
		}
	}()
	defer CatchDamage(&err)
	if err := retryLocked(s.openDB); err != nil {
		return nil, err
	}
	// bbolt opens a file and then waits for its lock: meanwhile another file may have been put in
	// its place.
	if err := s.StillAt(); err != nil {
		return nil, errors.Join(err, s.closeDB())
	}
	if opts.Exclusive {
		if err := lockFile(s.file, exclusive); err != nil {
			return nil, errors.Join(err, s.closeDB())
		}
	}
	if !opts.ReadOnly {
		err = s.syncMetaPages()
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), s.Close())
	}
	return s, nil
}

// openDB has bbolt open the file and take its lock.
func (s *Store) openDB() error {
	s.file = nil
	db, err := bolt.Open(s.path, 0o600, &bolt.Options{
		Timeout:         time.Millisecond, // one try
		ReadOnly:        s.opts.ReadOnly,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			// The file exists; bbolt must not create another one.
			f, err := os.OpenFile(name, flag&^os.O_CREATE, perm)
			if s.file == nil {
				s.file = f
			}
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s", ErrLocked, s.path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: %s: %w", ErrFormat, s.path, err)
	case err != nil:
		return openError(s.path, err)
	}
	s.db, s.pageSize = db, int64(db.Info().PageSize)
	return nil
}

// StillAt returns [ErrLocked] if the path of the open file now leads to another file.
func (s *Store) StillAt() error {
	here, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("stat the open ledger: %w", err)
	}
	there, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("find the ledger: %w", err)
	}
	if !os.SameFile(here, there) {
		return fmt.Errorf("%w: %s was put in place just now; try again", ErrLocked, s.path)
	}
	return nil
}

// load checks the file and reads the write buffer. Afterwards everything that a reader sees counts
// as durable, so a writer calls it only after the meta pages were synced.
func (s *Store) load() error {
	if !s.opts.ReadOnly {
		if err := s.countFreePages(); err != nil {
			return err
		}
	}
	return s.viewFile(func(file *bolt.Tx) error {
		if s.opts.Check != nil {
			if err := s.opts.Check(&Tx{store: s, bolt: file}); err != nil {
				return err
			}
		}
		for _, spec := range s.opts.Layout {
			if file.Bucket([]byte(spec.Name)) == nil && !s.opts.Unbuffered {
				return fmt.Errorf("%w: bucket %s is missing", ErrFormat, spec.Name)
			}
		}
		if !s.opts.Unbuffered {
			if err := s.buffer.load(s, file); err != nil {
				return fmt.Errorf("%w in the write buffer: tillhook rebuild makes it again from the events, which are stored apart", err)
			}
		}
		s.buffer.tx = uint64(file.ID())
		s.snapshots.Store(&[]snapshot{s.buffer.snapshot()})
		s.merged.Store(nil)
		s.durableTx.Store(uint64(file.ID()))
		return nil
	})
}

// countFreePages has bbolt count its free pages, which it does at the end of a write transaction,
// even of one that wrote nothing.
func (s *Store) countFreePages() (err error) {
	begun := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { s.markWedged(begun, err) }()
	defer CatchDamage(&err)
	tx, err := s.db.Begin(true)
	begun = true
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// View runs read in a read transaction. A read that takes long keeps pages from being reused.
func (s *Store) View(read func(tx *Tx) error) error {
	return s.viewFile(func(file *bolt.Tx) error {
		runs, err := s.runsOf(file)
		if err != nil {
			return err
		}
		return read(&Tx{store: s, bolt: file, runs: runs})
	})
}

// ViewLatest is View for the writing goroutine, between two transactions: it reads the write buffer
// without merging its runs first. It returns a [FileFault] if another program wrote to the file.
func (s *Store) ViewLatest(read func(tx *Tx) error) error {
	if s.mustRecover {
		return errNotRecovered
	}
	return s.viewFile(func(file *bolt.Tx) error {
		if err := s.checkNewest(uint64(file.ID())); err != nil {
			return err
		}
		return read(&Tx{store: s, bolt: file, buffer: &s.buffer})
	})
}

// viewFile reads in one bbolt transaction. bbolt panics on a page whose header is damaged, and the
// process faults on one that cannot be read from the disk or was cut off; both are [ErrCorrupt]
// here, like any other damage.
func (s *Store) viewFile(read func(tx *bolt.Tx) error) (err error) {
	if refused := s.refused.Load(); refused != nil {
		return *refused
	}
	begun := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { s.markWedged(begun, err) }()
	defer CatchDamage(&err)
	return s.db.View(func(tx *bolt.Tx) error {
		begun = true
		return read(tx)
	})
}

// Write runs fill in a write transaction and commits it. It returns nil once the transaction is
// durable. An error of fill leaves the file as it was; after any other error the transaction may be
// on disk or not. After either the caller must call Recover before it writes again.
func (s *Store) Write(fill func(tx *Tx) error) error { return s.write(fill, 0) }

// write is Write, and flushes at least flush entries of the buffer. If the page of a buffered entry
// is damaged, it runs fill again and probes each page before it uses it. That is safe because
// nothing has been written to the disk yet.
func (s *Store) write(fill func(tx *Tx) error, flush int) error {
	if s.mustRecover {
		return errNotRecovered
	}
	err := s.tryWrite(fill, flush)
	if errors.Is(err, errBadPage) && !s.buffer.probeFirst {
		s.buffer.probeFirst = true
		if err = s.load(); err == nil {
			err = s.tryWrite(fill, flush)
		}
	}
	if err == nil {
		err = s.checkAfterCommit()
	}
	if err != nil {
		s.noteFailedCommit()
		return err
	}
	s.buffer.committed()
	s.durableTx.Store(s.buffer.tx)
	return nil
}

func (s *Store) tryWrite(fill func(tx *Tx) error, flush int) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	begun := false
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w: %v", errReopen, ErrCorrupt, r)
			s.markWedged(begun, err)
		}
	}()
	file, err := s.db.Begin(true)
	begun = true
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer file.Rollback() // a no-op on a committed transaction; a failed commit may have left it open
	if err := s.checkNewest(uint64(file.ID()) - 1); err != nil {
		return err
	}
	s.buffer.begin(uint64(file.ID()))
	if err := s.fill(file, fill, flush); err != nil {
		return err
	}
	s.publishSnapshot()
	if err := file.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// fill does everything but the commit. A panic here is damage like any other: nothing is on its way
// to the disk yet, and rolling back forgets it.
func (s *Store) fill(file *bolt.Tx, fill func(tx *Tx) error, flush int) (err error) {
	defer CatchDamage(&err)
	tx := &Tx{store: s, bolt: file, buffer: &s.buffer}
	if err := fill(tx); err != nil {
		return err
	}
	return s.buffer.end(tx, flush)
}

// Try runs fill in a write transaction that writes straight to the buckets, and throws it away.
func (s *Store) Try(fill func(tx *Tx) error) error {
	file, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer file.Rollback() // it is never committed
	return fill(&Tx{store: s, bolt: file})
}

// Flush moves everything that is buffered to its buckets, so that the file of a store that was
// closed in order has nothing in its buffer. An error is not a fault of the data: entries that were
// not moved are still in the log, and the next opening reads them.
func (s *Store) Flush() error {
	b := &s.buffer
	for stuck := false; !stuck && (b.size() > 0 || b.records > 0); {
		size, records := b.size(), b.records
		if len(b.flushing) == 0 && len(b.active) > 0 {
			b.rotate()
		}
		if err := s.write(func(*Tx) error { return nil }, flushAtEnd); err != nil {
			return err
		}
		stuck = b.size() >= size && b.records >= records
	}
	return nil
}

// markWedged records that bbolt panicked inside Begin. It then holds its internal locks permanently
// and every further call would block, so the writer must end, and Close does not call bbolt.
func (s *Store) markWedged(begun bool, err error) {
	if begun || !errors.Is(err, ErrCorrupt) || s.opts.ReadOnly {
		return
	}
	s.wedged.Store(true)
	if s.opts.Wedged != nil {
		s.opts.Wedged(fmt.Errorf("%w: %w", errReopen, err))
	}
}

// CatchDamage turns a panic of bbolt's into [ErrCorrupt]. It is deferred.
func CatchDamage(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, r)
	}
}

// Close releases the file and its lock. It waits for transactions under way.
func (s *Store) Close() error {
	if s.wedged.Load() {
		return unlockAndClose(s.file)
	}
	return s.closeDB()
}

// closeDB closes the file and releases its lock: bbolt unlocks only a file that is open for
// writing.
func (s *Store) closeDB() error {
	if s.opts.ReadOnly {
		lock, err := duplicate(s.file)
		if err != nil {
			return errors.Join(fmt.Errorf("close the ledger: %w", err), s.db.Close())
		}
		defer func() { _ = unlockAndClose(lock) }() // it was only read
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// Path returns the path that the file was opened at.
func (s *Store) Path() string { return s.path }

// Target returns the path of the file itself: another one if Path is a symbolic link.
func (s *Store) Target() string { return s.target }

// ReadOnly reports whether the store was opened for reading.
func (s *Store) ReadOnly() bool { return s.opts.ReadOnly }

// Sizes are figures about the file.
type Sizes struct {
	Bytes     int64 // size of the file
	Used      int64 // bytes of it in pages
	FreeBytes int64 // bytes that are free for reuse
	Pages     int64 // pages, in use or free
	FreePages int64 // free, or freed and still visible to a reader
	PageBytes int64 // bytes of pages that were allocated since the file was opened
}

// Sizes costs a stat of the file. Used and Pages are those that tx sees, 0 where it is nil.
func (s *Store) Sizes(tx *Tx) (Sizes, error) {
	stats := s.db.Stats()
	z := Sizes{FreeBytes: int64(stats.FreeAlloc), FreePages: int64(stats.FreePageN + stats.PendingPageN), PageBytes: stats.TxStats.GetPageAlloc()}
	if tx != nil {
		z.Used, z.Pages = tx.bolt.Size(), tx.bolt.Size()/s.pageSize
	}
	info, err := s.file.Stat()
	if err != nil {
		return z, err
	}
	z.Bytes = info.Size()
	return z, nil
}

// FreePages returns how many pages are free for reuse. bbolt writes their list with every commit.
func (s *Store) FreePages() int { return s.db.Stats().FreePageN }

// BufferSizes returns how many entries the write buffer holds that are not in their buckets, how
// many records its log has, and how many bytes its active generation takes. Only the writing
// goroutine may call it.
func (s *Store) BufferSizes() (entries, records, bytes int) {
	return s.buffer.size(), s.buffer.records, s.buffer.bytes
}

// LimitBuffer has a generation of the write buffer flushed once it has so many entries. It is
// called before the first Write.
func (s *Store) LimitBuffer(entries int) { s.buffer.limit = entries }

// dir returns the directory of the file, which is not that of a symbolic link to it.
func (s *Store) dir() string { return filepath.Dir(s.target) }
