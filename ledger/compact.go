package ledger

import (
	"context"
	"errors"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// compactBytes of keys and values are written in one transaction: each one leaves a few free pages,
// and holds in memory what it writes.
const compactBytes = 64 << 20

// compact copies a database to a new file in a folder, each bucket in the order of its keys, so
// that every page is filled. A rebuild writes keys in the order of events, which leaves pages half
// full and many of them free. Where compact fails, it leaves nothing.
func compact(ctx context.Context, from *bolt.DB, dir string) (path string, err error) {
	f, err := os.CreateTemp(dir, newPattern)
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
	err = from.View(func(tx *bolt.Tx) error {
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
