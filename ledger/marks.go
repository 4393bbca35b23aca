package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	err = l.view(func(tx *txn) (err error) {
		n, err = readMark(tx, name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("the mark %s: %w", name, err)
	}
	return n, nil
}

func readMark(tx *txn, name string) (int64, error) {
	value, err := get(tx, bucketMeta, []byte(markPrefix+name))
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
	return l.do(ctx, func(b *booking) error {
		b.writing = true
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if err := putMark(b.tx, name, values[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

func putMark(tx *txn, name string, n int64) error {
	var e encoder
	e.int(n)
	return put(tx, bucketMeta, []byte(markPrefix+name), e.buf)
}

// Account is a connected account, or one of an organisation.
type Account struct {
	ID      string
	Context string // the path that Stripe-Context takes; empty for a connected account
}

// addAccount remembers the account that an event came from.
func (b *booking) addAccount(account, context string) error {
	if account == "" {
		return nil
	}
	key := []byte(accountPrefix + account)
	if b.tx.stored(bucketMeta, key) == nil {
		return put(b.tx, bucketMeta, key, []byte(context))
	}
	if context == "" {
		return nil
	}
	known, err := get(b.tx, bucketMeta, key)
	if errors.Is(err, ErrCorrupt) {
		return nil // the check names it; an event must not fail for it
	}
	if err != nil || string(known) == context {
		return err
	}
	return put(b.tx, bucketMeta, key, []byte(context))
}

// Accounts lists the accounts that events came from, by id; not those that have only events of the
// other mode.
func (l *Ledger) Accounts() (list []Account, err error) {
	err = l.view(func(tx *txn) error {
		c := tx.Bucket(bucketMeta).Cursor()
		for key, stored := c.Seek([]byte(accountPrefix)); bytes.HasPrefix(key, []byte(accountPrefix)); key, stored = c.Next() {
			context, err := unseal(bucketMeta, key, stored)
			if err != nil {
				return err
			}
			list = append(list, Account{strings.TrimPrefix(string(key), accountPrefix), string(context)})
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
		err := l.view(func(tx *txn) error {
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
