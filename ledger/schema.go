package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// schemaVersion is that of the layout and the codecs in this file. A file with a greater one is refused.
const schemaVersion = 1

var (
	bucketMeta          = []byte("meta")
	bucketEvents        = []byte("events")
	bucketBodies        = []byte("bodies")
	bucketIDs           = []byte("ids")
	bucketPayments      = []byte("payments")
	bucketPaymentsTime  = []byte("payments_time")
	bucketPaymentEvents = []byte("payment_events")
	bucketAliases       = []byte("aliases")
	bucketQuarantine    = []byte("quarantine")

	buckets = [][]byte{bucketMeta, bucketEvents, bucketBodies, bucketIDs, bucketPayments,
		bucketPaymentsTime, bucketPaymentEvents, bucketAliases, bucketQuarantine}

	metaSchema = []byte("schema")
	metaMode   = []byte("mode")
	metaCounts = []byte("counts")
)

// initialise lays out an empty ledger of a mode.
func initialise(tx *bolt.Tx, livemode bool) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	var version encoder
	version.uint(schemaVersion)
	if err := put(tx, bucketMeta, metaSchema, version.buf); err != nil {
		return err
	}
	if err := put(tx, bucketMeta, metaMode, []byte(ModeName(livemode))); err != nil {
		return err
	}
	return put(tx, bucketMeta, metaCounts, (&counts{}).encode())
}

// readMeta checks that the file is a ledger of a schema this version reads, and tells its mode.
func readMeta(tx *bolt.Tx) (livemode bool, err error) {
	if tx.Bucket(bucketMeta) == nil {
		return false, fmt.Errorf("%w: it was written by another program", ErrSchema)
	}
	value, err := get(tx, bucketMeta, metaSchema)
	if err != nil {
		return false, err
	}
	d := decoder{buf: value}
	version := d.uint()
	if err := d.end(); err != nil {
		return false, fmt.Errorf("%w: schema version", err)
	}
	if version != schemaVersion {
		return false, fmt.Errorf("%w: it has schema %d, this version of tillhook knows %d; install the version that wrote it or a newer one", ErrSchema, version, schemaVersion)
	}
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return false, fmt.Errorf("%w: bucket %s is missing", ErrSchema, name)
		}
	}
	mode, err := get(tx, bucketMeta, metaMode)
	if err != nil {
		return false, err
	}
	livemode = string(mode) == ModeName(true)
	if string(mode) != ModeName(livemode) {
		return false, fmt.Errorf("%w: the mode is neither test nor live", ErrCorrupt)
	}
	return livemode, nil
}

// put seals a value and stores it.
func put(tx *bolt.Tx, bucket, key, value []byte) error {
	if err := tx.Bucket(bucket).Put(key, seal(bucket, key, value)); err != nil {
		return fmt.Errorf("write to %s: %w", bucket, err)
	}
	return nil
}

// get returns a value with its checksum verified, or nil where there is none. It belongs to the transaction.
func get(tx *bolt.Tx, bucket, key []byte) ([]byte, error) {
	stored := tx.Bucket(bucket).Get(key)
	if stored == nil {
		return nil, nil
	}
	return unseal(bucket, key, stored)
}

// remove deletes an entry that is there.
func remove(tx *bolt.Tx, bucket, key []byte) error {
	if err := tx.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", bucket, err)
	}
	return nil
}

// Keys. Numbers are big-endian so that the order of keys is the order of numbers.

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

func idKey(livemode bool, id string) []byte {
	mode := byte('t')
	if livemode {
		mode = 'l'
	}
	return append([]byte{mode}, id...)
}

// timeKey orders payments by (created, id); the sign bit is flipped so that times before 1970 come first.
func timeKey(created int64, id string) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), uint64(created)^1<<63)
	return append(key, id...)
}

// paymentEventKey: an id has no NUL in it, so no payment's keys lie among another's.
func paymentEventKey(payment string, seq uint64) []byte {
	key := append(append(make([]byte, 0, len(payment)+9), payment...), 0)
	return binary.BigEndian.AppendUint64(key, seq)
}

// row is an event as it is stored: everything but its body.
type row struct {
	id, typ, account, apiVersion string
	livemode                     bool
	created                      int64 // Unix seconds, 0 if unknown
	received                     int64 // Unix milliseconds
	source                       Source
	outcome                      Outcome
	reason                       Reason
	released                     bool // it was in quarantine once, and was booked later
	size                         uint64
	repeats                      uint64
	facts                        Facts
}

// repeat is the answer to another delivery of the row's event.
func (r *row) repeat(seq uint64) Result {
	res := Result{Status: AlreadyProcessed, PaymentID: r.facts.PaymentID(), Sequence: seq, Repeat: true}
	if r.outcome == Quarantined {
		res.Status, res.Reason = Quarantined, r.reason
	}
	return res
}

func (r *row) encode() []byte {
	var e encoder
	e.flags(r.livemode, r.released, r.facts.Intent != nil)
	e.byte(byte(slices.Index(Outcomes[:], r.outcome)))
	e.byte(byte(slices.Index(Reasons[:], r.reason) + 1))
	e.byte(byte(slices.Index(sources[:], r.source)))
	e.text(r.id)
	e.text(r.typ)
	e.text(r.account)
	e.text(r.apiVersion)
	e.int(r.created)
	e.int(r.received)
	e.uint(r.size)
	e.uint(r.repeats)
	if r.facts.Intent != nil {
		e.intent(r.facts.Intent)
	}
	return e.buf
}

func decodeRow(value []byte) (*row, error) {
	d := decoder{buf: value}
	var r row
	var intent bool
	d.flags(&r.livemode, &r.released, &intent)
	r.outcome = pick(&d, Outcomes[:], int(d.byte()))
	if reason := int(d.byte()); reason > 0 {
		r.reason = pick(&d, Reasons[:], reason-1)
	}
	r.source = pick(&d, sources[:], int(d.byte()))
	r.id = d.text()
	r.typ = d.text()
	r.account = d.text()
	r.apiVersion = d.text()
	r.created = d.int()
	r.received = d.int()
	r.size = d.uint()
	r.repeats = d.uint()
	if intent {
		r.facts.Intent = d.intent()
	}
	return &r, d.end()
}

// pick returns the i-th of the names a code stands for, or fails the decoder.
func pick[T any](d *decoder, names []T, i int) T {
	if i >= len(names) {
		d.fail()
		i = 0
	}
	return names[i]
}

func (e *encoder) intent(in *Intent) {
	e.flags(in.HasAmount, in.LastError != nil)
	e.text(in.ID)
	e.text(in.Status)
	e.text(in.Currency)
	e.int(in.Amount)
	e.int(in.AmountCapturable)
	e.int(in.AmountReceived)
	e.text(in.Customer)
	e.text(in.Description)
	e.texts(in.Metadata)
	e.text(in.LatestCharge)
	e.int(in.Created)
	if in.LastError != nil {
		e.text(string(in.LastError.Type))
		e.text(string(in.LastError.Code))
		e.text(string(in.LastError.DeclineCode))
		e.text(string(in.LastError.Message))
	}
}

func (d *decoder) intent() *Intent {
	var in Intent
	var failed bool
	d.flags(&in.HasAmount, &failed)
	in.ID = d.text()
	in.Status = d.text()
	in.Currency = d.text()
	in.Amount = d.int()
	in.AmountCapturable = d.int()
	in.AmountReceived = d.int()
	in.Customer = d.text()
	in.Description = d.text()
	in.Metadata = d.texts()
	in.LatestCharge = d.text()
	in.Created = d.int()
	if failed {
		in.LastError = &PaymentError{Type: OrNull(d.text()), Code: OrNull(d.text()), DeclineCode: OrNull(d.text()), Message: OrNull(d.text())}
	}
	return &in
}

// state is stored as its fields in order; equal states are equal bytes.
func (s *state) encode() []byte {
	var e encoder
	e.flags(s.intent != nil, s.succeeded, s.canceled)
	e.text(s.account)
	e.int(s.intentCreated)
	e.int(s.received)
	e.int(s.firstCreated)
	e.int(s.lastCreated)
	e.uint(s.events)
	if s.intent != nil {
		e.intent(s.intent)
		e.int(s.at)
		e.flags(s.creation)
		e.text(s.eventID)
	}
	return e.buf
}

func decodeState(id string, value []byte) (*state, error) {
	d := decoder{buf: value}
	s := &state{id: id}
	var intent bool
	d.flags(&intent, &s.succeeded, &s.canceled)
	s.account = d.text()
	s.intentCreated = d.int()
	s.received = d.int()
	s.firstCreated = d.int()
	s.lastCreated = d.int()
	s.events = d.uint()
	if intent {
		s.intent = d.intent()
		s.at = d.int()
		d.flags(&s.creation)
		s.eventID = d.text()
	}
	return s, d.end()
}

// lookupID finds the row of an event id.
func lookupID(tx *bolt.Tx, livemode bool, id string) (seq uint64, found bool, err error) {
	value, err := get(tx, bucketIDs, idKey(livemode, id))
	if err != nil || value == nil {
		return 0, false, err
	}
	if len(value) != 8 {
		return 0, false, fmt.Errorf("%w: row of event id", ErrCorrupt)
	}
	return binary.BigEndian.Uint64(value), true, nil
}

// readRow reads a row that must be there.
func readRow(tx *bolt.Tx, seq uint64) (*row, error) {
	value, err := get(tx, bucketEvents, seqKey(seq))
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("%w: event row %d is missing", ErrCorrupt, seq)
	}
	r, err := decodeRow(value)
	if err != nil {
		return nil, fmt.Errorf("event row %d: %w", seq, err)
	}
	return r, nil
}

// lastRow is the newest row, nil in an empty ledger.
func lastRow(tx *bolt.Tx) (uint64, *row, error) {
	key, _ := tx.Bucket(bucketEvents).Cursor().Last()
	if key == nil {
		return 0, nil, nil
	}
	seq := binary.BigEndian.Uint64(key)
	r, err := readRow(tx, seq)
	return seq, r, err
}

// readState reads a payment's state, nil where there is none.
func readState(tx *bolt.Tx, id string) (*state, error) {
	value, err := get(tx, bucketPayments, []byte(id))
	if err != nil || value == nil {
		return nil, err
	}
	s, err := decodeState(id, value)
	if err != nil {
		return nil, fmt.Errorf("payment %s: %w", id, err)
	}
	return s, nil
}

// resolve finds a payment by its own id or any other id seen for it. It returns "" for an id never seen.
func resolve(tx *bolt.Tx, id string) (string, error) {
	if tx.Bucket(bucketPayments).Get([]byte(id)) != nil {
		return id, nil
	}
	value, err := get(tx, bucketAliases, []byte(id))
	return string(value), err
}

// isPrefixed reports whether a key of payment_events belongs to the payment.
func isPrefixed(key []byte, payment string) bool {
	return len(key) == len(payment)+9 && strings.HasPrefix(string(key[:len(payment)+1]), payment+"\x00")
}
