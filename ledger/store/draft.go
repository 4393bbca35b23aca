package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// compactBytes of keys and values are written in one transaction: each one leaves a few free pages,
// and holds in memory what it writes.
const compactBytes = 64 << 20

// Draft is a new store that is filled in any order and then compacted into a file. It has no write
// buffer and syncs nothing: it is not kept.
type Draft struct {
	path  string
	db    *bolt.DB
	store *Store // for the layout
}

// CreateDraft creates a draft beside path, with the buckets of the layout and what fill writes.
// [Draft.Discard] deletes it.
func CreateDraft(path string, layout Layout, fill func(tx *Tx) error) (*Draft, error) {
	made, err := createUnnamed(path, layout, fill)
	if err != nil {
		return nil, err
	}
	db, err := bolt.Open(made, 0o600, &bolt.Options{Timeout: time.Millisecond, NoSync: true, NoGrowSync: true, NoFreelistSync: true, InitialMmapSize: mapSize})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a ledger: %w", err), os.Remove(made))
	}
	return &Draft{path: made, db: db, store: &Store{opts: Options{Layout: layout}}}, nil
}

// Fill runs fill in a transaction.
func (d *Draft) Fill(fill func(tx *Tx) error) error {
	return d.db.Update(func(tx *bolt.Tx) error { return fill(&Tx{store: d.store, bolt: tx}) })
}

// Discard closes and deletes the draft.
func (d *Draft) Discard() error { return errors.Join(d.db.Close(), os.Remove(d.path)) }

// Compact copies a draft to a new, synced file beside path and returns its name. Each bucket is
// written in the order of its keys, so that every page is filled: a draft is filled in another
// order, which leaves pages half full and many of them free. If Compact fails, it leaves nothing.
func (d *Draft) Compact(ctx context.Context, path string) (made string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), newPattern(path))
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // err says what was wrong
		}
	}()
	if err := f.Close(); err != nil {
		return "", err
	}
	// It is synced once, when it is whole.
	to, err := bolt.Open(f.Name(), 0o600, &bolt.Options{Timeout: time.Millisecond, NoSync: true, NoGrowSync: true, InitialMmapSize: mapSize})
	if err != nil {
		return "", err
	}
	err = d.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return copyBucket(ctx, to, name, b) })
	})
	return f.Name(), errors.Join(err, to.Sync(), to.Close())
}

// copyBucket copies a bucket that has no buckets in it.
func copyBucket(ctx context.Context, to *bolt.DB, name []byte, from *bolt.Bucket) error {
	cursor := from.Cursor()
	key, value := cursor.First()
	for first := true; first || key != nil; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := to.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			b.FillPercent = 1
			for size := 0; key != nil && size < compactBytes; key, value = cursor.Next() {
				if err := b.Put(key, value); err != nil {
					return err
				}
				size += len(key) + len(value)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CopyOwner gives the file at path the owner and the mode of the store's file, and returns the
// sizes of both: root rebuilds the file of a service that is not root.
func (s *Store) CopyOwner(path string) (oldBytes, newBytes int64, err error) {
	old, err := s.file.Stat()
	if err != nil {
		return 0, 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	err = os.Chmod(path, old.Mode().Perm())
	if stat, ok := old.Sys().(*syscall.Stat_t); ok && err == nil && os.Geteuid() == 0 {
		err = os.Chown(path, int(stat.Uid), int(stat.Gid))
	}
	return old.Size(), info.Size(), err
}
