package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"tillhook/ledger/store"
	"time"
)

// The bucket entries is an index of all money by the time at which it moved. A key is (time,
// payment), and its value is what the payment moved in that second, by currency. The totals for
// days in any time zone are computed from this index, and an export of some days reads only the
// payments that moved money on those days. The index entries of a payment are a function of the
// payment and are written in the same transaction.

// moved is what a payment moved in one second in one currency.
type moved struct {
	currency string
	amounts
}

// index returns the index values of a payment by their time.
func (s *state) index() map[int64][]byte {
	index := map[int64][]byte{}
	for i := range s.entries {
		if second := s.entries[i].At; i == 0 || second != s.entries[i-1].At {
			index[second] = s.indexAt(second)
		}
	}
	return index
}

// indexAt returns the index value for the entries of one second, or nil if the payment has no entry
// in that second. A second whose entries cancel out stays in the index, because an export contains
// those entries.
func (s *state) indexAt(second int64) []byte {
	if s == nil {
		return nil
	}
	var list []moved
	from, _ := slices.BinarySearchFunc(s.entries, second, func(e Entry, second int64) int { return cmp.Compare(e.At, second) })
	for i := from; i < len(s.entries) && s.entries[i].At == second; i++ {
		e := &s.entries[i]
		at, found := slices.BinarySearchFunc(list, e.Currency, func(m moved, currency string) int { return cmp.Compare(m.currency, currency) })
		if !found {
			list = slices.Insert(list, at, moved{currency: e.Currency})
		}
		list[at].amounts = list[at].plus(amountsOf(e))
	}
	if len(list) == 0 {
		return nil
	}
	return encodeMoved(string(s.view.Account), list)
}

// entriesChanged returns the entries of a payment before and after a change, without the unchanged
// ones at the beginning and at the end. If the account changed, it returns all entries, because the
// index values contain the account.
func (c *change) entriesChanged() (before, after []Entry) {
	if c.before != nil {
		before = c.before.entries
	}
	if c.after != nil {
		after = c.after.entries
	}
	if c.before == nil || c.after == nil || c.before.view.Account != c.after.view.Account {
		return before, after
	}
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	return before, after
}

func encodeMoved(account string, list []moved) []byte {
	var e encoder
	e.text(account)
	for i := range list {
		e.text(list[i].currency)
		for _, n := range []Sum{list[i].received, list[i].refunded, list[i].withdrawn, list[i].reinstated} {
			e.int(n.Hi)
			e.uint(n.Lo)
		}
	}
	return e.buf
}

func decodeMoved(value []byte) (account string, list []moved, err error) {
	d := decoder{buf: value}
	account = d.text()
	for d.err == nil && len(d.buf) > 0 {
		m := moved{currency: d.text()}
		for _, n := range []*Sum{&m.received, &m.refunded, &m.withdrawn, &m.reinstated} {
			n.Hi, n.Lo = d.int(), d.uint()
		}
		list = append(list, m)
	}
	if err = d.end(); err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: a second of the index of entries without money", ErrCorrupt)
	}
	return account, list, err
}

// writeIndex writes the changed index entries of a payment and deletes those that it no longer has.
func (b *posting) writeIndex(c *change) error {
	var seconds []int64
	before, after := c.entriesChanged()
	for _, list := range [][]Entry{before, after} {
		for i := range list {
			seconds = append(seconds, list[i].At)
		}
	}
	slices.Sort(seconds)
	for _, second := range slices.Compact(seconds) {
		had, has := c.before.indexAt(second), c.after.indexAt(second)
		var err error
		switch key := timeKey(second, c.id); {
		case has == nil:
			err = b.tx.Delete(bucketEntries, key)
		case !bytes.Equal(had, has):
			err = b.tx.Put(bucketEntries, key, has)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readTimeKey decodes a key made by timeKey.
func readTimeKey(key []byte) (at int64, id string, err error) {
	if len(key) < 8 {
		return 0, "", fmt.Errorf("%w: a key of %d bytes that should begin with a time", ErrCorrupt, len(key))
	}
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), string(key[8:]), nil
}

// walkIndex visits the index entries at from or later and before to, in order. A nil bound means no
// bound. It uses many short transactions, so that payments can change between them.
func (l *Ledger) walkIndex(ctx context.Context, from, to *int64, visit func(tx *store.Tx, at int64, id string, value []byte) error) error {
	next := []byte{}
	if from != nil {
		next = timeKey(*from, "")
	}
	var end []byte
	if to != nil {
		end = timeKey(*to, "")
	}
	return l.walkSlices(ctx, bucketEntries, next, end, func(tx *store.Tx, key, value []byte) error {
		at, id, err := readTimeKey(key)
		if err != nil {
			return err
		}
		return visit(tx, at, id, value)
	})
}

// rest sleeps for as long as a long read has worked since began, so that the read leaves half of a
// processor to the events of the receiver.
func (l *Ledger) rest(began time.Time) {
	if !l.readOnly {
		time.Sleep(time.Since(began))
	}
}
