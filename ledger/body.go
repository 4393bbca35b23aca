package ledger

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// How a body is stored: one byte, then the bytes.
const (
	bodyPlain = 0
	bodyZstd  = 1
)

// maxBody bounds what a stored body may unpack to; the receiver's own limit is far below.
const maxBody = 64 << 20

// bodyCodec packs and unpacks raw bodies. Both ways may be used from many goroutines at once.
type bodyCodec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newBodyCodec() (*bodyCodec, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), // the stored value has a checksum of its own
		zstd.WithWindowSize(256<<10),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("body compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("body decompressor: %w", err)
	}
	return &bodyCodec{enc: enc, dec: dec}, nil
}

// encode returns the body as it is stored, never more than a byte longer than it came.
func (c *bodyCodec) encode(raw []byte) []byte {
	out := make([]byte, 1, 1+len(raw)/2+checksumSize)
	out[0] = bodyZstd
	if out = c.enc.EncodeAll(raw, out); len(out) <= len(raw) {
		return out
	}
	out = make([]byte, 1, 1+len(raw)+checksumSize)
	out[0] = bodyPlain
	return append(out, raw...)
}

// decode returns a copy of the body as it came.
func (c *bodyCodec) decode(stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, fmt.Errorf("%w: body without its first byte", ErrCorrupt)
	}
	switch stored[0] {
	case bodyPlain:
		return append([]byte{}, stored[1:]...), nil
	case bodyZstd:
		raw, err := c.dec.DecodeAll(stored[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("%w: body: %w", ErrCorrupt, err)
		}
		return raw, nil
	}
	return nil, fmt.Errorf("%w: body of unknown kind %d", ErrCorrupt, stored[0])
}

func (c *bodyCodec) close() {
	c.dec.Close()
}
