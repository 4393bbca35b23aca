package schema

import (
	"fmt"
	"slices"

	"tillhook/ledger/store"
)

// QuarantineState says whether a person has to look at an event in quarantine.
type QuarantineState string

// The states of an event in quarantine.
const (
	Attention QuarantineState = "attention" // a person should look at it
	Expected  QuarantineState = "expected"  // no data is missing because of it
	Dismissed QuarantineState = "dismissed" // a person has looked at it
)

// QuarantineStates lists all states. Stored values contain indexes into it, so the order must not
// change.
var QuarantineStates = [...]QuarantineState{Attention, Expected, Dismissed}

// QuarantineEntry is the stored entry of an event in quarantine.
type QuarantineEntry struct {
	State QuarantineState
	// Awaits is the id of the snapshot event that a thin event names, as long as the ledger does
	// not have that event; empty otherwise.
	Awaits string
}

// Encode returns the stored form of the entry.
func (h *QuarantineEntry) Encode() []byte {
	var e encoder
	e.byte(byte(slices.Index(QuarantineStates[:], h.State)))
	e.string(h.Awaits)
	return e.buf
}

func decodeQuarantineEntry(value []byte) (*QuarantineEntry, error) {
	d := decoder{buf: value}
	h := &QuarantineEntry{State: pick(&d, QuarantineStates[:], int(d.byte())), Awaits: d.string()}
	return h, d.end()
}

// ReadQuarantineEntry returns the quarantine entry of a row, or nil if the row has no entry.
func ReadQuarantineEntry(tx *store.Tx, seq uint64) (*QuarantineEntry, error) {
	value, err := tx.Get(BucketQuarantine, SeqKey(seq))
	if err != nil || value == nil {
		return nil, err
	}
	h, err := decodeQuarantineEntry(value)
	if err != nil {
		return nil, fmt.Errorf("quarantine of event row %d: %w", seq, err)
	}
	return h, nil
}

// AwaitsPrefix is the prefix of the keys in the bucket meta by which a snapshot event finds the
// thin events that wait for it.
const AwaitsPrefix = "awaits/"

// AwaitsKey returns the concatenation of the prefix, the snapshot event's key in the id index, a
// slash, and the thin event's sequence.
func AwaitsKey(livemode bool, snapshot string, seq uint64) []byte {
	return slices.Concat([]byte(AwaitsPrefix), IDKey(livemode, snapshot), []byte("/"), SeqKey(seq))
}

// NewQuarantineEntry returns the entry of an event that goes into quarantine.
func NewQuarantineEntry(tx *store.Tx, id string, livemode, expected bool, snapshot string) (*QuarantineEntry, error) {
	if expected {
		return &QuarantineEntry{State: Expected}, nil
	}
	if snapshot == "" || snapshot == id {
		return &QuarantineEntry{State: Attention}, nil
	}
	_, known, err := LookupID(tx, livemode, snapshot)
	if err != nil {
		return nil, err
	}
	if known {
		return &QuarantineEntry{State: Expected}, nil
	}
	return &QuarantineEntry{State: Attention, Awaits: snapshot}, nil
}
