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
	// From and To, in Unix seconds, select the money that moved at From or later and before To, as
	// an export does. A nil bound is no limit. If both are nil, each total is the sum over all
	// days.
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

// Totals returns totals by day, oldest first, then by currency and account. The totals of whole UTC
// days are stored. Those of a part of a day and of another zone are summed from every entry; Totals
// returns [ErrTooManyDays] for more than [MaxDays] days of another zone.
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
	if q.Zone != nil && q.Zone != time.UTC && !all {
		return l.totalsIn(ctx, q, after)
	}
	p := &totalsPage{limit: q.Limit, after: after, list: []Total{}}
	if all {
		err := l.keptTotals(ctx, schema.AllDaysKey("", ""), schema.FirstDay, p)
		return p.page(err)
	}
	first, end := schema.FirstDay, []byte(nil)
	if q.From != nil {
		first = schema.DayKey(*q.From)
	}
	if q.To != nil && *q.To <= math.MaxInt64-schema.SecondsADay {
		end = schema.DayKey(*q.To + schema.SecondsADay - 1)
	}
	if isPart(q.From) {
		first = schema.DayKey(*q.From + schema.SecondsADay)
		next := dayBegin(*q.From) + schema.SecondsADay
		if q.To != nil {
			next = min(next, *q.To)
		}
		err = l.partOfDay(ctx, *q.From, next, p)
	}
	lastIsPart := isPart(q.To) && (q.From == nil || *q.From <= dayBegin(*q.To)) // of another day than From
	if lastIsPart {
		end = schema.DayKey(*q.To)
	}
	if err == nil {
		err = l.keptTotals(ctx, first, end, p)
	}
	if err == nil && lastIsPart {
		err = l.partOfDay(ctx, dayBegin(*q.To), *q.To, p)
	}
	return p.page(err)
}

// totalsPage is a page of totals while it is filled.
type totalsPage struct {
	limit int
	after []byte // the key that the page begins after; nil for the first page
	list  []Total
	last  []byte // the key of the last total
	next  string // the page's Next
}

// page returns the page after it was filled, or failed to be.
func (p *totalsPage) page(err error) (Page[Total], error) {
	if err != nil && !errors.Is(err, errEnough) {
		return Page[Total]{}, err
	}
	return Page[Total]{Data: p.list, Next: p.next}, nil
}

// add adds a total, unless it is before the page. It returns errEnough once the page is full.
func (p *totalsPage) add(key, value []byte) error {
	if p.after != nil && bytes.Compare(key, p.after) <= 0 {
		return nil
	}
	if len(p.list) == p.limit {
		p.next = encodeCursor(totalCursor, p.last)
		return errEnough
	}
	t, err := readTotal(key, value)
	p.list, p.last = append(p.list, t), bytes.Clone(key)
	return err
}

// isPart reports whether a bound is within a UTC day. Outside of the days that have a number no
// money moves.
func isPart(bound *int64) bool {
	return bound != nil && *bound%schema.SecondsADay != 0 && *bound > -schema.MaxDay*schema.SecondsADay && *bound < schema.MaxDay*schema.SecondsADay
}

// dayBegin returns the first second of the UTC day that contains a time.
func dayBegin(at int64) int64 {
	if part := at % schema.SecondsADay; part < 0 {
		return at - part - schema.SecondsADay
	}
	return at - at%schema.SecondsADay
}

// partOfDay adds the totals of what moved in a part of a UTC day.
func (l *Ledger) partOfDay(ctx context.Context, begin, end int64, p *totalsPage) error {
	sums := map[string]schema.Amounts{}
	err := l.reads.WalkEntries(ctx, &begin, &end, func(_ *store.Tx, at int64, _ string, value []byte) error {
		account, list, err := schema.DecodeMoved(value)
		for _, m := range list {
			key := string(schema.TotalKey(at, m.Currency, account))
			sums[key] = sums[key].Plus(m.Amounts)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		amounts := sums[key]
		if amounts == (schema.Amounts{}) {
			continue
		}
		if err := p.add([]byte(key), amounts.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// keptTotals adds the stored totals with keys from first up to, but not including, end.
func (l *Ledger) keptTotals(ctx context.Context, first, end []byte, p *totalsPage) error {
	if p.after != nil && bytes.Compare(p.after, first) >= 0 {
		first = append(p.after, 0) // the least possible key after it
	}
	return l.reads.Walk(ctx, schema.BucketTotals, first, end, func(_ *store.Tx, key, value []byte) error { return p.add(key, value) })
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

// daysOf returns the bounds of a query in a zone. A bound that is not set is that of the first or
// the last entry.
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
	begin, _ := DayOf(first, q.Zone)
	_, end := DayOf(last, q.Zone)
	if last-first > MaxDays*schema.SecondsADay+schema.SecondsADay || end-begin > MaxDays*schema.SecondsADay+schema.SecondsADay/2 || last-first < 0 {
		return 0, 0, fmt.Errorf("%w: in another time zone than UTC at most %d are summed at once; "+
			"set from and to so that there are no more between them", ErrTooManyDays, MaxDays)
	}
	return first, max(last, last+1), nil
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
