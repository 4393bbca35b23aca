package ledger

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// form is what bodies of one type have in common: the text between the values in which they differ, and what is known of each
// of those. A body of that form is packed as its values alone, which takes less time and space than any compressor, and
// holds less of a body than one would keep.
type form struct {
	typ   string   // of the events
	texts []string // one before each value, and one behind the last
	slots []slot
}

// slot is where a value stands: a string, without its quotes, or a number.
type slot struct {
	begins, ends string // what the values there begin and end with
	like         int    // an earlier value that they resemble; -1 if there is none
}

// maxSlots bounds the values of a form.
const maxSlots = 250

// A value is packed as a byte that tells how, with a number of characters in the bits above (if it is manyChars, a varint
// behind it), and then that many characters: those that are not known from elsewhere.
const (
	packPlain   = iota // as they are
	packBegun          // as they are, between what the values there begin and end with
	packHex            // between these, digits and a to f, two in a byte
	packWord           // between these, letters, digits, _ and -, four in three bytes
	packUUID           // between these; no characters but 16 bytes
	packSame           // it is the value that it resembles
	packLonger         // behind that one, as packWord
	packSibling        // behind what the values there begin with and the first 16 characters of that one's id, as packWord

	packBits  = 3
	manyChars = 1<<(8-packBits) - 1
)

// pack appends a body's values to out. ok is false for a body that is not of this form.
func (f *form) pack(out, raw []byte) (_ []byte, ok bool) {
	var values [maxSlots][]byte
	rest := raw
	for i := range f.slots {
		before := f.texts[i]
		if len(rest) < len(before) || string(rest[:len(before)]) != before {
			return nil, false
		}
		rest = rest[len(before):]
		n := valueEnd(rest, before[len(before)-1] == '"')
		if n < 0 {
			return nil, false
		}
		values[i], rest = rest[:n], rest[n:]
		var other []byte
		if like := f.slots[i].like; like >= 0 {
			other = values[like]
		}
		out = f.slots[i].pack(out, values[i], other)
	}
	return out, string(rest) == f.texts[len(f.slots)]
}

// valueEnd is where a value that a text begins with ends; -1 if it does not.
func valueEnd(text []byte, quoted bool) int {
	for i, c := range text {
		if quoted && c == '"' || !quoted && !isNumeric(c) {
			return i
		}
	}
	return -1
}

func isNumeric(c byte) bool {
	return '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

func (s *slot) pack(out, value, other []byte) []byte {
	if s.like >= 0 {
		if string(value) == string(other) {
			return packHead(out, packSame, 0)
		}
		if tail, ok := cutPrefix(value, s.begins); ok {
			if core := siblings(other); core != nil && len(tail) >= sharedSize && string(tail[:sharedSize]) == string(core) && isWord(tail[sharedSize:]) {
				tail = tail[sharedSize:]
				return packLetters(packHead(out, packSibling, len(tail)), tail)
			}
		}
		if n := len(other); len(value) >= n && string(value[:n]) == string(other) && isWord(value[n:]) {
			return packLetters(packHead(out, packLonger, len(value)-n), value[n:])
		}
	}
	inner, ok := cutPrefix(value, s.begins)
	if n := len(inner) - len(s.ends); !ok || n < 0 || string(inner[n:]) != s.ends {
		return append(packHead(out, packPlain, len(value)), value...)
	} else {
		inner = inner[:n]
	}
	switch {
	case isUUID(inner):
		out = packHead(out, packUUID, 0)
		for _, part := range [...][]byte{inner[:8], inner[9:13], inner[14:18], inner[19:23], inner[24:]} {
			out, _ = hex.AppendDecode(out, part) // isUUID has looked
		}
		return out
	case isHex(inner):
		return packDigits(packHead(out, packHex, len(inner)), inner)
	case isWord(inner):
		return packLetters(packHead(out, packWord, len(inner)), inner)
	}
	return append(packHead(out, packBegun, len(inner)), inner...)
}

func cutPrefix(value []byte, prefix string) ([]byte, bool) {
	if len(value) < len(prefix) || string(value[:len(prefix)]) != prefix {
		return nil, false
	}
	return value[len(prefix):], true
}

// siblings is what an id shares with others of the same payment: the characters behind its underscore. It is nil for
// what is too short to be such an id.
func siblings(id []byte) []byte {
	for i, c := range id {
		if c == '_' {
			if len(id)-i-1 < sharedSize {
				return nil
			}
			return id[i+1 : i+1+sharedSize]
		}
	}
	return nil
}

// unpack is the body whose values were packed.
func (f *form) unpack(packed []byte) ([]byte, error) {
	var values [maxSlots][]byte
	d := decoder{buf: packed}
	raw := make([]byte, 0, 4096)
	for i := range f.slots {
		raw = append(raw, f.texts[i]...)
		s := &f.slots[i]
		var other []byte
		if s.like >= 0 {
			other = values[s.like]
		}
		from := len(raw)
		raw = s.unpack(raw, &d, other)
		if len(raw) > maxBody {
			d.fail()
		}
		if d.err != nil {
			return nil, d.err
		}
		values[i] = raw[from:len(raw):len(raw)]
	}
	return append(raw, f.texts[len(f.slots)]...), d.end()
}

func (s *slot) unpack(raw []byte, d *decoder, other []byte) []byte {
	first := d.byte()
	how, n := first&(1<<packBits-1), uint64(first>>packBits)
	if n == manyChars {
		if n = d.uint(); n < manyChars {
			d.fail()
		}
	}
	switch how {
	case packPlain:
		return append(raw, d.take(n)...)
	case packSame, packLonger, packSibling:
		if s.like < 0 {
			d.fail()
			return raw
		}
	}
	switch how {
	case packSame:
		return append(raw, other...)
	case packLonger:
		return unpackLetters(append(raw, other...), d, n)
	case packSibling:
		core := siblings(other)
		if core == nil {
			d.fail()
		}
		return unpackLetters(append(append(raw, s.begins...), core...), d, n)
	}
	raw = append(raw, s.begins...)
	switch how {
	case packBegun:
		raw = append(raw, d.take(n)...)
	case packHex:
		raw = unpackDigits(raw, d, n)
	case packWord:
		raw = unpackLetters(raw, d, n)
	case packUUID:
		b := d.take(16)
		if d.err == nil {
			raw = fmt.Appendf(raw, "%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
		}
	}
	return append(raw, s.ends...)
}

func packHead(out []byte, how byte, n int) []byte {
	if n < manyChars {
		return append(out, byte(n)<<packBits|how)
	}
	e := encoder{buf: append(out, manyChars<<packBits|how)}
	e.uint(uint64(n))
	return e.buf
}

// letters are the 64 characters of words, digits are those of hex, each at its number.
const (
	letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-"
	digits  = "0123456789abcdef"
	none    = 0xff
)

var letterNumbers, digitNumbers = numbersOf(letters), numbersOf(digits)

func numbersOf(chars string) (numbers [256]byte) {
	for i := range numbers {
		numbers[i] = none
	}
	for i := range len(chars) {
		numbers[chars[i]] = byte(i)
	}
	return numbers
}

func consistsOf(value []byte, numbers *[256]byte) bool {
	for _, c := range value {
		if numbers[c] == none {
			return false
		}
	}
	return true
}

func isWord(value []byte) bool { return consistsOf(value, &letterNumbers) }
func isHex(value []byte) bool  { return consistsOf(value, &digitNumbers) }

// isUUID tells whether a value is one in lower case.
func isUUID(v []byte) bool {
	return len(v) == 36 && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-' &&
		isHex(v[:8]) && isHex(v[9:13]) && isHex(v[14:18]) && isHex(v[19:23]) && isHex(v[24:])
}

// packLetters appends six bits for each letter of a word, packDigits four for each digit.
func packLetters(out, word []byte) []byte { return packChars(out, word, &letterNumbers, 6) }
func packDigits(out, word []byte) []byte  { return packChars(out, word, &digitNumbers, 4) }

func packChars(out, word []byte, numbers *[256]byte, width int) []byte {
	var acc uint32
	bits := 0
	for _, c := range word {
		acc = acc<<width | uint32(numbers[c])
		for bits += width; bits >= 8; bits -= 8 {
			out = append(out, byte(acc>>(bits-8)))
		}
	}
	if bits > 0 {
		out = append(out, byte(acc<<(8-bits)))
	}
	return out
}

func unpackLetters(raw []byte, d *decoder, n uint64) []byte {
	return unpackChars(raw, d, n, letters, 6)
}
func unpackDigits(raw []byte, d *decoder, n uint64) []byte { return unpackChars(raw, d, n, digits, 4) }

func unpackChars(raw []byte, d *decoder, n uint64, chars string, width int) []byte {
	if n > 2*uint64(len(d.buf)) { // no character takes less than four bits
		d.fail()
		return raw
	}
	packed := d.take((n*uint64(width) + 7) / 8)
	var acc uint32
	bits := 0
	for i := 0; i < len(packed); i++ {
		acc = acc<<8 | uint32(packed[i])
		for bits += 8; bits >= width && n > 0; n-- {
			bits -= width
			raw = append(raw, chars[acc>>bits&(1<<width-1)])
		}
	}
	if acc&(1<<bits-1) != 0 { // what fills the last byte is zeros
		d.fail()
	}
	return raw
}

// formsMark begins a dictionary that is made of forms; those of before begin with JSON.
const formsMark = 0

func encodeForms(forms []*form) []byte {
	e := encoder{buf: []byte{formsMark}}
	encodeAll(&e, forms, func(e *encoder, f **form) {
		e.string((*f).typ)
		e.string((*f).texts[0])
		i := 0
		encodeAll(e, (*f).slots, func(e *encoder, s *slot) {
			i++
			e.string(s.begins)
			e.string(s.ends)
			e.uint(uint64(s.like + 1))
			e.string((*f).texts[i])
		})
	})
	return e.buf
}

func decodeForms(value []byte) ([]*form, error) {
	d := decoder{buf: value}
	if d.byte() != formsMark {
		d.fail()
	}
	forms := decodeAll(&d, func() *form {
		f := &form{typ: d.string(), texts: []string{d.string()}}
		f.slots = decodeAll(&d, func() slot {
			s := slot{begins: d.string(), ends: d.string(), like: int(min(d.uint(), maxSlots+1)) - 1}
			if text := f.texts[len(f.texts)-1]; text == "" || s.like >= len(f.texts)-1 || len(f.texts) > maxSlots {
				d.fail()
			}
			f.texts = append(f.texts, d.string())
			return s
		})
		return f
	})
	return forms, d.end()
}

// text is what bodies of the form have in common, for a compressor that begins with it.
func (f *form) text() string {
	var b strings.Builder
	for i, text := range f.texts {
		b.WriteString(text)
		if i < len(f.slots) {
			b.WriteString(f.slots[i].begins)
			b.WriteString(f.slots[i].ends)
		}
	}
	return b.String()
}
