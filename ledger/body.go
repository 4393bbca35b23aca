package ledger

import (
	_ "embed"
	"fmt"
	"sync"

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
	builtin *s2.Dict
	scratch sync.Pool // of *[]byte
	zstd    *zstd.Decoder
}

func newBodyCodec() (*bodyCodec, error) {
	c := &bodyCodec{builtin: s2.MakeDict(builtinText, nil), scratch: sync.Pool{New: func() any { return new([]byte) }}}
	if c.builtin == nil {
		return nil, fmt.Errorf("the built-in dictionary of %d bytes cannot be used", len(builtinText))
	}
	var err error
	if c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderLowmem(true)); err != nil {
		return nil, fmt.Errorf("body decompressor: %w", err)
	}
	return c, nil
}

// maxScratch bytes are kept for the next body.
const maxScratch = 256 << 10

// encode returns the body as it is stored, never more than a byte longer than it came.
func (c *bodyCodec) encode(raw []byte) []byte {
	scratch := c.scratch.Get().(*[]byte)
	if most := s2.MaxEncodedLen(len(raw)); cap(*scratch) < most {
		*scratch = make([]byte, most)
	}
	kind, packed := []byte{bodyS2, 0}, c.builtin.Encode((*scratch)[:cap(*scratch)], raw)
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
	if len(packed) == 0 || packed[0] != 0 {
		return nil, fmt.Errorf("%w: body of an unknown dictionary", ErrCorrupt)
	}
	block := packed[1:]
	if size, err := s2.DecodedLen(block); err != nil || size > maxBody {
		return nil, fmt.Errorf("%w: body without a length that can be", ErrCorrupt)
	}
	raw, err := c.builtin.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
	}
	return raw, nil
}

func (c *bodyCodec) close() { c.zstd.Close() }
