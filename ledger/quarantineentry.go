package ledger

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

// quarantineEntry is the stored entry of an event in quarantine.
type quarantineEntry struct {
	state QuarantineState
	// awaits is the id of the snapshot event that a thin event names, as long as the ledger does
	// not have that event; empty otherwise.
	awaits string
}

func (h *quarantineEntry) encode() []byte {
	var e encoder
	e.byte(byte(slices.Index(QuarantineStates[:], h.state)))
	e.string(h.awaits)
	return e.buf
}

func decodeQuarantineEntry(value []byte) (*quarantineEntry, error) {
	d := decoder{buf: value}
	h := &quarantineEntry{state: pick(&d, QuarantineStates[:], int(d.byte())), awaits: d.string()}
	return h, d.end()
}

// readQuarantineEntry returns the quarantine entry of a row, or nil if the row has no entry.
func readQuarantineEntry(tx *store.Tx, seq uint64) (*quarantineEntry, error) {
	value, err := tx.Get(bucketQuarantine, seqKey(seq))
	if err != nil || value == nil {
		return nil, err
	}
	h, err := decodeQuarantineEntry(value)
	if err != nil {
		return nil, fmt.Errorf("quarantine of event row %d: %w", seq, err)
	}
	return h, nil
}

// awaitsPrefix is the prefix of the keys in the bucket meta by which a snapshot event finds the
// thin events that wait for it.
const awaitsPrefix = "awaits/"

// awaitsKey returns the concatenation of the prefix, the snapshot event's key in the id index, a
// slash, and the thin event's sequence.
func awaitsKey(livemode bool, snapshot string, seq uint64) []byte {
	return slices.Concat([]byte(awaitsPrefix), idKey(livemode, snapshot), []byte("/"), seqKey(seq))
}

// newQuarantineEntry returns the entry of an event that goes into quarantine.
func newQuarantineEntry(tx *store.Tx, id string, livemode, expected bool, snapshot string) (*quarantineEntry, error) {
	if expected {
		return &quarantineEntry{state: Expected}, nil
	}
	if snapshot == "" || snapshot == id {
		return &quarantineEntry{state: Attention}, nil
	}
	_, known, err := lookupID(tx, livemode, snapshot)
	if err != nil {
		return nil, err
	}
	if known {
		return &quarantineEntry{state: Expected}, nil
	}
	return &quarantineEntry{state: Attention, awaits: snapshot}, nil
}
