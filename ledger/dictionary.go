package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
	bolt "go.etcd.io/bbolt"
)

// A shop's bodies are more like each other than like anybody else's. So the ledger learns from them, a few times in its
// life, what all of them have in common, and packs later ones against that. What it learns is kept for good, as long as
// the bodies that need it may be: so nothing goes into it that only some bodies say. A value stands in it only
// as far as it is the same in many events of one type, each about another payment of another customer, and never under
// a name that tells of a person.

const (
	// learnFirst events must have come before the first dictionary is learned; each further one takes learnMore times as many.
	learnFirst = 64
	learnMore  = 8
	// learnFrom bodies of one kind are compared, and at least learnLeast.
	learnFrom  = 16
	learnLeast = 12
	// learnLargest bytes a body may have from which is learned.
	learnLargest = 8 << 10
	// learnKinds are remembered.
	learnKinds = 64
	// learnAll events are remembered since the start, and then one in learnEvery.
	learnAll   = 4096
	learnEvery = 32
	// maxDictionaries: a body tells its dictionary in one byte.
	maxDictionaries = 255
)

// learner remembers the latest bodies of each kind.
type learner struct {
	mu      sync.Mutex // guards what follows
	seen    uint64     // events since the start
	samples map[kind][]lesson
	due     chan struct{} // told when enough events came
	next    uint64        // at how many
}

// kind is an event type, and what stands between the values of a body (as a sum: what is learned is compared to the letter).
type kind struct {
	typ  string
	form uint64
}

// lesson is a body to learn from.
type lesson struct {
	payment, customer string
	raw               []byte
}

// remember takes note of an event that is written down, if it may teach something.
func (n *learner) remember(e *Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen++; n.seen == n.next {
		n.tell()
	}
	if e.Quarantine != "" || len(e.Raw) > learnLargest || n.seen > learnAll && n.seen%learnEvery != 0 {
		return
	}
	l := lesson{payment: e.Facts.Named(), customer: customerOf(&e.Facts), raw: e.Raw}
	if l.customer == "" { // whose it is cannot be told
		return
	}
	k := kind{e.Type, formSum(e.Raw)}
	list, known := n.samples[k]
	if !known && len(n.samples) == learnKinds && !n.forgetOne() {
		return
	}
	if slices.ContainsFunc(list, func(other lesson) bool {
		return other.payment == l.payment || other.customer == l.customer
	}) {
		return
	}
	if len(list) == learnFrom {
		list = slices.Delete(list, 0, 1)
	}
	n.samples[k] = append(list, l)
}

// forgetOne makes room by a kind of which only one body came.
func (n *learner) forgetOne() bool {
	for k, list := range n.samples {
		if len(list) == 1 {
			delete(n.samples, k)
			return true
		}
	}
	return false
}

// formSum is a sum over what stands between a text's values.
func formSum(text []byte) uint64 {
	sum := fnv.New64a()
	for i, token := range splitValues(text) {
		if i%2 == 0 {
			_, _ = sum.Write(token) // it never fails
			_, _ = sum.Write([]byte{0})
		}
	}
	return sum.Sum64()
}

// customerOf returns the first customer that the facts name, "" if they name none.
func customerOf(f *Facts) string {
	for i := range f.Intents {
		if f.Intents[i].Customer != "" {
			return f.Intents[i].Customer
		}
	}
	for i := range f.Charges {
		if f.Charges[i].Customer != "" {
			return f.Charges[i].Customer
		}
	}
	return ""
}

// bodies are what there is to learn from.
func (n *learner) bodies() map[kind][][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[kind][][]byte{}
	for k, list := range n.samples {
		for _, l := range list {
			all[k] = append(all[k], l.raw)
		}
	}
	return all
}

// LearnBodies learns dictionaries for bodies, each when it is due, until ctx ends.
func (l *Ledger) LearnBodies(ctx context.Context) error {
	due := uint64(learnFirst)
	for range l.bodies.learned() {
		due = min(due*learnMore, 1<<40)
	}
	for l.bodies.count() < maxDictionaries {
		l.learner.await(due)
		select {
		case <-ctx.Done():
			return nil
		case <-l.learner.due:
		}
		switch learned, err := l.learn(ctx, byte(l.bodies.count())); {
		case errors.Is(err, ErrClosed):
			return nil
		case err == nil && learned:
			due *= learnMore
		default: // too few are alike as yet, or the ledger cannot be written
			due *= 2
		}
	}
	<-ctx.Done()
	return nil
}

// await has word given when that many events have come since the start, or at once if they have.
func (n *learner) await(events uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next = events; n.seen >= n.next {
		n.tell()
	}
}

func (n *learner) tell() {
	select {
	case n.due <- struct{}{}:
	default:
	}
}

// learn makes the dictionary of that number, and packs with it once it is on disk.
func (l *Ledger) learn(ctx context.Context, number byte) (learned bool, err error) {
	forms := newForms(l.learner.bodies(), l.bodies.forms())
	if forms == nil {
		return false, nil
	}
	value := encodeForms(forms)
	err = l.do(ctx, func(b *booking) error {
		if b.tx.Bucket(bucketDictionaries).Get([]byte{number}) != nil {
			return fmt.Errorf("dictionary %d is there already", number) // by a try that seemed to fail
		}
		b.writing = true
		return put(b.tx, bucketDictionaries, []byte{number}, bytes.Clone(value))
	})
	if err != nil {
		return false, fmt.Errorf("keep a dictionary for bodies: %w", err)
	}
	l.bodies.add(number, value)
	return true, nil
}

// newForms are those of bodies that no known one fits, the known ones behind them; nil if there is nothing new.
func newForms(kinds map[kind][][]byte, known []*form) (forms []*form) {
	order := func(a, b kind) int { return cmp.Or(strings.Compare(a.typ, b.typ), cmp.Compare(a.form, b.form)) }
	for _, k := range slices.SortedFunc(maps.Keys(kinds), order) {
		bodies := kinds[k]
		if slices.ContainsFunc(known, func(f *form) bool { return f.typ == k.typ && f.fits(bodies) }) {
			continue
		}
		if f := formOf(k.typ, bodies); f != nil {
			forms = append(forms, f)
		}
	}
	if len(forms) == 0 {
		return nil
	}
	size := 0
	return slices.DeleteFunc(append(forms, known...), func(f *form) bool {
		n := len(f.text())
		if size+n > s2.MaxDictSize/2 {
			return true
		}
		size += n
		return false
	})
}

// fits tells whether all of some bodies are of the form.
func (f *form) fits(bodies [][]byte) bool {
	return !slices.ContainsFunc(bodies, func(raw []byte) bool {
		_, ok := f.pack(nil, raw)
		return !ok
	})
}

// formOf is the form of many JSON texts in which the same stands between the values: whatever does, and every value
// that is the same in all of them, unless it tells of a person. It is nil of too few.
func formOf(typ string, bodies [][]byte) *form {
	if len(bodies) < learnLeast {
		return nil
	}
	all := make([][][]byte, len(bodies))
	for i, body := range bodies {
		all[i] = splitValues(body)
		if len(all[i]) != len(all[0]) {
			return nil
		}
	}
	f := &form{typ: typ, texts: []string{string(all[0][0])}}
	var at []int // the places of the slots
	for i := 1; i < len(all[0]); i += 2 {
		before, behind := all[0][i-1], string(all[0][i+1])
		values := make([]string, len(all))
		for j := range all {
			values[j] = string(all[j][i])
		}
		isPersonal := personal[lastName(before)]
		if same := slices.Max(values) == slices.Min(values); same && !isPersonal && !isTime(values[0]) {
			f.texts[len(f.texts)-1] += values[0] + behind
			continue
		}
		s := slot{like: slices.IndexFunc(at, func(earlier int) bool { return everywhere(all, i, earlier, isLonger) })}
		if s.like < 0 {
			s.like = slices.IndexFunc(at, func(earlier int) bool { return everywhere(all, i, earlier, isSibling) })
		}
		if !isPersonal {
			s.begins, s.ends = bounds(values)
		}
		f.slots, f.texts, at = append(f.slots, s), append(f.texts, behind), append(at, i)
	}
	if len(f.slots) > maxSlots || !f.fits(bodies) {
		return nil
	}
	return f
}

// isTime: what is learned in one second has its time in common. No other number is so long.
func isTime(value string) bool {
	return len(value) >= 9 && strings.Trim(value, digits[:10]) == ""
}

// everywhere tells whether in all bodies a value resembles an earlier one.
func everywhere(all [][][]byte, at, earlier int, resembles func(value, other []byte) bool) bool {
	return !slices.ContainsFunc(all, func(tokens [][]byte) bool { return !resembles(tokens[at], tokens[earlier]) })
}

// isLonger: the value is the other one, or begins with it.
func isLonger(value, other []byte) bool { return len(other) >= 4 && bytes.HasPrefix(value, other) }

// isSibling: the two are ids of one payment.
func isSibling(value, other []byte) bool {
	core := siblings(other)
	return core != nil && bytes.Equal(siblings(value), core)
}

// bounds are what values begin and end with. Letters and digits at the border belong to what differs: the first ones of
// a time or a number are the same for a while.
func bounds(values []string) (begins, ends string) {
	begins, ends = values[0], values[0]
	shortest := len(begins)
	for _, v := range values[1:] {
		begins = begins[:sharedPrefix(begins, v)]
		ends = ends[len(ends)-sharedSuffix(ends, v):]
		shortest = min(shortest, len(v))
	}
	begins = strings.TrimRightFunc(begins, isAlphanumeric)
	ends = strings.TrimLeftFunc(ends, isAlphanumeric)
	return begins, ends[max(0, len(begins)+len(ends)-shortest):]
}

func isAlphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// personal are the names of fields that tell of a person: one may come again and again as a new customer.
var personal = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range []string{"email", "receipt_email", "name", "phone", "line1", "line2", "city", "state", "postal_code", "ip", "ip_address",
		"fingerprint", "last4", "first6", "exp_month", "exp_year", "iin", "customer", "receipt_number", "receipt_url", "url"} {
		names[name] = true
	}
	return names
}()

// lastName is the last string in a text, as a field's name stands before its value; it may be that of a field before.
func lastName(text []byte) string {
	end := bytes.LastIndexByte(text, '"')
	if end > 0 && end == len(text)-1 { // it opens the value
		end = bytes.LastIndexByte(text[:end], '"')
	}
	if end <= 0 {
		return ""
	}
	return string(text[bytes.LastIndexByte(text[:end], '"')+1 : end])
}

// splitValues cuts a JSON text into what stands between its values, names included, and the values: by turns, the first of
// the former.
func splitValues(text []byte) (tokens [][]byte) {
	from := 0
	value := func(begin, end int) {
		tokens = append(tokens, text[from:begin], text[begin:end])
		from = end
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			begin := i + 1
			for i = begin; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			end := min(i, len(text))
			if i++; !isName(text, i) {
				value(begin, end)
			}
		case c == '-', '0' <= c && c <= '9':
			begin := i
			for i < len(text) && bytes.IndexByte([]byte("+-.0123456789Ee"), text[i]) >= 0 {
				i++
			}
			value(begin, i)
		default:
			i++
		}
	}
	return append(tokens, text[min(from, len(text)):])
}

// isName tells whether the string that ends before i is a field's name.
func isName(text []byte, i int) bool {
	for i < len(text) && bytes.IndexByte([]byte(" \t\r\n"), text[i]) >= 0 {
		i++
	}
	return i < len(text) && text[i] == ':'
}

func sharedPrefix(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func sharedSuffix(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// readDictionaries reads what was learned, in order. One that is damaged is empty: the bodies that need it are, too.
func readDictionaries(tx *bolt.Tx) (texts [][]byte) {
	b := tx.Bucket(bucketDictionaries)
	if b == nil { // of an older schema
		return nil
	}
	c := b.Cursor()
	for key, stored := c.First(); key != nil; key, stored = c.Next() {
		text, err := unseal(bucketDictionaries, key, stored)
		if err != nil {
			text = nil
		}
		for len(key) == 1 && len(texts) < int(key[0]) {
			texts = append(texts, nil)
		}
		if len(key) == 1 && key[0] > 0 {
			texts[key[0]-1] = bytes.Clone(text)
		}
	}
	return texts
}

// keepDictionaries writes what was learned to another file.
func keepDictionaries(tx *txn, learned [][]byte) error {
	for i, text := range learned {
		if err := put(tx, bucketDictionaries, []byte{byte(i + 1)}, text); err != nil {
			return err
		}
	}
	return nil
}
