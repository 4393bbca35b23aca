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

// value is one JSON value of a document; the zero value is absent. encoding/json ignores the case
// of names and fails a whole struct for one field of an unexpected type. Here names are exact and
// every field is read on its own. A value is valid until its document is released.
type value struct {
	doc  *document
	node uint32 // index in doc.nodes
}

// raw returns the value's JSON text without surrounding white space.
func (v value) raw() []byte {
	if v.doc == nil {
		return nil
	}
	n := &v.doc.nodes[v.node]
	return v.doc.text[n.start:n.end]
}

func (v value) startsWith(c byte) bool {
	return v.doc != nil && v.doc.text[v.doc.nodes[v.node].start] == c
}

func (v value) isObject() bool { return v.startsWith('{') }

func (v value) isArray() bool { return v.startsWith('[') }

// isNull reports whether the value is null or absent.
func (v value) isNull() bool { return v.doc == nil || v.startsWith('n') }

// fields visits the fields of an object. Of a repeated name it visits only the last field, as most
// JSON parsers do. It visits nothing if v is not an object.
func (v value) fields(visit func(name []byte, field value)) {
	if !v.isObject() {
		return
	}
	d := v.doc
	end := d.nodes[v.node].next
	if d.repeatsName(v.node) {
		d.lastFields(v.node, visit)
		return
	}
	for i := v.node + 1; i < end; i = d.nodes[i+1].next {
		visit(d.name(i), value{d, i + 1})
	}
}

// field returns the last field with the name, as fields would visit it.
func (v value) field(name string) (found value) {
	if !v.isObject() {
		return found
	}
	d := v.doc
	for i := v.node + 1; i < d.nodes[v.node].next; i = d.nodes[i+1].next {
		if n := &d.nodes[i]; (int(n.end-n.start) == len(name)+2 || !n.plain) && string(d.name(i)) == name {
			found = value{d, i + 1}
		}
	}
	return found
}

// maxCompared is the number of names up to which names of the same length are compared with each
// other, more than Stripe's objects have. Objects with more names, or with longer ones, use a map.
const maxCompared = 128

// repeatsName reports whether a name may be repeated in an object. False is certain.
func (d *document) repeatsName(object uint32) bool {
	var (
		newest [maxCompared]uint8      // by length, the number of the newest name; 0 for none
		before [maxCompared + 1]uint8  // by number, that of the name before it of the same length
		nodes  [maxCompared + 1]uint32 // by number, the node of the name
	)
	end := d.nodes[object].next
	count := 0
	for i := object + 1; i < end; i = d.nodes[i+1].next {
		n := &d.nodes[i]
		if count++; !n.plain || count > maxCompared || int(n.end-n.start) >= maxCompared {
			return true
		}
		last := &newest[n.end-n.start]
		for k := *last; k != 0; k = before[k] {
			if o := &d.nodes[nodes[k]]; bytes.Equal(d.text[n.start:n.end], d.text[o.start:o.end]) {
				return true
			}
		}
		before[count], nodes[count], *last = *last, i, uint8(count)
	}
	return false
}

// lastFields visits the last field of each name, from the last name to the first.
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

// name returns the text of a name's node.
func (d *document) name(i uint32) []byte {
	n := &d.nodes[i]
	if n.plain || bytes.IndexByte(d.text[n.start:n.end], '\\') < 0 {
		return d.text[n.start+1 : n.end-1]
	}
	s, _ := value{d, i}.text()
	return []byte(s)
}

// elements visits the elements of an array in order. It visits nothing if v is not an array.
func (v value) elements(visit func(element value)) {
	if !v.isArray() {
		return
	}
	end := v.doc.nodes[v.node].next
	for i := v.node + 1; i < end; i = v.doc.nodes[i].next {
		visit(value{v.doc, i})
	}
}

// text returns a string value; ok is false for other values. Invalid UTF-8 becomes U+FFFD. A plain
// string is not copied, so it is valid only as long as the body is not modified.
func (v value) text() (s string, ok bool) {
	if !v.startsWith('"') {
		return "", false
	}
	raw := v.raw()
	if v.doc.nodes[v.node].plain {
		return unsafe.String(unsafe.SliceData(raw[1:]), len(raw)-2), true
	}
	return unescape(raw), true
}

// unescape decodes a string with escapes as encoding/json does. The parser has checked that every
// escape is complete.
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

// The characters after a backslash and what they mean, except u.
const (
	escapes = "\"\\/bfnrt"
	escaped = "\"\\/\b\f\n\r\t"
)

// hexRune parses four hexadecimal digits.
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

// equals reports whether the value is the string text, which must be ASCII.
func (v value) equals(text string) bool {
	raw := v.raw()
	if len(raw) == len(text)+2 && raw[0] == '"' && string(raw[1:len(raw)-1]) == text {
		return true
	}
	if !v.startsWith('"') || v.doc.nodes[v.node].plain {
		return false
	}
	s, _ := v.text()
	return s == text
}

// integer returns a number without fraction and exponent that fits 64 bits. Money is never a float.
func (v value) integer() (n int64, ok bool) {
	n, err := strconv.ParseInt(string(v.raw()), 10, 64)
	return n, err == nil
}

func (v value) boolean() (b, ok bool) {
	switch {
	case v.startsWith('t'):
		return true, true
	case v.startsWith('f'):
		return false, true
	}
	return false, false
}

// validUTF8 returns b as a string with invalid UTF-8 replaced by U+FFFD.
func validUTF8(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }
