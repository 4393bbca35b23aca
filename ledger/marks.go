package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
		return 0, fmt.Errorf("the mark %s: %w", name, err)
	}
	return n, nil
}

// SetCheckpoints writes checkpoints, all or none, and returns when they are on disk. As with
// [Ledger.Append], an error does not mean that they were not written.
func (l *Ledger) SetCheckpoints(ctx context.Context, marks map[string]int64) error {
	values := maps.Clone(marks) // the job may still run after ctx has ended
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

// Account is a connected account or an account of an organization.
type Account struct {
	ID      string
	Context string // the path to send in the Stripe-Context header; empty for a connected account
}

// Accounts returns the accounts that events came from, sorted by id. It omits accounts that have
// only events of the other mode.
func (l *Ledger) Accounts() (list []Account, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		for e := range tx.Prefix(schema.BucketMeta, []byte(schema.AccountPrefix)) {
			context, err := e.Value()
			if err != nil {
				return err
			}
			list = append(list, Account{strings.TrimPrefix(string(e.Key), schema.AccountPrefix), string(context)})
		}
		return nil
	})
	return list, err
}

// IDStatus says what the ledger knows about the id of an event.
type IDStatus string

// The values of IDStatus.
const (
	IDUnknown     IDStatus = ""            // the event never arrived
	IDQuarantined IDStatus = "quarantined" // the event is in quarantine; it is posted if it arrives in a usable form
	IDKnown       IDStatus = "known"       // the event is stored and not in quarantine
)

// Lookup returns the status of each id. It does not count the ids as repeats.
func (l *Ledger) Lookup(ids []string) ([]IDStatus, error) {
	list := make([]IDStatus, 0, len(ids))
	for part := range slices.Chunk(ids, scanSlice) {
		err := l.store.View(func(tx *store.Tx) error {
			for _, id := range part {
				seq, found, err := schema.LookupID(tx, l.livemode, id)
				if err != nil {
					return err
				}
				if !found {
					list = append(list, IDUnknown)
					continue
				}
				r, err := schema.ReadRow(tx, seq)
				if err != nil {
					return err
				}
				if r.Outcome == Quarantined {
					list = append(list, IDQuarantined)
				} else {
					list = append(list, IDKnown)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
