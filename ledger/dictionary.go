package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	learnMore  = 64
	// learnFrom bodies of one type are compared, and at least learnLeast of them must be alike.
	learnFrom  = 16
	learnLeast = 12
	// learnLargest bytes a body may have from which is learned.
	learnLargest = 8 << 10
	// learnTypes are remembered.
	learnTypes = 64
	// learnEvery is how many events there are to one that is remembered, once there are many.
	learnEvery = 32
	// maxDictionaries: a body tells its dictionary in one byte.
	maxDictionaries = 255
)

// learner remembers the latest bodies of each type.
type learner struct {
	mu      sync.Mutex // guards what follows
	seen    uint64     // events since the start
	samples map[string][]lesson
	due     chan struct{} // told when enough events came
	next    uint64        // at how many
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
	if e.Quarantine != "" || len(e.Raw) > learnLargest || n.seen > learnFirst*learnMore && n.seen%learnEvery != 0 {
		return
	}
	list, known := n.samples[e.Type]
	if !known && len(n.samples) == learnTypes {
		return
	}
	l := lesson{payment: e.Facts.named(), customer: e.Facts.customer(), raw: e.Raw}
	if l.customer == "" { // whose it is cannot be told
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
	n.samples[e.Type] = append(list, l)
}

// customer is the first that the facts name.
func (f *Facts) customer() string {
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

// bodies are what there is to learn from, by type.
func (n *learner) bodies() map[string][][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[string][][]byte{}
	for typ, list := range n.samples {
		for _, l := range list {
			all[typ] = append(all[typ], l.raw)
		}
	}
	return all
}

// LearnBodies learns dictionaries for bodies, each when it is due, until ctx ends.
func (l *Ledger) LearnBodies(ctx context.Context) error {
	due := uint64(learnFirst)
	for range l.bodies.count() - 1 {
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
	text := dictionaryText(l.learner.bodies())
	if text == nil {
		return false, nil
	}
	err = l.do(ctx, func(b *booking) error {
		if b.tx.Bucket(bucketDictionaries).Get([]byte{number}) != nil {
			return fmt.Errorf("dictionary %d is there already", number) // by a try that seemed to fail
		}
		b.writing = true
		return put(b.tx, bucketDictionaries, []byte{number}, text)
	})
	if err != nil {
		return false, fmt.Errorf("keep a dictionary for bodies: %w", err)
	}
	l.bodies.add(number, text)
	return true, nil
}

// dictionaryText is some of the built-in text, and behind it what the bodies of each type have in common; nil if they have
// nothing.
func dictionaryText(bodies map[string][][]byte) []byte {
	var learned []byte
	for _, typ := range slices.Sorted(maps.Keys(bodies)) {
		if common := inCommon(bodies[typ]); len(learned)+len(common) <= s2.MaxDictSize/2 {
			learned = append(learned, common...)
		}
	}
	if len(learned) == 0 {
		return nil
	}
	return slices.Concat(builtinText[max(0, len(builtinText)+len(learned)-s2.MaxDictSize):], learned)
}

// inCommon is the text that many JSON texts of one form share: whatever stands between their values, and of each value what all
// of them begin and end with. It is empty if too few are alike.
func inCommon(texts [][]byte) []byte {
	if len(texts) < learnLeast {
		return nil
	}
	form := func(tokens [][]byte) string {
		var b []byte
		for i := 0; i < len(tokens); i += 2 { // what stands between the values
			b = append(append(b, tokens[i]...), 0)
		}
		return string(b)
	}
	alike := map[string][][][]byte{}
	best := ""
	for _, text := range texts {
		tokens := splitValues(text)
		f := form(tokens)
		if alike[f] = append(alike[f], tokens); len(alike[f]) > len(alike[best]) {
			best = f
		}
	}
	same := alike[best]
	if len(same) < learnLeast {
		return nil
	}
	var common []byte
	for i, token := range same[0] {
		if i%2 == 0 {
			common = append(common, token...)
			continue
		}
		if personal[lastName(same[0][i-1])] {
			continue
		}
		begin, end := len(token), len(token)
		for _, other := range same[1:] {
			begin = min(begin, sharedPrefix(token, other[i]))
			end = min(end, sharedSuffix(token, other[i]))
		}
		common = append(common, token[:begin]...)
		if begin < len(token) {
			common = append(common, token[max(begin, len(token)-end):]...)
		}
	}
	return common
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

func sharedPrefix(a, b []byte) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func sharedSuffix(a, b []byte) (n int) {
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
