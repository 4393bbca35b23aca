// Package check verifies a ledger: everything that is stored more than once, or that follows from
// something else, is compared with what it follows from.
//
// Rows and bodies are the source. Index entries, payments, lists, links, totals and counts are
// derived from them, so check derives them again with the same fold and compares. It repairs
// nothing: package rebuild writes a ledger anew from its rows.
package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
	"tillhook/ledger/wording"
)

// maxFaults is the number of faults after which a check stops.
const maxFaults = 50

// Report is the result of a check. Each figure counts items that were checked.
type Report struct {
	Object string `json:"object"`
	Sound  bool   `json:"sound"`
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	Schema uint64 `json:"schema"`
	// Older means that only the pages were checked, because the file has an older schema.
	Older     bool   `json:"older,omitempty"`
	Bytes     int64  `json:"bytes"` // size of the file
	Used      int64  `json:"used"`  // bytes of the file in pages
	Pages     int64  `json:"pages"` // each is free or in use exactly once
	FreePages int64  `json:"free_pages"`
	Values    uint64 `json:"values"` // values with a correct checksum
	// Events counts the rows. Their sequences have no gaps, and no two rows have the same event id,
	// except the two rows of an event that left quarantine.
	Events      uint64 `json:"events"`
	Bodies      uint64 `json:"bodies"`      // bodies that decompress to their original size
	Quarantined uint64 `json:"quarantined"` // events in quarantine, with their bodies
	// Released counts the events that left quarantine. Their old and new rows refer to each other.
	Released uint64   `json:"released"`
	Payments uint64   `json:"payments"` // payments equal to a refold of their events
	Links    uint64   `json:"links"`    // links from other ids to a payment
	Totals   uint64   `json:"totals"`   // totals equal to the sums over the payments
	Faults   []string `json:"faults"`
}

// Verify checks a file that no process writes to: a copy, or the ledger of a receiver that is not
// running. It returns [store.ErrLocked] if a receiver holds the file. If there are faults, it
// returns them as an error together with the report. It checks all pages before bbolt reads one,
// because bbolt follows references between pages without checking them.
func Verify(ctx context.Context, path string) (*Report, error) {
	if err := store.MustExist(path, "there is no file"); err != nil {
		return nil, err
	}
	free, err := store.VerifyPages(ctx, path)
	if errors.Is(err, store.ErrLocked) || errors.Is(err, store.ErrMissing) {
		return nil, err
	} else if err != nil {
		return badFileReport(path, err)
	}
	s, err := store.Open(path, store.Options{Layout: schema.Layout, ReadOnly: true, Check: func(tx *store.Tx) error {
		_, err := schema.ReadMeta(tx)
		if err == nil {
			_, err = schema.ReadCounts(tx)
		}
		return err
	}})
	switch {
	case errors.Is(err, schema.ErrOlder):
		p, err := badFileReport(path, fmt.Errorf("%w: %s has an older schema. Its pages are sound; the rest can be checked only after a rebuild: put it in a folder of its own as ledger.db, set TILLHOOK_DATA_DIR to that folder, and run tillhook rebuild", store.ErrFormat, path))
		p.Older = true
		return p, err
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrFormat):
		return badFileReport(path, err)
	case err != nil:
		return nil, err
	}
	report, err := verify(ctx, s)
	report.FreePages = free
	return report, errors.Join(err, s.Close())
}

// badFileReport returns the report on a file that cannot be opened as a ledger.
func badFileReport(path string, err error) (*Report, error) {
	p := &Report{Object: "proof", Path: path, Faults: strings.Split(err.Error(), "\n")}
	if info, statErr := os.Stat(path); statErr == nil {
		p.Bytes = info.Size()
	}
	return p, err
}

// Run verifies a whole open ledger: its pages and every checksum; that sequences have no gaps, that
// every index entry has its row and every row its entries, that the counts and totals equal a
// recount, and that each payment equals a refold of the facts of its events. It reads the whole
// file. It returns the faults that it found, joined, or nil, and stops after maxFaults.
func Run(ctx context.Context, s *store.Store) error {
	err := s.View(func(tx *store.Tx) error {
		_, err := tx.VerifyPages(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	_, err = verify(ctx, s)
	return err
}

// verify checks everything but the pages.
func verify(ctx context.Context, s *store.Store) (*Report, error) {
	c := &checker{ctx: ctx, totals: map[string]schema.Amounts{}}
	report := &Report{Object: "proof", Path: s.Path(), Schema: schema.Version, Faults: []string{}}
	err := s.View(func(tx *store.Tx) (err error) {
		if c.livemode, err = schema.ReadMode(tx); err != nil {
			return err
		}
		if c.codec, err = schema.NewBodyCodec(); err != nil {
			return err
		}
		c.tx, report.Mode = tx, schema.ModeName(c.livemode)
		if sizes, err := s.Sizes(tx); err == nil {
			report.Bytes, report.Used, report.Pages = sizes.Bytes, sizes.Used, sizes.Pages
		}
		for _, step := range []func() error{c.id, c.events, c.ids, c.quarantine, c.meta, c.bodies, c.payments, c.sumsOfDays, c.sums} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errTooMany) {
		c.faults = append(c.faults, err)
	}
	report.Values, report.Events, report.Bodies, report.Quarantined = c.values, c.rows, c.kept, c.held
	report.Released = c.recount.Released
	report.Payments, report.Links, report.Totals = c.folded, c.links, c.lines
	for _, fault := range c.faults {
		report.Faults = append(report.Faults, fault.Error())
	}
	report.Sound = len(c.faults) == 0
	return report, errors.Join(c.faults...)
}

var errTooMany = errors.New("too many faults")

// checker walks through one transaction and collects the data for comparing buckets with each
// other.
type checker struct {
	ctx      context.Context
	tx       *store.Tx
	livemode bool // of the ledger
	codec    *schema.BodyCodec
	faults   []error
	values   uint64 // values with a correct checksum
	rows     uint64
	kept     uint64 // bodies, without references to other rows
	held     uint64 // rows in quarantine
	awaits   uint64 // of these, thin events that wait for their snapshot event
	ofPay    uint64 // rows about a payment
	recount  schema.Counts

	// Payments, the rows in them, the links that follow from these rows, and daily totals.
	folded, absorbed, links, lines uint64
	// What follows from the payments: seconds in the index of entries, and list elements that are
	// stored separately.
	seconds, listed uint64
	totals          map[string]schema.Amounts // recounted, by key
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// walk verifies the checksum of every entry of a bucket and calls visit for it. Errors of single
// entries become faults and do not end the walk.
func (c *checker) walk(bucket store.Bucket, visit func(key, value []byte) error) error {
	for e := range c.tx.Ascend(bucket, nil) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if len(c.faults) >= maxFaults {
			return errTooMany
		}
		value, err := e.Value()
		if err == nil {
			c.values++
			err = visit(e.Key, value)
		}
		if err != nil {
			c.faults = append(c.faults, err)
		}
	}
	return nil
}

// has reports whether a bucket holds a valid entry for a key.
func (c *checker) has(bucket store.Bucket, key []byte) bool {
	value, err := c.tx.Get(bucket, key)
	return err == nil && value != nil
}

func (c *checker) id() error {
	if id, err := c.tx.Get(schema.BucketMeta, schema.MetaID); err != nil || len(id) != len(schema.NoID) {
		c.fault("the id of the ledger: %w", cmp.Or(err, store.ErrCorrupt))
	}
	return nil
}

func (c *checker) events() error {
	return c.walk(schema.BucketEvents, func(key, value []byte) error {
		c.rows++
		seq := schema.SeqOf(key)
		if seq != c.rows {
			c.fault("event row %d follows row %d", seq, c.rows-1)
			c.rows = seq
		}
		r, err := schema.DecodeRow(value)
		if err != nil {
			return fmt.Errorf("event row %d: %w", seq, err)
		}
		at, _, err := schema.LookupID(c.tx, r.Livemode, r.ID)
		if err != nil {
			c.fault("event row %d (%.80s): %w", seq, r.ID, err)
			at = seq
		}
		if r.Livemode != c.livemode && r.Outcome != schema.Quarantined {
			c.fault("event row %d (%.80s): it is of %s mode and not in quarantine", seq, r.ID, schema.ModeName(r.Livemode))
		}
		if (r.Outcome == schema.Quarantined) != (r.Reason != "") {
			c.fault("event row %d (%.80s): outcome %s and reason %q disagree", seq, r.ID, r.Outcome, r.Reason)
		}
		if r.Outcome == schema.Quarantined && at != seq {
			c.recount.Released++
			c.released(seq, r, at)
			return nil
		}
		c.recount.AddEvent(r, +1)
		if at != seq {
			c.fault("event row %d (%.80s): the id index points to row %d", seq, r.ID, at)
		}
		if err := c.ofQuarantine(seq, r); err != nil {
			return err
		}
		id, err := schema.PaymentOf(c.tx, &r.Facts)
		if err != nil {
			return fmt.Errorf("event row %d (%.80s): %w", seq, r.ID, err)
		}
		if (id != "") != (r.Outcome == schema.Applied || r.Outcome == schema.Unchanged) {
			c.fault("event row %d (%.80s): outcome %s with payment %q", seq, r.ID, r.Outcome, id)
		}
		if id == "" {
			return nil
		}
		c.ofPay++
		listed, err := schema.ListsRow(c.tx, id, seq)
		if err != nil {
			return fmt.Errorf("event row %d (%.80s): %w", seq, r.ID, err)
		}
		if !listed {
			c.fault("event row %d (%.80s): payment %.80s does not list it", seq, r.ID, id)
		}
		r.Facts.EachOtherID(func(other string, charge bool) {
			if links, err := schema.ReadLinks(c.tx, other); err != nil || !slices.Contains(links, schema.LinkOf(&r.Facts, charge)) {
				c.fault("event row %d (%.80s): %s does not find its payment %.80s", seq, r.ID, other, id)
			}
		})
		return nil
	})
}

// released compares the old row of an event that left quarantine with the row in which the event
// was then posted.
func (c *checker) released(seq uint64, r *schema.Row, as uint64) {
	if c.tx.Has(schema.BucketQuarantine, schema.SeqKey(seq)) {
		c.fault("event row %d (%.80s): it is in quarantine and was posted as row %d", seq, r.ID, as)
	}
	later, err := schema.ReadRow(c.tx, as)
	switch {
	case err != nil:
		c.fault("event row %d (%.80s): it was posted as row %d: %w", seq, r.ID, as, err)
	case as < seq || later.Released != seq || later.ID != r.ID || later.Livemode != r.Livemode || later.Outcome == schema.Quarantined:
		c.fault("event row %d (%.80s): it left quarantine, and row %d is not the one in which it was posted", seq, r.ID, as)
	}
}

// ofQuarantine compares a row with its entry in quarantine and, if its event was in quarantine
// before, with the old row.
func (c *checker) ofQuarantine(seq uint64, r *schema.Row) error {
	h, err := schema.ReadQuarantineEntry(c.tx, seq)
	if err != nil {
		return err
	}
	if (r.Outcome == schema.Quarantined) != (h != nil) {
		c.fault("event row %d (%.80s): outcome %s and the quarantine disagree", seq, r.ID, r.Outcome)
		return nil
	}
	if h != nil {
		c.held++
		c.recount.AddQuarantined(r.Reason, h.State, +1)
		if !c.has(schema.BucketBodies, schema.SeqKey(seq)) {
			c.fault("event row %d (%.80s): its body is gone although it is in quarantine", seq, r.ID)
		}
		if h.Awaits != "" {
			c.awaits++
			if !c.has(schema.BucketMeta, schema.AwaitsKey(r.Livemode, h.Awaits, seq)) {
				c.fault("event row %d (%.80s): it waits for the event %.80s, and would not be found when that comes", seq, r.ID, h.Awaits)
			}
			if at, found, err := schema.LookupID(c.tx, r.Livemode, h.Awaits); found || err != nil {
				c.fault("event row %d (%.80s): it waits for the event %.80s, which is in row %d", seq, r.ID, h.Awaits, at)
			}
		}
	}
	if r.Released == 0 {
		return nil
	}
	old, err := schema.ReadRow(c.tx, r.Released)
	switch {
	case err != nil:
		return fmt.Errorf("event row %d (%.80s): %w", seq, r.ID, err)
	case r.Released >= seq || old.Outcome != schema.Quarantined || old.ID != r.ID || old.Livemode != r.Livemode:
		c.fault("event row %d (%.80s): row %d is not the one in which it was in quarantine", seq, r.ID, r.Released)
	case c.has(schema.BucketBodies, schema.SeqKey(seq)) != c.has(schema.BucketBodies, schema.SeqKey(r.Released)):
		c.fault("event row %d (%.80s): of its body and that of row %d, in which it was in quarantine, one is gone", seq, r.ID, r.Released)
	}
	return nil
}

// meta checks the bucket meta, including that it has one key of the kind schema.AwaitsKey for each
// thin event in quarantine that waits for its snapshot event.
func (c *checker) meta() error {
	var awaits uint64
	err := c.walk(schema.BucketMeta, func(key, value []byte) error {
		switch {
		case bytes.HasPrefix(key, []byte(schema.AwaitsPrefix)):
			awaits++
		case bytes.HasPrefix(key, []byte(schema.CheckpointPrefix)):
			_, err := schema.DecodeCheckpoint(value)
			return err
		}
		return nil
	})
	if awaits != c.awaits {
		c.fault("%s by which thin events in quarantine are found, for %d that %s", wording.Plural(awaits, "entry"), c.awaits, wording.Verb(c.awaits, "waits", "wait"))
	}
	return err
}

func (c *checker) ids() error {
	var n uint64
	err := c.walk(schema.BucketIDs, func(key, value []byte) error {
		n++
		if seq, err := schema.DecodeSeq(value); err != nil || !c.has(schema.BucketEvents, schema.SeqKey(seq)) {
			c.fault("the event id %.80s points to row %d, which is missing", key, seq)
		}
		return nil
	})
	if n+c.recount.Released != c.rows {
		c.fault("%s for %s, of which %d left quarantine", wording.Plural(n, "event id"), wording.Plural(c.rows, "row"), c.recount.Released)
	}
	return err
}

func (c *checker) quarantine() error {
	var n uint64
	err := c.walk(schema.BucketQuarantine, func(_, _ []byte) error { n++; return nil })
	if n != c.held {
		c.fault("%s in quarantine for %s", wording.Plural(n, "entry"), wording.Plural(c.held, "row"))
	}
	return err
}

func (c *checker) bodies() error {
	return c.walk(schema.BucketBodies, func(key, value []byte) error {
		r, err := schema.ReadRow(c.tx, schema.SeqOf(key))
		if err != nil {
			return fmt.Errorf("body: %w", err)
		}
		if other := schema.RowOfBody(value); other != 0 {
			if other != r.Released {
				c.fault("body of event row %d: it refers to row %d, the row to row %d", schema.SeqOf(key), other, r.Released)
				return nil
			}
			if value, err = c.tx.Get(schema.BucketBodies, schema.SeqKey(other)); err != nil || value == nil {
				c.fault("body of event row %d: that of row %d, to which it refers, is missing or damaged", schema.SeqOf(key), other)
				return nil
			}
		} else {
			c.kept++
		}
		raw, err := c.codec.Decode(value)
		if err != nil {
			return fmt.Errorf("body of event row %d: %w", schema.SeqOf(key), err)
		}
		if uint64(len(raw)) != r.Size {
			c.fault("body of event row %d has %d bytes, the row says %d", schema.SeqOf(key), len(raw), r.Size)
		}
		return nil
	})
}

func (c *checker) payments() error {
	err := c.walk(schema.BucketPayments, func(key, value []byte) error {
		c.folded++
		if err := c.payment(string(key), value); err != nil {
			return fmt.Errorf("payment %.80s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.absorbed != c.ofPay {
		c.fault("%s about payments, %d of them listed by one", wording.Plural(c.ofPay, "event"), c.absorbed)
	}
	one := func(_, _ []byte) (int, error) { return 1, nil }
	for _, index := range []struct {
		bucket store.Bucket
		want   uint64
		what   string
		count  func(key, value []byte) (int, error)
	}{
		{schema.BucketPaymentsTime, c.folded, "payments in the list by time", one},
		{schema.BucketEntries, c.seconds, "seconds in the index of entries", one},
		{schema.BucketLists, c.listed, "elements in the lists of payments", one},
		{schema.BucketLinks, c.links, "links from ids to payments", func(key, value []byte) (int, error) {
			links, err := schema.DecodeLinks(string(key), value)
			return len(links), err
		}},
	} {
		var n uint64
		err := c.walk(index.bucket, func(key, value []byte) error {
			more, err := index.count(key, value)
			n += uint64(more)
			return err
		})
		if err != nil {
			return err
		}
		if n != index.want {
			c.fault("%d %s, %d follow from the events", n, index.what, index.want)
		}
	}
	return nil
}

// payment compares the stored state of a payment with a refold of its events.
func (c *checker) payment(id string, value []byte) error {
	s, err := schema.DecodeState(c.tx, id, value)
	if err != nil {
		return err
	}
	rows, err := schema.ReadRows(c.tx, s.Rows)
	if err != nil {
		return err
	}
	type found struct {
		id string
		schema.Link
	}
	links := map[found]bool{}
	for _, r := range rows {
		if present, err := schema.PaymentOf(c.tx, &r.Facts); err != nil || present != id {
			c.fault("payment %.80s lists event %s, which is about %q", id, r.ID, present)
		}
		r.Facts.EachOtherID(func(other string, charge bool) { links[found{other, schema.LinkOf(&r.Facts, charge)}] = true })
	}
	c.links += uint64(len(links))
	c.absorbed += uint64(len(rows))
	again := schema.FoldRows(id, c.livemode, rows)
	again.Rows = s.Rows
	if !slices.IsSorted(s.Rows) || !bytes.Equal(again.Encode(), value) {
		c.fault("payment %.80s differs from a fresh fold of its events", id)
	}
	again.EachListed(func(key, value []byte) {
		c.listed++
		if have, err := c.tx.Get(schema.BucketLists, key); err != nil || !bytes.Equal(have, value) {
			c.fault("payment %.80s: its lists differ from a fresh fold of its events at %.80q", id, key)
		}
	})
	if !c.has(schema.BucketPaymentsTime, schema.TimeKey(s.Created(), id)) {
		c.fault("payment %.80s is missing in the list by time", id)
	}
	c.index(id, s.MoneyByTime())
	c.recount.AddPayment(s, +1)
	for i := range s.Entries {
		for _, key := range s.TotalKeys(&s.Entries[i]) {
			c.totals[key] = c.totals[key].Plus(schema.AmountsOf(&s.Entries[i]))
		}
	}
	return nil
}

// index compares the index of entries with the values that follow from a payment.
func (c *checker) index(id string, want map[int64][]byte) {
	for second, value := range want {
		c.seconds++
		if have, err := c.tx.Get(schema.BucketEntries, schema.TimeKey(second, id)); err != nil || !bytes.Equal(have, value) {
			c.fault("payment %.80s: the index of entries at %d differs from its entries", id, second)
		}
	}
}

// totalName describes a total for a fault.
func totalName(key []byte) string {
	day, currency, account, err := schema.ReadTotalKey(key)
	if err != nil {
		return fmt.Sprintf("%.80q", key)
	}
	if day == schema.AllDays {
		return fmt.Sprintf("all days %.20q %.80q", currency, account)
	}
	return fmt.Sprintf("%s %.20q %.80q", time.Unix(day*schema.SecondsADay, 0).UTC().Format(time.DateOnly), currency, account)
}

// sumsOfDays compares the stored totals with the sums over all payments.
func (c *checker) sumsOfDays() error {
	maps.DeleteFunc(c.totals, func(_ string, a schema.Amounts) bool { return a == schema.Amounts{} })
	err := c.walk(schema.BucketTotals, func(key, value []byte) error {
		if !schema.IsAllDays(key) {
			c.lines++
		}
		a, err := schema.DecodeAmounts(value)
		if err != nil {
			return err
		}
		if want := c.totals[string(key)]; a != want {
			c.fault("the total of %s is %+v, the payments come to %+v", totalName(key), a, want)
		}
		delete(c.totals, string(key))
		return nil
	})
	for key := range c.totals {
		c.fault("no total is kept of %s", totalName([]byte(key)))
	}
	return err
}

func (c *checker) sums() error {
	kept, err := schema.ReadCounts(c.tx)
	if err != nil {
		return err
	}
	c.recount.Expired = kept.Expired // a position, which a recount cannot yield
	if *kept != c.recount {
		c.fault("the counts %+v differ from a recount %+v", *kept, c.recount)
	}
	return nil
}
