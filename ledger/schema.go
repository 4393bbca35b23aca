package ledger

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strings"
	"tillhook/ledger/store"
	"time"
)

// schemaVersion is the number of the file's layout and of the codecs of its values. A change of
// either takes the next number. A file with a greater number is refused.
const schemaVersion = 7

// rowDecoders holds, for each schema that can be read, the decoder of an event's row. Open rebuilds
// a file of an older schema from its rows and bodies, so a new schema adds its decoder here and
// keeps the earlier ones. A file of a schema that is not listed is refused.
var rowDecoders = map[uint64]func(value []byte) (*row, error){
	schemaVersion: decodeRow,
}

// The buckets by their numbers in the layout. Numbers of buffered ones are part of the file format.
const (
	bucketMeta store.Bucket = iota
	bucketEvents
	bucketBodies
	bucketIDs
	bucketPayments
	bucketPaymentsTime
	bucketLinks
	bucketEntries
	bucketLists
	bucketTotals
	bucketQuarantine
)

var layout = store.Layout{
	bucketMeta:         {Name: "meta"},
	bucketEvents:       {Name: "events", Append: true},
	bucketBodies:       {Name: "bodies", Append: true},
	bucketIDs:          {Name: "ids", Buffered: true},
	bucketPayments:     {Name: "payments", Buffered: true},
	bucketPaymentsTime: {Name: "payments_time", Buffered: true},
	bucketLinks:        {Name: "links", Buffered: true},
	bucketEntries:      {Name: "entries", Buffered: true},
	bucketLists:        {Name: "lists", Buffered: true},
	bucketTotals:       {Name: "totals"},
	bucketQuarantine:   {Name: "quarantine"},
}

var (
	metaSchema  = []byte("schema")
	metaMode    = []byte("mode")
	metaID      = []byte("id")
	metaCounts  = []byte("counts")
	metaDecoder = []byte("decoder")
	metaDecoded = []byte("decoded")
)

// initialise creates the buckets and the metadata of an empty ledger.
func initialise(tx *store.Tx, livemode bool) error {
	var version encoder
	version.uint(schemaVersion)
	if err := tx.Put(bucketMeta, metaSchema, version.buf); err != nil {
		return err
	}
	if err := tx.Put(bucketMeta, metaMode, []byte(ModeName(livemode))); err != nil {
		return err
	}
	if err := tx.Put(bucketMeta, metaID, []byte(newID())); err != nil {
		return err
	}
	return tx.Put(bucketMeta, metaCounts, (&counts{}).encode())
}

// errOlder means that the file has an older schema, which Open can bring up to date.
var errOlder = fmt.Errorf("%w: it was written by an older version; start the receiver once (tillhook serve), which brings it up to date", ErrSchema)

// readMeta checks that the file is a ledger of the present schema and returns its mode.
func readMeta(tx *store.Tx) (livemode bool, err error) {
	version, err := readVersion(tx)
	if err != nil {
		return false, err
	}
	if version < schemaVersion {
		return false, errOlder
	}
	return readMode(tx)
}

// readVersion returns the number of the file's schema, which is one that can be read.
func readVersion(tx *store.Tx) (uint64, error) {
	if !tx.Exists(bucketMeta) {
		return 0, fmt.Errorf("%w: it was written by another program", ErrSchema)
	}
	value, err := tx.Get(bucketMeta, metaSchema)
	if err != nil {
		return 0, err
	}
	d := decoder{buf: value}
	version := d.uint()
	if err := d.end(); err != nil || version == 0 {
		return 0, fmt.Errorf("%w: schema version", cmp.Or(err, ErrCorrupt))
	}
	if version > schemaVersion {
		return 0, fmt.Errorf("%w: it has schema %d, this version of tillhook knows %d; install the version that wrote it or a newer one", ErrSchema, version, schemaVersion)
	}
	if rowDecoders[version] == nil {
		return 0, fmt.Errorf("%w: it has schema %d, which this version of tillhook no longer reads; start a version once that reads it and writes a newer schema", ErrSchema, version)
	}
	return version, nil
}

func readMode(tx *store.Tx) (livemode bool, err error) {
	mode, err := tx.Get(bucketMeta, metaMode)
	if err != nil {
		return false, err
	}
	livemode = string(mode) == ModeName(true)
	if string(mode) != ModeName(livemode) {
		return false, fmt.Errorf("%w: the mode is neither test nor live", ErrCorrupt)
	}
	return livemode, nil
}

// readDecoded returns the last row at the time of the latest rebuild that decoded a body
// differently than before, or 0 if no rebuild did.
func readDecoded(tx *store.Tx) (uint64, error) {
	value, err := tx.Get(bucketMeta, metaDecoded)
	if err != nil || value == nil {
		return 0, err
	}
	d := decoder{buf: value}
	seq := d.uint()
	return seq, d.end()
}

func writeDecoded(tx *store.Tx, seq uint64) error {
	return tx.Put(bucketMeta, metaDecoded, binary.AppendUvarint(nil, seq))
}

// seqKey returns the key of a row. Numbers in keys are big-endian, so that keys sort as numbers do.
func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// idKey returns the key of an event's id.
func idKey(livemode bool, id string) []byte {
	mode := byte('t')
	if livemode {
		mode = 'l'
	}
	return append(append(make([]byte, 0, 1+len(id)), mode), id...)
}

// timeKey returns a key that sorts payments by created and then id. The sign bit is flipped so that
// times before 1970 come first.
func timeKey(created int64, id string) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), uint64(created)^1<<63)
	return append(key, id...)
}

// lookupID returns the sequence of the row of an event id.
func lookupID(tx *store.Tx, livemode bool, id string) (seq uint64, found bool, err error) {
	value, err := tx.Get(bucketIDs, idKey(livemode, id))
	if err != nil || value == nil {
		return 0, false, err
	}
	d := decoder{buf: value}
	seq = d.uint()
	if err := d.end(); err != nil || seq == 0 {
		return 0, false, fmt.Errorf("%w: row of event id", ErrCorrupt)
	}
	return seq, true, nil
}

// readRow reads a row. It returns an error if the row does not exist.
func readRow(tx *store.Tx, seq uint64) (*row, error) {
	r, _, err := readSizedRow(tx, seq)
	return r, err
}

// readSizedRow is readRow and also returns the row's size in bytes.
func readSizedRow(tx *store.Tx, seq uint64) (*row, int, error) {
	value, err := tx.Get(bucketEvents, seqKey(seq))
	if err != nil {
		return nil, 0, err
	}
	r, err := decodeStoredRow(seq, value)
	return r, len(value), err
}

// decodeStoredRow decodes the value of a row that must exist; nil is a missing row.
func decodeStoredRow(seq uint64, value []byte) (*row, error) {
	if value == nil {
		return nil, fmt.Errorf("%w: event row %d is missing", ErrCorrupt, seq)
	}
	r, err := decodeRow(value)
	if err != nil {
		return nil, fmt.Errorf("event row %d: %w", seq, err)
	}
	return r, nil
}

// lastRow returns the newest row's sequence, or 0 if the ledger is empty.
func lastRow(tx *store.Tx) uint64 {
	if key := tx.Last(bucketEvents); key != nil {
		return seqOf(key)
	}
	return 0
}

// delivery holds the times at which an event was delivered here and created at Stripe, in Unix
// milliseconds.
type delivery struct{ received, created int64 }

// at returns the time of the delivery. If that is in the future, because the clock was ahead, it
// returns the time at which the event was created, which is usually close, or 0 if that is in the
// future too.
func (d *delivery) at(now time.Time) int64 {
	limit := now.Add(time.Minute).UnixMilli()
	switch {
	case d == nil:
		return 0
	case d.received <= limit:
		return d.received
	case d.created <= limit:
		return d.created
	}
	return 0
}

// lastDelivery returns the newest webhook delivery among the last maxLooked rows, or nil if none of
// them is one. It skips damaged rows, so that they do not prevent a start; Check reports them.
func lastDelivery(tx *store.Tx) *delivery {
	last := lastRow(tx)
	for seq := last; seq > 0 && seq+maxLooked > last; seq-- {
		if r, err := readRow(tx, seq); err == nil && r.source == Webhook && r.delivered(tx) {
			return &delivery{r.received, r.created * 1000}
		}
	}
	return nil
}

// delivered reports whether the row was made by a delivery. The row of an event that was released
// from quarantine was not: it has the time of the delivery that put the event there.
func (r *row) delivered(tx *store.Tx) bool {
	if r.released == 0 {
		return true
	}
	old, err := readRow(tx, r.released)
	return err == nil && old.received != r.received
}

// maxLooked is the number of rows that lastDelivery examines. A longer run of fetched rows is rare.
const maxLooked = 10000

// readState reads a payment's state. It returns nil if there is no such payment.
func readState(tx *store.Tx, id string) (*state, error) {
	s, _, err := readSized(tx, id)
	return s, err
}

// readSized is readState and also returns the state's size in bytes.
func readSized(tx *store.Tx, id string) (*state, int, error) {
	value, err := tx.Get(bucketPayments, []byte(id))
	if err != nil || value == nil {
		return nil, 0, err
	}
	s, err := decodeState(tx, id, value)
	if err != nil {
		return nil, 0, fmt.Errorf("payment %.80s: %w", id, err)
	}
	return s, len(value), nil
}

// link records that an event named an id together with the PaymentIntent or charge that identifies
// its payment. Links are only ever added: a link to a charge stays when the charge's payment gets
// another id.
type link struct {
	kind   byte
	target string
}

// Only a link from a charge to a PaymentIntent decides which payment an event belongs to. Links
// from other objects have a kind of their own: otherwise a charge that has the same id would follow
// them.
const (
	linkToIntent = 1 // from a charge to a PaymentIntent
	linkToCharge = 2 // from any id to a charge, by an event that names no PaymentIntent
	linkOfOther  = 3 // from the id of any object but a charge to a PaymentIntent
)

// linkOf returns the link from another id in the facts to their payment. charge says that the id is
// a charge's.
func linkOf(f *Facts, charge bool) link {
	switch {
	case f.PaymentIntent == "":
		return link{linkToCharge, f.Charge}
	case charge:
		return link{linkToIntent, f.PaymentIntent}
	}
	return link{linkOfOther, f.PaymentIntent}
}

// compare orders links by kind, then by target.
func (k link) compare(other link) int {
	return cmp.Or(cmp.Compare(k.kind, other.kind), strings.Compare(k.target, other.target))
}

// readLinks returns the links of an id in order.
func readLinks(tx *store.Tx, id string) ([]link, error) {
	value, err := tx.Get(bucketLinks, []byte(id))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeLinks(id, value)
}

func encodeLinks(id string, links []link) []byte {
	e := newEncoder(id)
	for _, k := range links {
		e.byte(k.kind)
		e.text(k.target)
	}
	return e.buf
}

func decodeLinks(id string, value []byte) (links []link, err error) {
	for d := newDecoder(id, value); len(d.buf) > 0; {
		k := link{d.byte(), d.text()}
		if d.err != nil || k.target == "" {
			return nil, fmt.Errorf("%w: links of an id", ErrCorrupt)
		}
		links = append(links, k)
	}
	return links, nil
}

// linked returns the least target among an id's links of a kind, or "" if the id has no such link.
func linked(tx *store.Tx, id string, kind byte) (string, error) {
	links, err := readLinks(tx, id)
	for _, k := range links {
		if k.kind == kind {
			return k.target, nil
		}
	}
	return "", err
}

// paymentOf returns the current id of the payment that facts are about, or "" if they are about
// none.
func paymentOf(tx *store.Tx, f *Facts) (string, error) {
	if f.PaymentIntent != "" || f.Charge == "" {
		return f.PaymentIntent, nil
	}
	intent, err := linked(tx, f.Charge, linkToIntent)
	return cmp.Or(intent, f.Charge), err
}

// resolve returns the current id of the payment that has an id or is linked from it. It returns ""
// if the id was never seen.
func resolve(tx *store.Tx, id string) (string, error) {
	if tx.Has(bucketPayments, []byte(id)) {
		return id, nil
	}
	for _, kind := range []byte{linkToIntent, linkOfOther} {
		if intent, err := linked(tx, id, kind); intent != "" || err != nil {
			return intent, err
		}
	}
	charge, err := linked(tx, id, linkToCharge)
	if err != nil {
		return "", err
	}
	return paymentOf(tx, &Facts{Charge: charge})
}
