package posting

import (
	"bytes"
	"fmt"
	"maps"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// newTotals returns the new values of the totals that the changes affect. It writes nothing.
func (b *Batch) newTotals(changes []*change) (map[string]schema.Amounts, error) {
	var moved map[string]schema.Amounts
	for _, c := range changes {
		before, after := c.entriesChanged() // most events change none
		if moved == nil && len(before)+len(after) > 0 {
			moved = map[string]schema.Amounts{}
		}
		for i := range before {
			for _, key := range c.before.TotalKeys(&before[i]) {
				moved[key] = moved[key].Minus(schema.AmountsOf(&before[i]))
			}
		}
		for i := range after {
			for _, key := range c.after.TotalKeys(&after[i]) {
				moved[key] = moved[key].Plus(schema.AmountsOf(&after[i]))
			}
		}
	}
	if moved == nil {
		return nil, nil
	}
	totals := map[string]schema.Amounts{}
	for key, by := range moved {
		if by == (schema.Amounts{}) {
			continue
		}
		total, err := b.total(key)
		if err != nil {
			return nil, err
		}
		totals[key] = total.Plus(by)
	}
	return totals, nil
}

// total returns the value of a total at this point of the transaction.
func (b *Batch) total(key string) (total schema.Amounts, err error) {
	if total, ok := b.totals[key]; ok {
		return total, nil
	}
	value, err := b.Tx.Get(schema.BucketTotals, []byte(key))
	if value != nil {
		if total, err = schema.DecodeAmounts(value); err != nil {
			err = fmt.Errorf("the total under %.80q: %w", key, err)
		}
	}
	if err != nil && schema.IsAllDays([]byte(key)) {
		// The total over all days is damaged. It is computed again, because otherwise every later
		// event of the currency would fail.
		return sumOfDays(b.Tx, []byte(key))
	}
	return total, err
}

// sumOfDays computes a total over all days from the totals of the days. It does not need the totals
// that the transaction has not written yet: if they changed the sum, the total over all days would
// be among them, and sumOfDays would not be called.
func sumOfDays(tx *store.Tx, allDays []byte) (sum schema.Amounts, err error) {
	for e := range tx.Ascend(schema.BucketTotals, schema.FirstDay) {
		if len(e.Key) < 8 || !bytes.Equal(e.Key[8:], allDays[8:]) {
			continue
		}
		value, err := e.Value()
		if err != nil {
			return sum, err
		}
		day, err := schema.DecodeAmounts(value)
		if err != nil {
			return sum, err
		}
		sum = sum.Plus(day)
	}
	return sum, nil
}

// keepTotals keeps the result of newTotals until writeTotals writes it: many events of a
// transaction change the same totals, which are written once.
func (b *Batch) keepTotals(totals map[string]schema.Amounts) {
	if b.totals == nil && len(totals) > 0 {
		b.totals = map[string]schema.Amounts{}
	}
	maps.Copy(b.totals, totals)
}

// writeTotals writes the totals that the transaction changed.
func (b *Batch) writeTotals() error {
	for key, total := range b.totals {
		var err error
		if total == (schema.Amounts{}) {
			err = b.Tx.Delete(schema.BucketTotals, []byte(key))
		} else {
			err = b.Tx.Put(schema.BucketTotals, []byte(key), total.Encode())
		}
		if err != nil {
			return err
		}
	}
	b.totals = nil
	return nil
}

// writeSums writes what all events of the transaction add up to, once for all of them.
func (b *Batch) writeSums() error {
	if err := b.writeTotals(); err != nil {
		return err
	}
	return b.Tx.Put(schema.BucketMeta, schema.MetaCounts, b.Counts.Encode())
}
