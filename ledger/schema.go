package ledger

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"tillhook/ledger/store"
) // schemaVersion is the number of the file's layout and of the codecs of its values. A change of
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
	seq, err = decodeSeq(value)
	return seq, err == nil, err
}

// decodeSeq decodes the value of an event's id: the sequence of its row.
func decodeSeq(value []byte) (uint64, error) {
	d := decoder{buf: value}
	seq := d.uint()
	if err := d.end(); err != nil || seq == 0 {
		return 0, fmt.Errorf("%w: row of event id", ErrCorrupt)
	}
	return seq, nil
}

// newID returns a random id for a new ledger. The id distinguishes the copies of a ledger from
// those of other ledgers in the same directory. Copies keep the id.
func newID() string {
	b := make([]byte, len(noID)/2)
	_, _ = rand.Read(b) // Read never fails, see https://pkg.go.dev/crypto/rand#Read
	return hex.EncodeToString(b)
}

// readID returns the id of a ledger, or noID if it is missing or damaged.
func readID(tx *store.Tx) string {
	value, err := tx.Get(bucketMeta, metaID)
	if err != nil || len(value) != len(noID) {
		return noID
	}
	return string(value)
}

// noID is used for a ledger whose id is damaged.
const noID = "000000000000"

// readTimeKey decodes a key made by timeKey.
func readTimeKey(key []byte) (at int64, id string, err error) {
	if len(key) < 8 {
		return 0, "", fmt.Errorf("%w: a key of %d bytes that should begin with a time", ErrCorrupt, len(key))
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
