// Package schema defines what a ledger stores and in which form: the buckets, their keys and the
// encodings of their values.
//
// It reads and writes single values in transactions of package store, and knows nothing of the
// order in which a ledger changes. Package posting writes what follows from an event.
//
// # On disk
//
// One file, ledger.db, mode 0600, in a directory of mode 0700, with these buckets:
//
//	meta            schema version, mode, id, running counts, accounts, checkpoints;
//	                thin events that wait for their snapshot event
//	events          sequence          -> envelope, outcome and facts of an event, in arrival order
//	bodies          sequence          -> the raw body, compressed, or the row that has it
//	ids             livemode, id      -> sequence, of the new row if the event left quarantine
//	payments        payment id        -> the folded state, and the sequences of its events
//	payments_time   created, id       -> empty: the order in which payments are listed
//	links           other id          -> the PaymentIntent, or else charge, of events that name it
//	entries         time, payment     -> what the payment moved in that second, by currency
//	lists           payment, kind, id -> an element of a long list of a payment
//	totals          day, currency, account -> the money of that day in UTC, and of all days
//	quarantine      sequence          -> state of an event that is in quarantine now
//
// Sequences start at 1 and have no gaps. A row never changes after its transaction, except for the
// count of its repeats.
//
// # Reading order
//
// schema.go has the buckets and their keys, row.go an event ([Row]) and state.go a payment
// ([State]). codec.go and words.go encode the fields of both. body.go compresses raw bodies.
//
// # Dangers
//
//   - Values carry no version of their own. A change of an encoding needs a new [Version] and an
//     entry in [RowDecoders].
//   - Stored values refer to the string table, to the built-in dictionary of bodies and to the
//     lists of outcomes, reasons, sources and states by position. New elements go to the end.
//   - Equal values have equal encodings. Check relies on it, and so does the comparison of a
//     payment before and after an event.
package schema

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"tillhook/ledger/store"
)

// Version is the number of the file's layout and of the codecs of its values. A change of either
// takes the next number. A file with a greater number is refused.
const Version = 7

// RowDecoders holds, for each schema that can be read, the decoder of an event's row. Open rebuilds
// a file of an older schema from its rows and bodies, so a new schema adds its decoder here and
// keeps the earlier ones. A file of a schema that is not listed is refused.
var RowDecoders = map[uint64]func(value []byte) (*Row, error){
	Version: DecodeRow,
}

// The buckets by their numbers in the layout. Numbers of buffered ones are part of the file format.
const (
	BucketMeta store.Bucket = iota
	BucketEvents
	BucketBodies
	BucketIDs
	BucketPayments
	BucketPaymentsTime
	BucketLinks
	BucketEntries
	BucketLists
	BucketTotals
	BucketQuarantine
)

// Layout lists the buckets for package store.
var Layout = store.Layout{
	BucketMeta:         {Name: "meta"},
	BucketEvents:       {Name: "events", Append: true},
	BucketBodies:       {Name: "bodies", Append: true},
	BucketIDs:          {Name: "ids", Buffered: true},
	BucketPayments:     {Name: "payments", Buffered: true},
	BucketPaymentsTime: {Name: "payments_time", Buffered: true},
	BucketLinks:        {Name: "links", Buffered: true},
	BucketEntries:      {Name: "entries", Buffered: true},
	BucketLists:        {Name: "lists", Buffered: true},
	BucketTotals:       {Name: "totals"},
	BucketQuarantine:   {Name: "quarantine"},
}

var (
	MetaSchema  = []byte("schema")
	metaMode    = []byte("mode")
	MetaID      = []byte("id")
	MetaCounts  = []byte("counts")
	MetaDecoder = []byte("decoder")
	metaDecoded = []byte("decoded")
)

// Initialise writes the metadata of an empty ledger.
func Initialise(tx *store.Tx, livemode bool) error {
	var version encoder
	version.uint(Version)
	if err := tx.Put(BucketMeta, MetaSchema, version.buf); err != nil {
		return err
	}
	if err := tx.Put(BucketMeta, metaMode, []byte(ModeName(livemode))); err != nil {
		return err
	}
	if err := tx.Put(BucketMeta, MetaID, []byte(newID())); err != nil {
		return err
	}
	return tx.Put(BucketMeta, MetaCounts, (&Counts{}).Encode())
}

// ErrOlder means that the file has an older schema, which Open can bring up to date.
var ErrOlder = fmt.Errorf("%w: it was written by an older version; start the receiver once (tillhook serve), which brings it up to date", store.ErrFormat)

// ReadMeta checks that the file is a ledger of the present schema and returns its mode.
func ReadMeta(tx *store.Tx) (livemode bool, err error) {
	version, err := ReadVersion(tx)
	if err != nil {
		return false, err
	}
	if version < Version {
		return false, ErrOlder
	}
	return ReadMode(tx)
}

// ReadVersion returns the number of the file's schema, which is one that can be read.
func ReadVersion(tx *store.Tx) (uint64, error) {
	if !tx.Exists(BucketMeta) {
		return 0, fmt.Errorf("%w: it was written by another program", store.ErrFormat)
	}
	value, err := tx.Get(BucketMeta, MetaSchema)
	if err != nil {
		return 0, err
	}
	d := decoder{buf: value}
	version := d.uint()
	if err := d.end(); err != nil || version == 0 {
		return 0, fmt.Errorf("%w: schema version", cmp.Or(err, store.ErrCorrupt))
	}
	if version > Version {
		return 0, fmt.Errorf("%w: it has schema %d, this version of tillhook knows %d; install the version that wrote it or a newer one", store.ErrFormat, version, Version)
	}
	if RowDecoders[version] == nil {
		return 0, fmt.Errorf("%w: it has schema %d, which this version of tillhook no longer reads; start a version once that reads it and writes a newer schema", store.ErrFormat, version)
	}
	return version, nil
}

// ReadMode returns the mode that the ledger is bound to.
func ReadMode(tx *store.Tx) (livemode bool, err error) {
	mode, err := tx.Get(BucketMeta, metaMode)
	if err != nil {
		return false, err
	}
	livemode = string(mode) == ModeName(true)
	if string(mode) != ModeName(livemode) {
		return false, fmt.Errorf("%w: the mode is neither test nor live", store.ErrCorrupt)
	}
	return livemode, nil
}

// ErrOtherMode is returned if a ledger was created for the other mode.
var ErrOtherMode = errors.New("the ledger belongs to the other mode")

// OtherMode returns the error for a ledger whose mode, livemode, is not the configured one.
func OtherMode(path string, livemode bool) error {
	have, want := ModeName(livemode), ModeName(!livemode)
	return fmt.Errorf("%w: %s holds %s mode payments, the configuration says %s; set TILLHOOK_DATA_DIR to another folder for %s mode",
		ErrOtherMode, path, have, want, want)
}

// ReadDecoded returns the last row at the time of the latest rebuild that decoded a body
// differently than before, or 0 if no rebuild did.
func ReadDecoded(tx *store.Tx) (uint64, error) {
	value, err := tx.Get(BucketMeta, metaDecoded)
	if err != nil || value == nil {
		return 0, err
	}
	d := decoder{buf: value}
	seq := d.uint()
	return seq, d.end()
}

// WriteDecoded stores what [ReadDecoded] returns.
func WriteDecoded(tx *store.Tx, seq uint64) error {
	return tx.Put(BucketMeta, metaDecoded, binary.AppendUvarint(nil, seq))
}

// SeqKey returns the key of a row. Numbers in keys are big-endian, so that keys sort as numbers do.
func SeqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// IDKey returns the key of an event's id.
func IDKey(livemode bool, id string) []byte {
	mode := byte('t')
	if livemode {
		mode = 'l'
	}
	return append(append(make([]byte, 0, 1+len(id)), mode), id...)
}

// TimeKey returns a key that sorts payments by created and then id. The sign bit is flipped so that
// times before 1970 come first.
func TimeKey(created int64, id string) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), uint64(created)^1<<63)
	return append(key, id...)
}

// LookupID returns the sequence of the row of an event id.
func LookupID(tx *store.Tx, livemode bool, id string) (seq uint64, found bool, err error) {
	value, err := tx.Get(BucketIDs, IDKey(livemode, id))
	if err != nil || value == nil {
		return 0, false, err
	}
	seq, err = DecodeSeq(value)
	return seq, err == nil, err
}

// DecodeSeq decodes the value of an event's id: the sequence of its row.
func DecodeSeq(value []byte) (uint64, error) {
	d := decoder{buf: value}
	seq := d.uint()
	if err := d.end(); err != nil || seq == 0 {
		return 0, fmt.Errorf("%w: row of event id", store.ErrCorrupt)
	}
	return seq, nil
}

// newID returns a random id for a new ledger. The id distinguishes the copies of a ledger from
// those of other ledgers in the same directory. Copies keep the id.
func newID() string {
	b := make([]byte, len(NoID)/2)
	_, _ = rand.Read(b) // Read never fails, see https://pkg.go.dev/crypto/rand#Read
	return hex.EncodeToString(b)
}

// ReadID returns the id of a ledger, or NoID if it is missing or damaged.
func ReadID(tx *store.Tx) string {
	value, err := tx.Get(BucketMeta, MetaID)
	if err != nil || len(value) != len(NoID) {
		return NoID
	}
	return string(value)
}

// NoID is used for a ledger whose id is damaged.
const NoID = "000000000000"

// ReadTimeKey decodes a key made by TimeKey.
func ReadTimeKey(key []byte) (at int64, id string, err error) {
	if len(key) < 8 {
		return 0, "", fmt.Errorf("%w: a key of %d bytes that should begin with a time", store.ErrCorrupt, len(key))
	}
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), string(key[8:]), nil
}

// ModeName returns the name that Stripe uses for a mode: "live" or "test".
func ModeName(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}
