package ledger

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A mark is a number that whoever brings events keeps here under a name, as how far it has come. A rebuilt ledger has none:
// what was done up to it is then done once more. Accounts are kept beside the marks.
const (
	markPrefix    = "mark/"
	accountPrefix = "account/"
)

// Mark reads a mark; 0 if there is none.
func (l *Ledger) Mark(name string) (n int64, err error) {
	err = l.view(func(tx *txn) error {
		value, err := get(tx, bucketMeta, []byte(markPrefix+name))
		if err != nil || value == nil {
			return err
		}
		d := decoder{buf: value}
		n = d.int()
		return d.end()
	})
	if err != nil {
		return 0, fmt.Errorf("the mark %s: %w", name, err)
	}
	return n, nil
}

// SetMarks writes marks, all or none, and returns when they are on disk. An error means as little as that of [Ledger.Append].
func (l *Ledger) SetMarks(ctx context.Context, marks map[string]int64) error {
	values := maps.Clone(marks) // the job may be under way when ctx has ended
	return l.do(ctx, func(b *booking) error {
		b.writing = true
		for _, name := range slices.Sorted(maps.Keys(values)) {
			var e encoder
			e.int(values[name])
			if err := put(b.tx, bucketMeta, []byte(markPrefix+name), e.buf); err != nil {
				return err
			}
		}
		return nil
	})
}

// meet remembers an account that events came from.
func (b *booking) meet(account string) error {
	key := []byte(accountPrefix + account)
	if account == "" || b.tx.stored(bucketMeta, key) != nil {
		return nil
	}
	return put(b.tx, bucketMeta, key, nil)
}

// Accounts lists the connected accounts that events came from, in order; not those that have only events of the other mode.
func (l *Ledger) Accounts() (list []string, err error) {
	err = l.view(func(tx *txn) error {
		c := tx.Bucket(bucketMeta).Cursor()
		for key, _ := c.Seek([]byte(accountPrefix)); bytes.HasPrefix(key, []byte(accountPrefix)); key, _ = c.Next() {
			list = append(list, strings.TrimPrefix(string(key), accountPrefix))
		}
		return nil
	})
	return list, err
}

// Acquaintance is what the ledger knows of an event's id.
type Acquaintance string

// What the ledger knows of an id.
const (
	Unknown Acquaintance = ""            // it never came
	Held    Acquaintance = "quarantined" // it lies in quarantine: in a form that can be used it is booked
	Known   Acquaintance = "known"
)

// Knows tells what the ledger knows of each id, without counting them as repeats.
func (l *Ledger) Knows(ids []string) ([]Acquaintance, error) {
	list := make([]Acquaintance, 0, len(ids))
	for part := range slices.Chunk(ids, scanSlice) {
		err := l.view(func(tx *txn) error {
			for _, id := range part {
				seq, found, err := lookupID(tx, l.livemode, id)
				if err != nil {
					return err
				}
				if !found {
					list = append(list, Unknown)
					continue
				}
				r, err := readRow(tx, seq)
				if err != nil {
					return err
				}
				if r.outcome == Quarantined {
					list = append(list, Held)
				} else {
					list = append(list, Known)
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
