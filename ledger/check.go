package ledger

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
	"tillhook/ledger/store"
	"time"
)

// maxFaults ends a check: a file with so many is not read for more.
const maxFaults = 50

// Report tells what was found to be so in a ledger, each figure a count of what was looked at.
type Report struct {
	Object      string   `json:"object"`
	Sound       bool     `json:"sound"`
	Path        string   `json:"path"`
	Mode        string   `json:"mode"`
	Schema      uint64   `json:"schema"`
	Older       bool     `json:"older,omitempty"` // only the pages were looked at: the rest is of an older schema
	Bytes       int64    `json:"bytes"`           // of the file
	Used        int64    `json:"used"`            // of them in pages
	Pages       int64    `json:"pages"`           // each in use once, or free
	FreePages   int64    `json:"free_pages"`
	Values      uint64   `json:"values"`      // checksums
	Events      uint64   `json:"events"`      // rows in a sequence without gaps, each id once but for the events that left quarantine
	Bodies      uint64   `json:"bodies"`      // unpacked to the size they came with
	Quarantined uint64   `json:"quarantined"` // with their bodies
	Released    uint64   `json:"released"`    // events that left quarantine, whose old row and new row refer to each other
	Payments    uint64   `json:"payments"`    // equal to a fresh fold of their events
	Links       uint64   `json:"links"`       // other ids that find a payment
	Totals      uint64   `json:"totals"`      // equal to the sums of the payments
	Faults      []string `json:"faults"`
}

// Check proves the ledger sound, in one transaction: bbolt's pages, every checksum, sequences
// without gaps, every index entry with its row and every row with its entries, the counts and totals equal to
// a recount, and each payment equal to a fresh fold of the facts of its events. It returns every
// fault it found, joined, or nil. It reads the whole file.
func (l *Ledger) Check() error {
	err := l.store.View(func(tx *store.Tx) error {
		_, err := tx.VerifyPages(context.Background())
		return err
	})
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	_, err = l.prove(context.Background())
	return err
}

// Verify proves a file that nobody writes to: a copy, or the ledger of a receiver that does not run ([ErrLocked]). The
// proof tells how far it got even where there is an error. Damage can end the process: bbolt follows pages blindly.
func Verify(path string) (*Report, error) { return verify(context.Background(), path) }

// verify is Verify until ctx ends.
func verify(ctx context.Context, path string) (*Report, error) {
	if err := store.MustExist(path, "there is no file"); err != nil {
		return nil, err
	}
	free, err := store.VerifyPages(ctx, path)
	if errors.Is(err, ErrLocked) {
		return nil, err
	} else if err != nil {
		return unusableProof(path, err)
	}
	l, err := open(path, true)
	switch {
	case errors.Is(err, errOlder):
		p, err := unusableProof(path, fmt.Errorf("%w: %s is of an older schema: its pages are sound, and the rest can be told only once it is brought up to date; put it in a folder of its own as ledger.db and rebuild it there (TILLHOOK_DATA_DIR, tillhook rebuild)", ErrSchema, path))
		p.Older = true
		return p, err
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrSchema):
		return unusableProof(path, err)
	case err != nil:
		return nil, err
	}
	proof, err := l.prove(ctx)
	proof.FreePages = free
	return proof, errors.Join(err, l.Close())
}

// unusableProof is the proof of a file that is not even opened.
func unusableProof(path string, err error) (*Report, error) {
	p := &Report{Object: "proof", Path: path, Faults: strings.Split(err.Error(), "\n")}
	if info, statErr := os.Stat(path); statErr == nil {
		p.Bytes = info.Size()
	}
	return p, err
}

func (l *Ledger) prove(ctx context.Context) (*Report, error) {
	c := &checker{ctx: ctx, l: l, totals: map[string]amounts{}}
	proof := &Report{Object: "proof", Path: l.Path(), Mode: ModeName(l.livemode), Schema: schemaVersion, Faults: []string{}}
	err := l.store.View(func(tx *store.Tx) error {
		c.tx = tx
		if sizes, err := l.store.Sizes(tx); err == nil {
			proof.Bytes, proof.Used, proof.Pages = sizes.Bytes, sizes.Used, sizes.Pages
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
	proof.Values, proof.Events, proof.Bodies, proof.Quarantined = c.values, c.rows, c.kept, c.held
	proof.Released = c.recount.released
	proof.Payments, proof.Links, proof.Totals = c.folded, c.links, c.lines
	for _, fault := range c.faults {
		proof.Faults = append(proof.Faults, fault.Error())
	}
	proof.Sound = len(c.faults) == 0
	return proof, errors.Join(c.faults...)
}

var errTooMany = errors.New("too many faults")

// checker walks one transaction and keeps what it needs to compare the buckets with each other.
type checker struct {
	ctx     context.Context
	l       *Ledger
	tx      *store.Tx
	faults  []error
	values  uint64 // checksums that are right
	rows    uint64
	kept    uint64 // bodies
	held    uint64 // rows in quarantine
	awaits  uint64 // of them, thin events that wait for their snapshot event
	ofPay   uint64 // rows that are about a payment
	recount counts

	folded, absorbed, links, lines uint64             // payments, their events, the links those make, totals
	seconds, listed                uint64             // of payments, in the index of entries; elements of their lists that are stored apart
	totals                         map[string]amounts // recounted, by key
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// walk hands every entry of a bucket to visit, its checksum verified.
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

// has tells whether a bucket holds a sound entry under a key.
func (c *checker) has(bucket store.Bucket, key []byte) bool {
	value, err := c.tx.Get(bucket, key)
	return err == nil && value != nil
}

func (c *checker) id() error {
	if id, err := c.tx.Get(bucketMeta, metaID); err != nil || len(id) != len(noID) {
		c.fault("the id of the ledger: %w", cmp.Or(err, ErrCorrupt))
	}
	return nil
}

func (c *checker) events() error {
	return c.walk(bucketEvents, func(key, value []byte) error {
		c.rows++
		seq := seqOf(key)
		if seq != c.rows {
			c.fault("event row %d follows row %d", seq, c.rows-1)
			c.rows = seq
		}
		r, err := decodeRow(value)
		if err != nil {
			return fmt.Errorf("event row %d: %w", seq, err)
		}
		at, _, err := lookupID(c.tx, r.livemode, r.id)
		if err != nil {
			c.fault("event row %d (%.80s): %w", seq, r.id, err)
			at = seq
		}
		if r.livemode != c.l.livemode && r.outcome != Quarantined {
			c.fault("event row %d (%.80s): it is of %s mode and not in quarantine", seq, r.id, ModeName(r.livemode))
		}
		if (r.outcome == Quarantined) != (r.reason != "") {
			c.fault("event row %d (%.80s): outcome %s and reason %q disagree", seq, r.id, r.outcome, r.reason)
		}
		if r.outcome == Quarantined && at != seq {
			c.recount.released++
			c.released(seq, r, at)
			return nil
		}
		c.recount.event(r, +1)
		if at != seq {
			c.fault("event row %d (%.80s): the id index points to row %d", seq, r.id, at)
		}
		if err := c.ofQuarantine(seq, r); err != nil {
			return err
		}
		id, err := paymentOf(c.tx, &r.facts)
		if err != nil {
			return fmt.Errorf("event row %d (%.80s): %w", seq, r.id, err)
		}
		if (id != "") != (r.outcome == Applied || r.outcome == Unchanged) {
			c.fault("event row %d (%.80s): outcome %s with payment %q", seq, r.id, r.outcome, id)
		}
		if id == "" {
			return nil
		}
		c.ofPay++
		listed, err := listsRow(c.tx, id, seq)
		if err != nil {
			return fmt.Errorf("event row %d (%.80s): %w", seq, r.id, err)
		}
		if !listed {
			c.fault("event row %d (%.80s): payment %.80s does not list it", seq, r.id, id)
		}
		r.facts.EachOtherID(func(other string, charge bool) {
			if links, err := readLinks(c.tx, other); err != nil || !slices.Contains(links, linkOf(&r.facts, charge)) {
				c.fault("event row %d (%.80s): %s does not find its payment %.80s", seq, r.id, other, id)
			}
		})
		return nil
	})
}

// released compares the row of an event that left quarantine with the row in which it was booked.
func (c *checker) released(seq uint64, r *row, as uint64) {
	if c.tx.Has(bucketQuarantine, seqKey(seq)) {
		c.fault("event row %d (%.80s): it lies in quarantine and was booked as row %d", seq, r.id, as)
	}
	later, err := readRow(c.tx, as)
	switch {
	case err != nil:
		c.fault("event row %d (%.80s): it was booked as row %d: %w", seq, r.id, as, err)
	case as < seq || later.released != seq || later.id != r.id || later.livemode != r.livemode || later.outcome == Quarantined:
		c.fault("event row %d (%.80s): it left quarantine, and row %d is not the one in which it was booked", seq, r.id, as)
	}
}

// ofQuarantine compares a row with its entry in quarantine, or with the row of its event that had
// one.
func (c *checker) ofQuarantine(seq uint64, r *row) error {
	h, err := readQuarantineEntry(c.tx, seq)
	if err != nil {
		return err
	}
	if (r.outcome == Quarantined) != (h != nil) {
		c.fault("event row %d (%.80s): outcome %s and the quarantine disagree", seq, r.id, r.outcome)
		return nil
	}
	if h != nil {
		c.held++
		c.recount.quarantined(r.reason, h.state, +1)
		if !c.has(bucketBodies, seqKey(seq)) {
			c.fault("event row %d (%.80s): its body is gone although it lies in quarantine", seq, r.id)
		}
		if h.awaits != "" {
			c.awaits++
			if !c.has(bucketMeta, awaitsKey(r.livemode, h.awaits, seq)) {
				c.fault("event row %d (%.80s): it waits for the event %.80s, and would not be found when that comes", seq, r.id, h.awaits)
			}
			if at, found, err := lookupID(c.tx, r.livemode, h.awaits); found || err != nil {
				c.fault("event row %d (%.80s): it waits for the event %.80s, which is in row %d", seq, r.id, h.awaits, at)
			}
		}
	}
	if r.released == 0 {
		return nil
	}
	old, err := readRow(c.tx, r.released)
	switch {
	case err != nil:
		return fmt.Errorf("event row %d (%.80s): %w", seq, r.id, err)
	case r.released >= seq || old.outcome != Quarantined || old.id != r.id || old.livemode != r.livemode:
		c.fault("event row %d (%.80s): row %d is not the one in which it lay in quarantine", seq, r.id, r.released)
	case c.has(bucketBodies, seqKey(seq)) != c.has(bucketBodies, seqKey(r.released)):
		c.fault("event row %d (%.80s): of its body and that of row %d, in which it lay in quarantine, one is gone", seq, r.id, r.released)
	}
	return nil
}

// meta proves the bucket meta, and that it has as many entries by which thin events are found as
// wait for their snapshot event.
func (c *checker) meta() error {
	var awaits uint64
	err := c.walk(bucketMeta, func(key, value []byte) error {
		switch {
		case bytes.HasPrefix(key, []byte(awaitsPrefix)):
			awaits++
		case bytes.HasPrefix(key, []byte(markPrefix)):
			d := decoder{buf: value}
			d.int()
			return d.end()
		}
		return nil
	})
	if awaits != c.awaits {
		c.fault("%s by which thin events in quarantine are found, for %d that %s", Plural(awaits, "entry"), c.awaits, Verb(c.awaits, "waits", "wait"))
	}
	return err
}

func (c *checker) ids() error {
	var n uint64
	err := c.walk(bucketIDs, func(key, value []byte) error {
		n++
		d := decoder{buf: value}
		if seq := d.uint(); d.end() != nil || !c.has(bucketEvents, seqKey(seq)) {
			c.fault("the event id %.80s points to row %d, which is missing", key, seq)
		}
		return nil
	})
	if n+c.recount.released != c.rows {
		c.fault("%s for %s, of which %d left quarantine", Plural(n, "event id"), Plural(c.rows, "row"), c.recount.released)
	}
	return err
}

func (c *checker) quarantine() error {
	var n uint64
	err := c.walk(bucketQuarantine, func(_, _ []byte) error { n++; return nil })
	if n != c.held {
		c.fault("%s in quarantine for %s", Plural(n, "entry"), Plural(c.held, "row"))
	}
	return err
}

func (c *checker) bodies() error {
	return c.walk(bucketBodies, func(key, value []byte) error {
		r, err := readRow(c.tx, seqOf(key))
		if err != nil {
			return fmt.Errorf("body: %w", err)
		}
		if other := rowOfBody(value); other != 0 {
			if other != r.released {
				c.fault("body of event row %d: it refers to row %d, the row to row %d", seqOf(key), other, r.released)
				return nil
			}
			if value, err = c.tx.Get(bucketBodies, seqKey(other)); err != nil || value == nil {
				c.fault("body of event row %d: that of row %d, to which it refers, is missing or damaged", seqOf(key), other)
				return nil
			}
		} else {
			c.kept++
		}
		raw, err := c.l.bodies.decode(value)
		if err != nil {
			return fmt.Errorf("body of event row %d: %w", seqOf(key), err)
		}
		if uint64(len(raw)) != r.size {
			c.fault("body of event row %d has %d bytes, the row says %d", seqOf(key), len(raw), r.size)
		}
		return nil
	})
}

func (c *checker) payments() error {
	err := c.walk(bucketPayments, func(key, value []byte) error {
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
		c.fault("%s about payments, %d of them listed by one", Plural(c.ofPay, "event"), c.absorbed)
	}
	one := func(_, _ []byte) (int, error) { return 1, nil }
	for _, index := range []struct {
		bucket store.Bucket
		want   uint64
		what   string
		count  func(key, value []byte) (int, error)
	}{
		{bucketPaymentsTime, c.folded, "payments in the list by time", one},
		{bucketEntries, c.seconds, "seconds in the index of entries", one},
		{bucketLists, c.listed, "elements in the lists of payments", one},
		{bucketLinks, c.links, "links from ids to payments", func(key, value []byte) (int, error) {
			links, err := decodeLinks(string(key), value)
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

// payment compares what is kept of one payment with a fresh fold of its events.
func (c *checker) payment(id string, value []byte) error {
	s, err := decodeState(c.tx, id, value)
	if err != nil {
		return err
	}
	rows, err := rowsOf(c.tx, s.rows)
	if err != nil {
		return err
	}
	type found struct {
		id string
		link
	}
	links := map[found]bool{}
	for _, r := range rows {
		if present, err := paymentOf(c.tx, &r.facts); err != nil || present != id {
			c.fault("payment %.80s lists event %s, which is about %q", id, r.id, present)
		}
		r.facts.EachOtherID(func(other string, charge bool) { links[found{other, linkOf(&r.facts, charge)}] = true })
	}
	c.links += uint64(len(links))
	c.absorbed += uint64(len(rows))
	again := foldRows(id, c.l.livemode, rows)
	again.rows = s.rows
	if !slices.IsSorted(s.rows) || !bytes.Equal(again.encode(), value) {
		c.fault("payment %.80s differs from a fresh fold of its events", id)
	}
	again.eachListed(func(key, value []byte) {
		c.listed++
		if have, err := c.tx.Get(bucketLists, key); err != nil || !bytes.Equal(have, value) {
			c.fault("payment %.80s: its lists differ from a fresh fold of its events at %.80q", id, key)
		}
	})
	if !c.has(bucketPaymentsTime, timeKey(s.created(), id)) {
		c.fault("payment %.80s is missing in the list by time", id)
	}
	c.index(id, s.index())
	c.recount.payment(s, +1)
	for i := range s.entries {
		for _, key := range s.totalKeys(&s.entries[i]) {
			c.totals[key] = c.totals[key].plus(amountsOf(&s.entries[i]))
		}
	}
	return nil
}

// index compares the index of entries with what follows from a payment.
func (c *checker) index(id string, want map[int64][]byte) {
	for second, value := range want {
		c.seconds++
		if have, err := c.tx.Get(bucketEntries, timeKey(second, id)); err != nil || !bytes.Equal(have, value) {
			c.fault("payment %.80s: the index of entries at %d differs from its entries", id, second)
		}
	}
}

// totalName names a total as people do.
func totalName(key []byte) string {
	day, currency, account, err := readTotalKey(key)
	if err != nil {
		return fmt.Sprintf("%.80q", key)
	}
	if day == allDays {
		return fmt.Sprintf("all days %.20q %.80q", currency, account)
	}
	return fmt.Sprintf("%s %.20q %.80q", time.Unix(day*secondsADay, 0).UTC().Format(time.DateOnly), currency, account)
}

// sumsOfDays compares the totals with the sums of what all payments moved.
func (c *checker) sumsOfDays() error {
	maps.DeleteFunc(c.totals, func(_ string, a amounts) bool { return a == amounts{} })
	err := c.walk(bucketTotals, func(key, value []byte) error {
		if !isAllDays(key) {
			c.lines++
		}
		a, err := decodeAmounts(value)
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
	kept, err := readCounts(c.tx)
	if err != nil {
		return err
	}
	c.recount.expired = kept.expired // how far retention went is no count
	if *kept != c.recount {
		c.fault("the counts %+v differ from a recount %+v", *kept, c.recount)
	}
	return nil
}
