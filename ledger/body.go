package ledger

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
	bodyPlain = 0 // as it arrived
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

// bodyCodec compresses and decompresses raw bodies. It is safe for concurrent use.
//
// Most of a webhook's body is the names of Stripe's fields. A body is too small for a compressor to
// find them repeated in it, so it is compressed against a dictionary that holds them. S2 takes a
// fifth of zstd's processor time for this.
type bodyCodec struct {
	dictionary *s2.Dict
	scratch    sync.Pool // of *[]byte
}

func newBodyCodec() (*bodyCodec, error) {
	c := &bodyCodec{dictionary: s2.MakeDict(builtinText, nil), scratch: sync.Pool{New: func() any { return new([]byte) }}}
	if c.dictionary == nil {
		return nil, fmt.Errorf("the built-in dictionary of %d bytes cannot be used", len(builtinText))
	}
	return c, nil
}

// maxScratch is the size of the largest scratch buffer that is kept for the next body.
const maxScratch = 256 << 10

// encode returns the stored form of a body, which is at most one byte longer than the body. The
// result has the capacity for a checksum.
func (c *bodyCodec) encode(raw []byte) []byte {
	scratch := c.scratch.Get().(*[]byte)
	if most := s2.MaxEncodedLen(len(raw)); cap(*scratch) < most {
		*scratch = make([]byte, most)
	}
	kind, content := byte(bodyS2), c.dictionary.Encode((*scratch)[:cap(*scratch)], raw)
	if len(content) >= len(raw) {
		kind, content = bodyPlain, raw
	}
	out := append(make([]byte, 0, 1+len(content)+store.ChecksumSize), kind)
	out = append(out, content...)
	if cap(*scratch) <= maxScratch {
		c.scratch.Put(scratch)
	}
	return out
}

// decode returns a copy of the body that was encoded. It does not follow a reference to another
// row; see readBody.
func (c *bodyCodec) decode(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, fmt.Errorf("%w: body without its first byte", ErrCorrupt)
	}
	switch kind, content := stored[0], stored[1:]; kind {
	case bodyPlain:
		return append([]byte{}, content...), nil
	case bodyS2:
		return c.decompress(content)
	default:
		return nil, fmt.Errorf("%w: body of unknown kind %d", ErrCorrupt, kind)
	}
}

func (c *bodyCodec) decompress(block []byte) ([]byte, error) {
	// The length is checked first, because Decode allocates what it claims.
	if size, err := s2.DecodedLen(block); err != nil || size > maxBody {
		return nil, fmt.Errorf("%w: body with an impossible length", ErrCorrupt)
	}
	raw, err := c.dictionary.Decode(nil, block)
	if err != nil {
		return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
	}
	return raw, nil
}

// bodyOf returns the stored body of a row that has the same body as the row seq.
func bodyOf(seq uint64) []byte { return binary.AppendUvarint([]byte{bodyRow}, seq) }

// rowOfBody returns the row that a stored body refers to, or 0 if it is not a reference.
func rowOfBody(stored []byte) uint64 {
	if len(stored) == 0 || stored[0] != bodyRow {
		return 0
	}
	seq, _ := binary.Uvarint(stored[1:])
	return seq
}

// readBody reads the stored body of a row and follows a reference to another row. It returns nil if
// the row has no body.
func readBody(tx *store.Tx, seq uint64) ([]byte, error) {
	stored, err := tx.Get(bucketBodies, seqKey(seq))
	if other := rowOfBody(stored); err == nil && other != 0 {
		if stored, err = tx.Get(bucketBodies, seqKey(other)); err == nil && stored == nil {
			err = fmt.Errorf("%w: event row %d has the body of row %d, which is missing", ErrCorrupt, seq, other)
		}
	}
	return stored, err
}
