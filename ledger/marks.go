package ledger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"tillhook/ledger/store"
)

// A mark is a number that whoever brings events keeps here under a name, as how far it has come. A
// rebuilt ledger has none but the time of retention: what was done up to it is then done once more.
// Accounts are kept beside the marks.
const (
	markPrefix    = "mark/"
	accountPrefix = "account/"
)

// Checkpoint reads a mark; 0 if there is none.
func (l *Ledger) Checkpoint(name string) (n int64, err error) {
	err = l.store.View(func(tx *store.Tx) (err error) {
		n, err = readMark(tx, name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("the mark %s: %w", name, err)
	}
	return n, nil
}

func readMark(tx *store.Tx, name string) (int64, error) {
	value, err := tx.Get(bucketMeta, []byte(markPrefix+name))
	if err != nil || value == nil {
		return 0, err
	}
	d := decoder{buf: value}
	n := d.int()
	return n, d.end()
}

// SetCheckpoints writes marks, all or none, and returns when they are on disk. An error means as little as that of [Ledger.Append].
func (l *Ledger) SetCheckpoints(ctx context.Context, marks map[string]int64) error {
	values := maps.Clone(marks) // the job may be under way when ctx has ended
	return l.do(ctx, func(b *posting) (func() error, error) {
		return func() error { return putCheckpoints(b.tx, values) }, nil
	})
}

// putCheckpoints writes checkpoints in the order of their names.
func putCheckpoints(tx *store.Tx, values map[string]int64) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := putMark(tx, name, values[name]); err != nil {
			return err
		}
	}
	return nil
}

func putMark(tx *store.Tx, name string, n int64) error {
	var e encoder
	e.int(n)
	return tx.Put(bucketMeta, []byte(markPrefix+name), e.buf)
}

// Account is a connected account, or one of an organisation.
type Account struct {
	ID      string
	Context string // the path that Stripe-Context takes; empty for a connected account
}

// newAccount returns the key under which the account of an event becomes known, or gets the context
// that it lacked; nil if nothing changes. Damage here is found by Check: an event must not fail for
// it.
func (b *posting) newAccount(account, context string) (key []byte) {
	if account == "" {
		return nil
	}
	key = []byte(accountPrefix + account)
	if !b.tx.Has(bucketMeta, key) {
		return key
	}
	known, err := b.tx.Get(bucketMeta, key)
	if context == "" || err != nil || string(known) == context {
		return nil
	}
	return key
}

// Accounts lists the accounts that events came from, by id; not those that have only events of the
// other mode.
func (l *Ledger) Accounts() (list []Account, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		for e := range tx.Prefix(bucketMeta, []byte(accountPrefix)) {
			context, err := e.Value()
			if err != nil {
				return err
			}
			list = append(list, Account{strings.TrimPrefix(string(e.Key), accountPrefix), string(context)})
		}
		return nil
	})
	return list, err
}

// IDStatus is what the ledger knows of an event's id.
type IDStatus string

// What the ledger knows of an id.
const (
	IDUnknown     IDStatus = ""            // it never came
	IDQuarantined IDStatus = "quarantined" // it lies in quarantine: in a form that can be used it is booked
	IDKnown       IDStatus = "known"
)

// Lookup tells what the ledger knows of each id, without counting them as repeats.
func (l *Ledger) Lookup(ids []string) ([]IDStatus, error) {
	list := make([]IDStatus, 0, len(ids))
	for part := range slices.Chunk(ids, scanSlice) {
		err := l.store.View(func(tx *store.Tx) error {
			for _, id := range part {
				seq, found, err := lookupID(tx, l.livemode, id)
				if err != nil {
					return err
				}
				if !found {
					list = append(list, IDUnknown)
					continue
				}
				r, err := readRow(tx, seq)
				if err != nil {
					return err
				}
				if r.outcome == Quarantined {
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
