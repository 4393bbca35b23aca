package ledger

import (
	"slices"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// IDStatus says what the ledger knows about the id of an event.
type IDStatus string

// The values of IDStatus.
const (
	IDUnknown     IDStatus = ""            // the event never arrived
	IDQuarantined IDStatus = "quarantined" // the event is in quarantine; it is posted if it arrives in a usable form
	IDKnown       IDStatus = "known"       // the event is stored and not in quarantine
)

// Lookup returns the status of each id. It does not count the ids as repeats.
func (l *Ledger) Lookup(ids []string) ([]IDStatus, error) {
	list := make([]IDStatus, 0, len(ids))
	for part := range slices.Chunk(ids, scanSlice) {
		err := l.store.View(func(tx *store.Tx) error {
			for _, id := range part {
				seq, found, err := schema.LookupID(tx, l.livemode, id)
				if err != nil {
					return err
				}
				if !found {
					list = append(list, IDUnknown)
					continue
				}
				r, err := schema.ReadRow(tx, seq)
				if err != nil {
					return err
				}
				if r.Outcome == Quarantined {
					list = append(list, IDQuarantined)
				} else {
					list = append(list, IDKnown)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
