package ledger

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// How a body is stored: one byte, then the bytes.
const (
	bodyPlain = 0
	bodyZstd  = 1 // a whole frame; older versions wrote them
	bodyS2    = 2 // the number of a dictionary in one byte, then a block that refers to it
	bodyForm  = 3 // the number of a dictionary in one byte, that of a form in it as a varint, then the values
	bodyRow   = 4 // the sequence of the row that has the body, as a varint
)

// maxBody bounds what a stored body may unpack to; the receiver's own limit is far below.
const maxBody = 64 << 20

// builtinText is dictionary 0: bodies as Stripe writes them, of every type that tells of money. It must stay as it is
// for good; another one gets another number.
//
//go:embed bodies.dict
var builtinText []byte

// bodyCodec packs and unpacks raw bodies. Both ways may be used from many goroutines at once.
//
// A webhook is small and most of it is the names of Stripe's fields: a compressor that begins with nothing stores them
// again and again. So a body is packed as the values of a form that was learned; and where none fits, against
// a dictionary, with S2, which needs a fifth of zstd's time for that.
// https://pkg.go.dev/github.com/klauspost/compress/s2#Dict
type bodyCodec struct {
	dictionaries atomic.Pointer[[]*dictionary] // by number; nil for one that is damaged. The first is built in, the others were learned
	scratch      sync.Pool                     // of *[]byte
	zstd         *zstd.Decoder
}

// dictionary is what bodies have in common.
type dictionary struct {
	text   *s2.Dict
	forms  []*form
	byType map[string][]int // the numbers of forms
}

// newDictionary reads a stored dictionary; nil of one that is damaged. Older versions stored the text alone.
func newDictionary(value []byte) *dictionary {
	d := &dictionary{byType: map[string][]int{}}
	text := value
	if len(value) > 0 && value[0] == formsMark {
		var err error
		if d.forms, err = decodeForms(value); err != nil {
			return nil
		}
		var learned []byte
		for i, f := range d.forms {
			d.byType[f.typ] = append(d.byType[f.typ], i)
			learned = append(learned, f.text()...)
		}
		learned = learned[:min(len(learned), s2.MaxDictSize)]
		// The beginning of a dictionary is the first to be out of reach.
		text = slices.Concat(builtinText[min(len(builtinText), max(0, len(builtinText)+len(learned)-s2.MaxDictSize)):], learned)
	}
	if d.text = s2.MakeDict(text, nil); d.text == nil { // of an empty one
		return nil
	}
	return d
}

// pack appends a body of a type to out, in the form that fits.
func (d *dictionary) pack(out, raw []byte, typ string) (_ []byte, ok bool) {
	for _, number := range d.byType[typ] {
		if packed, ok := d.forms[number].pack(binary.AppendUvarint(out, uint64(number)), raw); ok {
			return packed, true
		}
	}
	return nil, false
}

func newBodyCodec() (*bodyCodec, error) {
	c := &bodyCodec{scratch: sync.Pool{New: func() any { return new([]byte) }}}
	c.load(nil)
	if (*c.dictionaries.Load())[0] == nil {
		return nil, fmt.Errorf("the built-in dictionary of %d bytes cannot be used", len(builtinText))
	}
	var err error
	if c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderLowmem(true)); err != nil {
		return nil, fmt.Errorf("body decompressor: %w", err)
	}
	return c, nil
}

// load takes up what was learned.
func (c *bodyCodec) load(learned [][]byte) {
	list := []*dictionary{newDictionary(builtinText)}
	for _, value := range learned {
		list = append(list, newDictionary(value))
	}
	c.dictionaries.Store(&list)
}

// add takes up one more dictionary, which is on disk under that number; from now on it is used. It may have been taken up
// from there already.
func (c *bodyCodec) add(number byte, value []byte) {
	d := newDictionary(value)
	for {
		have := c.dictionaries.Load()
		if len(*have) != int(number) {
			return
		}
		list := append(slices.Clone(*have), d)
		if c.dictionaries.CompareAndSwap(have, &list) {
			return
		}
	}
}

// count is how many dictionaries there are.
func (c *bodyCodec) count() int { return len(*c.dictionaries.Load()) }

// learned is how many of them hold forms; older versions learned texts.
func (c *bodyCodec) learned() (n int) {
	for _, d := range *c.dictionaries.Load() {
		if d != nil && len(d.forms) > 0 {
			n++
		}
	}
	return n
}

// newest is the dictionary to pack with.
func (c *bodyCodec) newest() (number byte, d *dictionary) {
	list := *c.dictionaries.Load()
	for i, d := range slices.Backward(list) {
		if d != nil {
			return byte(i), d
		}
	}
	return 0, list[0]
}

// forms are those that are packed with.
func (c *bodyCodec) forms() []*form {
	_, d := c.newest()
	return d.forms
}

// maxScratch bytes are kept for the next body.
const maxScratch = 256 << 10

// encode returns the body of an event of a type as it is stored, never more than a byte longer than it came.
func (c *bodyCodec) encode(raw []byte, typ string) []byte {
	scratch := c.scratch.Get().(*[]byte)
	// The values of a form take no more than they do as text, but for a few bytes each.
	if most := s2.MaxEncodedLen(len(raw)) + 2*maxSlots; cap(*scratch) < most {
		*scratch = make([]byte, most)
	}
	number, dictionary := c.newest()
	kind := []byte{bodyForm, number}
	packed, ok := dictionary.pack((*scratch)[:0], raw, typ)
	if !ok {
		kind, packed = []byte{bodyS2, number}, dictionary.text.Encode((*scratch)[:cap(*scratch)], raw)
	}
	if len(packed)+1 >= len(raw) {
		kind, packed = []byte{bodyPlain}, raw
	}
	out := make([]byte, 0, len(kind)+len(packed)+checksumSize)
	out = append(append(out, kind...), packed...)
	if cap(*scratch) <= maxScratch {
		c.scratch.Put(scratch)
	}
	return out
}

// bodyOf is the stored body of a row that has the body of another one.
func bodyOf(seq uint64) []byte { return binary.AppendUvarint([]byte{bodyRow}, seq) }

// rowOfBody is the row that a stored body refers to; 0 if it is stored itself.
func rowOfBody(stored []byte) uint64 {
	if len(stored) == 0 || stored[0] != bodyRow {
		return 0
	}
	seq, _ := binary.Uvarint(stored[1:])
	return seq
}

// readBody reads the stored body of a row, where that has it from another one the body of that. It
// returns nil if the row has no body.
func readBody(tx *txn, seq uint64) ([]byte, error) {
	stored, err := get(tx, bucketBodies, seqKey(seq))
	if other := rowOfBody(stored); err == nil && other != 0 {
		if stored, err = get(tx, bucketBodies, seqKey(other)); err == nil && stored == nil {
			err = fmt.Errorf("%w: event row %d has the body of row %d, which is missing", ErrCorrupt, seq, other)
		}
	}
	return stored, err
}

// decode returns a copy of the body as it came.
func (c *bodyCodec) decode(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, fmt.Errorf("%w: body without its first byte", ErrCorrupt)
	}
	switch kind, packed := stored[0], stored[1:]; kind {
	case bodyPlain:
		return append([]byte{}, packed...), nil
	case bodyZstd:
		raw, err := c.zstd.DecodeAll(packed, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
		}
		return raw, nil
	case bodyS2, bodyForm:
		return c.unpack(kind, packed)
	default:
		return nil, fmt.Errorf("%w: body of unknown kind %d", ErrCorrupt, kind)
	}
}

func (c *bodyCodec) unpack(kind byte, packed []byte) ([]byte, error) {
	list := *c.dictionaries.Load()
	if len(packed) == 0 || int(packed[0]) >= len(list) || list[packed[0]] == nil {
		return nil, fmt.Errorf("%w: body of a dictionary that is unknown or damaged", ErrCorrupt)
	}
	dictionary, block := list[packed[0]], packed[1:]
	if kind == bodyForm {
		number, n := binary.Uvarint(block)
		if n <= 0 || number >= uint64(len(dictionary.forms)) {
			return nil, fmt.Errorf("%w: body of an unknown form", ErrCorrupt)
		}
		raw, err := dictionary.forms[number].unpack(block[n:])
		if err != nil {
			return nil, fmt.Errorf("%w: body of form %d", err, number)
		}
		return raw, nil
	}
	if size, err := s2.DecodedLen(block); err != nil || size > maxBody {
		return nil, fmt.Errorf("%w: body without a length that can be", ErrCorrupt)
	}
	raw, err := dictionary.text.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
	}
	return raw, nil
}

func (c *bodyCodec) close() { c.zstd.Close() }
