package stripe

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// value is one JSON value of a document; the zero value is none. encoding/json matches names whatever their
// case, and one field of an unexpected type spoils its whole struct; here a name is that name, and every
// field is read by itself. It is good for as long as its document.
type value struct {
	of *document
	at uint32 // its node
}

// raw is the value's text, without space around it.
func (v value) raw() []byte {
	if v.of == nil {
		return nil
	}
	n := &v.of.nodes[v.at]
	return v.of.text[n.start:n.end]
}

func (v value) begins(c byte) bool { return v.of != nil && v.of.text[v.of.nodes[v.at].start] == c }

func (v value) isObject() bool { return v.begins('{') }

func (v value) isArray() bool { return v.begins('[') }

// isNull: absent and null are the same to us.
func (v value) isNull() bool { return v.of == nil || v.begins('n') }

// fields visits an object's fields; of a name that comes twice only the last one, as everywhere in JSON practice.
// It visits nothing if v is not an object.
func (v value) fields(visit func(name []byte, field value)) {
	if !v.isObject() {
		return
	}
	d := v.of
	end := d.nodes[v.at].next
	if d.repeatsName(v.at) {
		d.lastFields(v.at, visit)
		return
	}
	for i := v.at + 1; i < end; i = d.nodes[i+1].next {
		visit(d.name(i), value{d, i + 1})
	}
}

// field is the last field of that name, as fields would visit it.
func (v value) field(name string) (found value) {
	if !v.isObject() {
		return found
	}
	d := v.of
	for i := v.at + 1; i < d.nodes[v.at].next; i = d.nodes[i+1].next {
		if n := &d.nodes[i]; (int(n.end-n.start) == len(name)+2 || !n.plain) && string(d.name(i)) == name {
			found = value{d, i + 1}
		}
	}
	return found
}

// many names are compared by a map: more than Stripe's objects have.
const many = 128

// repeatsName tells whether a name may stand twice in an object: it is not wrong when it says no.
func (d *document) repeatsName(object uint32) bool {
	var seen [4]uint64 // a bit for what the names' looks come to
	end := d.nodes[object].next
	count := 0
	for i := object + 1; i < end; i = d.nodes[i+1].next {
		n := &d.nodes[i]
		if count++; !n.plain || count > many {
			return true
		}
		name := d.text[n.start+1 : n.end-1]
		look := uint(len(name))
		if look > 0 {
			look += uint(name[0])*7 + uint(name[look-1])*31 + uint(name[look/2])*61
		}
		word, bit := look/64%4, uint64(1)<<(look%64)
		if seen[word]&bit != 0 && d.stands(name, object+1, i) {
			return true
		}
		seen[word] |= bit
	}
	return false
}

// stands tells whether a plain name is among those from one node on and before another.
func (d *document) stands(name []byte, from, to uint32) bool {
	for i := from; i < to; i = d.nodes[i+1].next {
		if n := &d.nodes[i]; int(n.end-n.start) == len(name)+2 && bytes.Equal(d.text[n.start+1:n.end-1], name) {
			return true
		}
	}
	return false
}

// lastFields visits the last field of each name, the last one first.
func (d *document) lastFields(object uint32, visit func(name []byte, field value)) {
	var at []uint32
	for i := object + 1; i < d.nodes[object].next; i = d.nodes[i+1].next {
		at = append(at, i)
	}
	seen := make(map[string]bool, len(at))
	for _, i := range slices.Backward(at) {
		if name := d.name(i); !seen[string(name)] {
			seen[string(name)] = true
			visit(name, value{d, i + 1})
		}
	}
}

// name is the text of a name's node.
func (d *document) name(i uint32) []byte {
	n := &d.nodes[i]
	if n.plain || bytes.IndexByte(d.text[n.start:n.end], '\\') < 0 {
		return d.text[n.start+1 : n.end-1]
	}
	s, _ := value{d, i}.text()
	return []byte(s)
}

// elements visits an array's elements in order; nothing if v is not an array.
func (v value) elements(visit func(element value)) {
	if !v.isArray() {
		return
	}
	end := v.of.nodes[v.at].next
	for i := v.at + 1; i < end; i = v.of.nodes[i].next {
		visit(value{v.of, i})
	}
}

// text reads a string; ok is false for anything else. What is no UTF-8 becomes U+FFFD. A plain one is not copied: it is
// good for as long as nobody writes to the body.
func (v value) text() (s string, ok bool) {
	if !v.begins('"') {
		return "", false
	}
	raw := v.raw()
	if v.of.nodes[v.at].plain {
		return unsafe.String(unsafe.SliceData(raw[1:]), len(raw)-2), true
	}
	return unescape(raw), true
}

// unescape reads a string that is not plain, as encoding/json does. It was parsed: every escape in it is whole.
func unescape(raw []byte) string {
	raw = raw[1 : len(raw)-1]
	s := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] == '\\' {
			if at := strings.IndexByte(escapes, raw[i+1]); at >= 0 {
				s, i = append(s, escaped[at]), i+2
				continue
			}
			r := hexRune(raw[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				var low rune = utf8.RuneError
				if len(raw)-i >= 6 && raw[i] == '\\' && raw[i+1] == 'u' {
					low = hexRune(raw[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			s = utf8.AppendRune(s, r)
			continue
		}
		if raw[i] < utf8.RuneSelf {
			s, i = append(s, raw[i]), i+1
			continue
		}
		r, size := utf8.DecodeRune(raw[i:])
		s, i = utf8.AppendRune(s, r), i+size
	}
	return string(s)
}

// What stands behind a backslash, and what it stands for, but for u.
const (
	escapes = "\"\\/bfnrt"
	escaped = "\"\\/\b\f\n\r\t"
)

// hexRune reads four hexadecimal digits.
func hexRune(digits []byte) (r rune) {
	for _, c := range digits[:4] {
		switch {
		case c <= '9':
			c -= '0'
		default:
			c = c&^0x20 - 'A' + 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// is tells whether the value is that text, which is plain ASCII.
func (v value) is(text string) bool {
	raw := v.raw()
	if len(raw) == len(text)+2 && raw[0] == '"' && string(raw[1:len(raw)-1]) == text {
		return true
	}
	if !v.begins('"') || v.of.nodes[v.at].plain {
		return false
	}
	s, _ := v.text()
	return s == text
}

// integer reads a number without point and exponent that fits 64 bits. Money is never a float.
func (v value) integer() (n int64, ok bool) {
	n, err := strconv.ParseInt(string(v.raw()), 10, 64)
	return n, err == nil
}

func (v value) boolean() (b, ok bool) {
	switch {
	case v.begins('t'):
		return true, true
	case v.begins('f'):
		return false, true
	}
	return false, false
}

// valid makes a text of bytes; what is no UTF-8 becomes U+FFFD.
func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }
