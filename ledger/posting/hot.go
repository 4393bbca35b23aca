package posting

import (
	"cmp"

	"tillhook/ledger/schema"
)

// Each event refolds its payment from all of its events. For a payment with thousands of events,
// reading and decoding them takes ten times as long as folding them, and such a payment is likely
// to get another event soon. Therefore the committer caches the rows of recently changed payments
// that have many events: without the cache, an event of a payment that has 100, 1,000 or 3,000
// takes 3.4, 3.0 or 3.6 times the processor time (BenchmarkManyEvents). Rows and their facts never
// change, so the cache matches the file as long as no transaction fails.

const (
	// hotLeast is the number of events from which on a payment is cached.
	hotLeast = 32
	// hotBytes is the approximate size limit of the cache, enough for about 15,000 events.
	hotBytes = 24 << 20
)

// Cache is a cache of payments. It is not safe for concurrent use. A nil cache stores nothing.
type Cache struct {
	payments map[string]*hotPayment
	size     int // of all payments
	Limit    int // of size; 0 means hotBytes
	uses     uint64
}

// hotPayment is a cached payment as of the last change that was written.
type hotPayment struct {
	state *schema.State
	rows  []*schema.Row // the rows of state.Rows, in the same order
	size  int
	used  uint64 // greater than that of every payment used earlier
}

// find returns a cached payment, or nil.
func (h *Cache) find(id string) *hotPayment {
	if h == nil || h.payments[id] == nil {
		return nil
	}
	h.uses++
	h.payments[id].used = h.uses
	return h.payments[id]
}

// keep caches a payment as it is after a change, if the change has the rows of the payment. In any
// case it drops what was cached before the change.
func (h *Cache) keep(c *change) {
	if h == nil {
		return
	}
	had := h.payments[c.id]
	if had != nil {
		h.drop(c.id)
	}
	if c.after == nil || len(c.rows) < hotLeast {
		return
	}
	size, added := 0, c.rows
	if had != nil { // rows were only appended
		size, added = had.size, c.rows[len(had.rows):]
	}
	for _, r := range added {
		size += memoryOf(r)
	}
	limit := cmp.Or(h.Limit, hotBytes)
	if size > limit {
		return
	}
	for h.size+size > limit {
		h.dropOldest()
	}
	if h.payments == nil {
		h.payments = map[string]*hotPayment{}
	}
	h.uses++
	h.payments[c.id] = &hotPayment{state: c.after, rows: c.rows, size: size, used: h.uses}
	h.size += size
}

func (h *Cache) drop(id string) {
	h.size -= h.payments[id].size
	delete(h.payments, id)
}

func (h *Cache) dropOldest() {
	var oldest string
	for id, p := range h.payments {
		if oldest == "" || p.used < h.payments[oldest].used {
			oldest = id
		}
	}
	h.drop(oldest)
}

// clear empties the cache. If a transaction fails, the cache may contain changes of it that are not
// in the file.
func (h *Cache) clear() { *h = Cache{Limit: h.Limit} }

// Sizes returns how many payments are cached, and their size.
func (h *Cache) Sizes() (payments, bytes int) { return len(h.payments), h.size }

// memoryOf returns the approximate memory use of a row in bytes.
func memoryOf(r *schema.Row) int {
	f := &r.Facts
	n := 768 + 384*(len(f.Intents)+len(f.Charges)) + 192*(len(f.Refunds)+len(f.Disputes)) + 64*len(f.Sessions)
	for i := range f.Intents {
		n += 128 * len(f.Intents[i].Metadata)
	}
	for i := range f.Charges {
		n += 128 * len(f.Charges[i].Metadata)
	}
	for i := range f.Disputes {
		n += 64 * len(f.Disputes[i].Transactions)
	}
	return n
}

// compact returns the row as it will be read from the file. The strings of a row that just arrived
// are substrings of its body and would keep the whole body in memory.
func compact(r *schema.Row) (*schema.Row, error) { return schema.DecodeRow(r.Encode()) }
