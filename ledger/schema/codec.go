package schema

import (
	"encoding/binary"
	"slices"

	"tillhook/ledger/store"
)

// encoder appends the fields of a value to buf: numbers as varints, texts as described in words.go.
type encoder struct {
	buf     []byte
	shared  string // the part of the value's own id that other ids in it may share; see sharedPart
	earlier earlier
}

func (e *encoder) byte(b byte)   { e.buf = append(e.buf, b) }
func (e *encoder) uint(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *encoder) int(n int64)   { e.buf = binary.AppendVarint(e.buf, n) }

// string writes the length of a text and its bytes, for texts that are not in the string table.
func (e *encoder) string(s string) { e.uint(uint64(len(s))); e.buf = append(e.buf, s...) }

// flags writes up to 8 booleans as one byte.
func (e *encoder) flags(bs ...bool) {
	var b byte
	for i, set := range bs {
		if set {
			b |= 1 << i
		}
	}
	e.byte(b)
}

// texts writes a map in the order of its keys, so that equal maps become equal bytes.
func (e *encoder) texts(m map[string]string) {
	e.uint(uint64(len(m)))
	var few [8]string
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		e.text(k)
		e.text(m[k])
	}
}

// decoder reads the fields that an encoder wrote. After the first invalid field, err is set and
// every further field reads as zero, so callers check the error once, with end.
type decoder struct {
	buf     []byte
	err     error
	shared  string // as in encoder
	earlier earlier
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = store.ErrCorrupt
	}
	d.buf = nil
}

func (d *decoder) byte() byte {
	if len(d.buf) == 0 {
		d.fail()
		return 0
	}
	b := d.buf[0]
	d.buf = d.buf[1:]
	return b
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.buf)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[size:]
	return n
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.buf)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[size:]
	return n
}

func (d *decoder) string() string { return d.take(d.uint()) }

func (d *decoder) flags(bs ...*bool) {
	b := d.byte()
	for i, set := range bs {
		*set = b&(1<<i) != 0
	}
	if b>>len(bs) != 0 {
		d.fail()
	}
}

func (d *decoder) texts() map[string]string {
	n := d.uint()
	if n > uint64(len(d.buf)) { // an entry takes at least two bytes; do not allocate for more
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := d.text()
		m[k] = d.text()
	}
	return m
}

// end returns an error if a field was invalid or if there are bytes after the last field.
func (d *decoder) end() error {
	if len(d.buf) != 0 {
		d.fail()
	}
	return d.err
}
