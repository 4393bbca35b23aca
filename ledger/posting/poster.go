package posting

import (
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Poster posts events in the transactions of one file. It is not safe for concurrent use, except
// for [Poster.WouldChange].
type Poster struct {
	// Cache contains changes of the transaction under way. [Poster.Write] empties it if the
	// transaction fails.
	Cache Cache

	livemode bool
	bodies   *schema.BodyCodec
}

// NewPoster returns a Poster for a file of a mode.
func NewPoster(livemode bool, bodies *schema.BodyCodec) *Poster {
	return &Poster{livemode: livemode, bodies: bodies}
}

// State is what the rows of a file add up to. Each event that is posted brings it up to date.
type State struct {
	Last      uint64 // the newest sequence
	Counts    schema.Counts
	Delivered *schema.Delivery // of the newest event that was delivered; nil if none was
}

// Batch is one transaction in which events are posted.
type Batch struct {
	State
	Tx *store.Tx

	livemode bool // the mode of the ledger
	bodies   *schema.BodyCodec
	cache    *Cache                    // nil for none
	totals   map[string]schema.Amounts // those that changed
}

// Write posts in one transaction what fill posts. from is the state of the file before it; Write
// returns the state after it. run runs the transaction, as [store.Store.Write] does: it may call
// its argument again after an attempt that left nothing behind.
func (p *Poster) Write(run func(func(tx *store.Tx) error) error, from State, fill func(b *Batch) error) (State, error) {
	var b *Batch
	err := run(func(tx *store.Tx) error {
		if b != nil {
			p.Cache.clear()
		}
		b = &Batch{State: from, Tx: tx, livemode: p.livemode, bodies: p.bodies, cache: &p.Cache}
		if err := fill(b); err != nil {
			return err
		}
		return b.writeSums()
	})
	if err != nil {
		p.Cache.clear()
		return from, err
	}
	return b.State, nil
}
