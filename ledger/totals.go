package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Total is the money that moved on one day, or on all days, in one currency and one account.
// Amounts are in the currency's minor unit.
type Total struct {
	Day        OrNull `json:"day"` // 2026-11-23; null for the sum over all days
	Currency   OrNull `json:"currency"`
	Account    OrNull `json:"account"`
	Received   Sum    `json:"received"`
	Refunded   Sum    `json:"refunded"`
	Withdrawn  Sum    `json:"withdrawn"`
	Reinstated Sum    `json:"reinstated"`
	Net        Sum    `json:"net"`
}

// TotalsQuery selects totals.
type TotalsQuery struct {
	// From and To, in Unix seconds, select the days from the one that contains From up to the last
	// one that begins before To. A nil bound is no limit. If both are nil, each total is the sum
	// over all days.
	From, To *int64
	Zone     *time.Location // the zone of the days; nil for UTC
	Page     string         // the Next of the previous page
	Limit    int
}

// MaxDays is the maximum number of days of a time zone other than UTC that one request may sum.
const MaxDays = 400

// ErrTooManyDays is returned if more than [MaxDays] days were requested.
var ErrTooManyDays = errors.New("too many days")

// errEnough ends a walk early.
var errEnough = errors.New("enough was read")

// Totals returns totals by day, oldest first, then by currency and account. The totals of UTC days
// are stored. Those of another zone are summed from every entry of the days; Totals returns
// [ErrTooManyDays] for more than [MaxDays] of them.
func (l *Ledger) Totals(ctx context.Context, q TotalsQuery) (page Page[Total], err error) {
	all := q.From == nil && q.To == nil
	var after []byte
	if q.Page != "" {
		if after, err = decodeCursor(totalCursor, q.Page); err != nil {
			return page, err
		}
		day, _, _, err := schema.ReadTotalKey(after)
		if err != nil || all != (day == schema.AllDays) || !all && max(day, -day) > schema.MaxDay {
			return page, fmt.Errorf("%w: page %.80q is not the next_page of these totals", ErrCursor, q.Page)
		}
	}
	page.Data = []Total{}
	switch {
	case all:
		return l.keptTotals(ctx, schema.AllDaysKey("", ""), schema.FirstDay, after, q.Limit)
	case q.Zone != nil && q.Zone != time.UTC:
		return l.totalsIn(ctx, q, after)
	}
	first, end := schema.FirstDay, []byte(nil)
	if q.From != nil {
		first = schema.DayKey(*q.From)
	}
	if q.To != nil && *q.To <= math.MaxInt64-schema.SecondsADay {
		end = schema.DayKey(*q.To + schema.SecondsADay - 1)
	}
	return l.keptTotals(ctx, first, end, after, q.Limit)
}

// keptTotals returns the stored totals with keys from first up to, but not including, end that are
// greater than the key after.
func (l *Ledger) keptTotals(ctx context.Context, first, end, after []byte, limit int) (page Page[Total], err error) {
	if after != nil && bytes.Compare(after, first) >= 0 {
		first = append(after, 0) // the least possible key after it
	}
	page.Data = []Total{}
	var last []byte
	err = l.reads.Walk(ctx, schema.BucketTotals, first, end, func(_ *store.Tx, key, value []byte) error {
		if len(page.Data) == limit {
			page.Next = encodeCursor(totalCursor, last)
			return errEnough
		}
		t, err := readTotal(key, value)
		page.Data, last = append(page.Data, t), bytes.Clone(key)
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return Page[Total]{}, err
	}
	return page, nil
}

// totalsIn sums the days of a zone, starting after the total whose key is after. It reads no more
// days than the page needs.
func (l *Ledger) totalsIn(ctx context.Context, q TotalsQuery, after []byte) (page Page[Total], err error) {
	page.Data = []Total{}
	from, to, err := l.daysOf(q)
	if err != nil || from >= to {
		return page, err
	}
	if after != nil {
		day, _, _, err := schema.ReadTotalKey(after)
		if err != nil {
			return page, err
		}
		from = max(from, dayBegins(time.Unix(day*schema.SecondsADay, 0).UTC(), q.Zone))
	}
	type line struct{ currency, account string }
	sums := map[line]schema.Amounts{}
	day, next := int64(0), from // the day being summed, counted from 1970-01-01, and when it ends
	var last []byte
	endDay := func() error {
		for _, key := range slices.SortedFunc(maps.Keys(sums), func(a, b line) int {
			return cmp.Or(cmp.Compare(a.currency, b.currency), cmp.Compare(a.account, b.account))
		}) {
			stored := schema.TotalKey(day*schema.SecondsADay, key.currency, key.account)
			if sums[key] == (schema.Amounts{}) || after != nil && bytes.Compare(stored, after) <= 0 { // as in keptTotals
				continue
			}
			if len(page.Data) == q.Limit {
				page.Next = encodeCursor(totalCursor, last)
				return errEnough
			}
			page.Data, last = append(page.Data, newTotal(sums[key], day, key.currency, key.account)), stored
		}
		clear(sums)
		return nil
	}
	err = l.reads.WalkEntries(ctx, &from, &to, func(_ *store.Tx, at int64, _ string, value []byte) error {
		if at >= next {
			if err := endDay(); err != nil {
				return err
			}
			day = dayNumber(at, q.Zone)
			_, next = DayOf(at, q.Zone)
		}
		account, list, err := schema.DecodeMoved(value)
		for _, m := range list {
			key := line{m.Currency, account}
			sums[key] = sums[key].Plus(m.Amounts)
		}
		return err
	})
	if err == nil {
		err = endDay()
	}
	if err != nil && !errors.Is(err, errEnough) {
		return Page[Total]{}, err
	}
	return page, nil
}

// daysOf returns the first second of the first requested day, and the first second of the day after
// the last one.
func (l *Ledger) daysOf(q TotalsQuery) (from, to int64, err error) {
	first, last, err := l.entryTimes(q.From, q.To)
	bounded := q.From != nil && q.To != nil
	if err != nil || first > last && !bounded || bounded && *q.From >= *q.To {
		return 0, 0, err
	}
	if q.From != nil {
		first = *q.From
	}
	if q.To != nil {
		last = *q.To - 1
	}
	from, _ = DayOf(first, q.Zone)
	_, to = DayOf(last, q.Zone)
	if last-first > MaxDays*schema.SecondsADay+schema.SecondsADay || to-from > MaxDays*schema.SecondsADay+schema.SecondsADay/2 || last-first < 0 {
		return 0, 0, fmt.Errorf("%w: in another time zone than UTC at most %d are summed at once; "+
			"set from and to so that there are no more between them", ErrTooManyDays, MaxDays)
	}
	return from, to, nil
}

// dayNumber returns the number of the calendar day that contains a time, counted from 1970-01-01.
func dayNumber(at int64, zone *time.Location) int64 {
	year, month, date := time.Unix(at, 0).In(zone).Date()
	return time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Unix() / schema.SecondsADay
}

// entryTimes returns the first and the last time at which money moved within the bounds. first is
// greater than last if no money moved.
func (l *Ledger) entryTimes(from, to *int64) (first, last int64, err error) {
	var low, high []byte
	if from != nil {
		low = schema.TimeKey(*from, "")
	}
	if to != nil {
		high = schema.TimeKey(*to, "")
	}
	first, last = 1, 0
	err = l.store.View(func(tx *store.Tx) error {
		for e := range tx.Ascend(schema.BucketEntries, low) {
			if high != nil && bytes.Compare(e.Key, high) >= 0 {
				return nil
			}
			first, _, err = schema.ReadTimeKey(e.Key)
			break
		}
		for e := range tx.Descend(schema.BucketEntries, high) {
			if err == nil && bytes.Compare(e.Key, low) >= 0 {
				last, _, err = schema.ReadTimeKey(e.Key)
			}
			break
		}
		return err
	})
	return first, last, err
}

// newTotal returns the amounts as the Total of a day. The Total of schema.AllDays has no day.
func newTotal(a schema.Amounts, day int64, currency, account string) Total {
	t := Total{
		Currency: OrNull(currency), Account: OrNull(account),
		Received: a.Received, Refunded: a.Refunded, Withdrawn: a.Withdrawn, Reinstated: a.Reinstated, Net: a.Net(),
	}
	if day != schema.AllDays {
		t.Day = OrNull(time.Unix(day*schema.SecondsADay, 0).UTC().Format(time.DateOnly))
	}
	return t
}

func readTotal(key, value []byte) (Total, error) {
	a, err := schema.DecodeAmounts(value)
	if err != nil {
		return Total{}, err
	}
	day, currency, account, err := schema.ReadTotalKey(key)
	if err != nil {
		return Total{}, err
	}
	return newTotal(a, day, currency, account), nil
}
