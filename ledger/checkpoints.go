package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Checkpoint returns the checkpoint with a name, or 0 if it does not exist.
func (l *Ledger) Checkpoint(name string) (n int64, err error) {
	err = l.store.View(func(tx *store.Tx) (err error) {
		n, err = schema.ReadCheckpoint(tx, name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("the checkpoint %s: %w", name, err)
	}
	return n, nil
}

// SetCheckpoints writes checkpoints, all or none, and returns when they are on disk. As with
// [Ledger.Append], an error does not mean that they were not written.
func (l *Ledger) SetCheckpoints(ctx context.Context, to map[string]int64) error {
	values := maps.Clone(to) // the job may still run after ctx has ended
	return l.do(ctx, func(b *posting.Batch) (func() error, error) {
		return func() error { return putCheckpoints(b.Tx, values) }, nil
	})
}

// putCheckpoints writes checkpoints in the order of their names.
func putCheckpoints(tx *store.Tx, values map[string]int64) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := schema.PutCheckpoint(tx, name, values[name]); err != nil {
			return err
		}
	}
	return nil
}
