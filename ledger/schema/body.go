package schema

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"sync"

	"tillhook/ledger/store"

	"github.com/klauspost/compress/s2"
)

// The first byte of a stored body says how the rest of it is stored.
const (
	BodyPlain = 0 // as it arrived
	bodyS2    = 1 // as an S2 block that refers to the built-in dictionary
	bodyRow   = 2 // in another row, whose sequence follows as a varint
)

// maxBody is the largest size that a stored body may decompress to. The limits on received bodies
// are far lower.
const maxBody = 64 << 20

// builtinText is the text of the built-in dictionary: bodies of each event type that concerns
// payments, as Stripe writes them. Stored bodies refer to positions in it, so it must never change.
//
//go:embed bodies.dict
var builtinText []byte

// BodyCodec compresses and decompresses raw bodies. It is safe for concurrent use.
//
// Most of a webhook's body is the names of Stripe's fields. A body is too small for a compressor to
// find them repeated in it, so it is compressed against a dictionary that holds them. S2 takes a
// fifth of zstd's processor time for this.
type BodyCodec struct {
	dictionary *s2.Dict
	scratch    sync.Pool // of *[]byte
}

// NewBodyCodec returns a codec that uses the built-in dictionary.
func NewBodyCodec() (*BodyCodec, error) {
	c := &BodyCodec{dictionary: s2.MakeDict(builtinText, nil), scratch: sync.Pool{New: func() any { return new([]byte) }}}
	if c.dictionary == nil {
		return nil, fmt.Errorf("the built-in dictionary of %d bytes cannot be used", len(builtinText))
	}
	return c, nil
}

// maxScratch is the size of the largest scratch buffer that is kept for the next body.
const maxScratch = 256 << 10

// Encode returns the stored form of a body, which is at most one byte longer than the body. The
// result has the capacity for a checksum.
func (c *BodyCodec) Encode(raw []byte) []byte {
	scratch := c.scratch.Get().(*[]byte)
	if most := s2.MaxEncodedLen(len(raw)); cap(*scratch) < most {
		*scratch = make([]byte, most)
	}
	kind, content := byte(bodyS2), c.dictionary.Encode((*scratch)[:cap(*scratch)], raw)
	if len(content) >= len(raw) {
		kind, content = BodyPlain, raw
	}
	out := append(make([]byte, 0, 1+len(content)+store.ChecksumSize), kind)
	out = append(out, content...)
	if cap(*scratch) <= maxScratch {
		c.scratch.Put(scratch)
	}
	return out
}

// Decode returns a copy of the body that was encoded. It does not follow a reference to another
// row; see ReadBody.
func (c *BodyCodec) Decode(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, fmt.Errorf("%w: body without its first byte", store.ErrCorrupt)
	}
	switch kind, content := stored[0], stored[1:]; kind {
	case BodyPlain:
		return append([]byte{}, content...), nil
	case bodyS2:
		return c.decompress(content)
	default:
		return nil, fmt.Errorf("%w: body of unknown kind %d", store.ErrCorrupt, kind)
	}
}

func (c *BodyCodec) decompress(block []byte) ([]byte, error) {
	// The length is checked first, because Decode allocates what it claims.
	if size, err := s2.DecodedLen(block); err != nil || size > maxBody {
		return nil, fmt.Errorf("%w: body with an impossible length", store.ErrCorrupt)
	}
	raw, err := c.dictionary.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", store.ErrCorrupt, err)
	}
	return raw, nil
}

// BodyReference returns the stored body of a row that has the same body as the row seq.
func BodyReference(seq uint64) []byte { return binary.AppendUvarint([]byte{bodyRow}, seq) }

// RowOfBody returns the row that a stored body refers to, or 0 if it is not a reference.
func RowOfBody(stored []byte) uint64 {
	if len(stored) == 0 || stored[0] != bodyRow {
		return 0
	}
	seq, _ := binary.Uvarint(stored[1:])
	return seq
}

// ReadBody reads the stored body of a row and follows a reference to another row. It returns nil if
// the row has no body.
func ReadBody(tx *store.Tx, seq uint64) ([]byte, error) {
	stored, err := tx.Get(BucketBodies, SeqKey(seq))
	if other := RowOfBody(stored); err == nil && other != 0 {
		if stored, err = tx.Get(BucketBodies, SeqKey(other)); err == nil && stored == nil {
			err = fmt.Errorf("%w: event row %d has the body of row %d, which is missing", store.ErrCorrupt, seq, other)
		}
	}
	return stored, err
}
