package ledger

import (
	_ "embed"
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
// again and again. So every body is packed against a dictionary, with S2, which needs a fifth of zstd's time for
// that. https://pkg.go.dev/github.com/klauspost/compress/s2#Dict
type bodyCodec struct {
	dictionaries atomic.Pointer[[]*s2.Dict] // by number; nil for one that is damaged. The first is built in, the others were learned
	scratch      sync.Pool                  // of *[]byte
	zstd         *zstd.Decoder
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
	list := []*s2.Dict{s2.MakeDict(builtinText, nil)}
	for _, text := range learned {
		list = append(list, s2.MakeDict(text, nil)) // nil of an empty one
	}
	c.dictionaries.Store(&list)
}

// add takes up one more dictionary, which is on disk under that number; from now on it is used. It may have been taken up
// from there already.
func (c *bodyCodec) add(number byte, text []byte) {
	d := s2.MakeDict(text, nil)
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

// newest is the dictionary to pack with.
func (c *bodyCodec) newest() (number byte, d *s2.Dict) {
	list := *c.dictionaries.Load()
	for i, d := range slices.Backward(list) {
		if d != nil {
			return byte(i), d
		}
	}
	return 0, list[0]
}

// maxScratch bytes are kept for the next body.
const maxScratch = 256 << 10

// encode returns the body as it is stored, never more than a byte longer than it came.
func (c *bodyCodec) encode(raw []byte) []byte {
	scratch := c.scratch.Get().(*[]byte)
	if most := s2.MaxEncodedLen(len(raw)); cap(*scratch) < most {
		*scratch = make([]byte, most)
	}
	number, dictionary := c.newest()
	kind, packed := []byte{bodyS2, number}, dictionary.Encode((*scratch)[:cap(*scratch)], raw)
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
	case bodyS2:
		return c.unpack(packed)
	default:
		return nil, fmt.Errorf("%w: body of unknown kind %d", ErrCorrupt, kind)
	}
}

func (c *bodyCodec) unpack(packed []byte) ([]byte, error) {
	list := *c.dictionaries.Load()
	if len(packed) == 0 || int(packed[0]) >= len(list) || list[packed[0]] == nil {
		return nil, fmt.Errorf("%w: body of a dictionary that is unknown or damaged", ErrCorrupt)
	}
	dictionary, block := list[packed[0]], packed[1:]
	if size, err := s2.DecodedLen(block); err != nil || size > maxBody {
		return nil, fmt.Errorf("%w: body without a length that can be", ErrCorrupt)
	}
	raw, err := dictionary.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
	}
	return raw, nil
}

func (c *bodyCodec) close() { c.zstd.Close() }
