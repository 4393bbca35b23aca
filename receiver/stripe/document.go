package stripe

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// document is a parsed JSON body. Parsing checks the syntax (RFC 8259, as strictly as
// encoding/json) and records where each value begins and ends, so that reading a field or skipping
// an object needs no further scan. Decoding an event takes half the time that encoding/json needs
// to validate it (BenchmarkDecode, BenchmarkValidation).
type document struct {
	text  []byte
	nodes []node // in text order: names and values of an object, or elements of an array, follow it
}

// node is one value, or the name of a field.
type node struct {
	start, end uint32
	next       uint32 // index of the node after this one and its contents
	plain      bool   // an ASCII string without escapes
}

// maxNesting is the maximum depth of arrays and objects, as in encoding/json.
const maxNesting = 10_000

var documents = sync.Pool{New: func() any { return &document{nodes: make([]node, 0, 256)} }}

// parse parses a body that is one JSON value. The caller must release the document when no value of
// it is in use any more.
func parse(body []byte) (*document, bool) {
	d := documents.Get().(*document)
	d.text, d.nodes = body, d.nodes[:0]
	if uint64(len(body)) >= 1<<31 || !d.read() {
		d.release()
		return nil, false
	}
	return d, true
}

// maxPooledNodes is the size up to which a document's nodes are reused for another document.
const maxPooledNodes = 16 << 10

func (d *document) release() {
	if d.text = nil; cap(d.nodes) <= maxPooledNodes {
		documents.Put(d)
	}
}

func (d *document) root() value { return value{doc: d} }

// read parses the text. While an object or array is open, its node's next holds the index of its
// parent.
func (d *document) read() bool {
	const none = ^uint32(0)
	text := d.text
	open, depth := none, 0
	i := skipSpace(text, 0)
	for {
		// A value begins at i.
		if i >= len(text) {
			return false
		}
		c := text[i]
		switch c {
		case '{', '[':
			if depth++; depth > maxNesting {
				return false
			}
			d.nodes = append(d.nodes, node{start: uint32(i), next: open})
			open = uint32(len(d.nodes) - 1)
			i = skipSpace(text, i+1)
			if i >= len(text) {
				return false
			}
			if text[i] != c+2 { // not empty: in ASCII the closing bracket is the opening one + 2
				if c == '[' {
					continue
				}
				if i = d.readName(i); i < 0 {
					return false
				}
				continue
			}
		case '"':
			end, plain := skipString(text, i)
			if end < 0 {
				return false
			}
			d.leaf(i, end, plain)
			i = end
		default:
			end := skipWord(text, i)
			if end < 0 {
				return false
			}
			d.leaf(i, end, false)
			i = end
		}
		// A value has ended before i, or an empty object or array ends at it.
		for {
			if i = skipSpace(text, i); open == none {
				return i == len(text)
			}
			if i >= len(text) {
				return false
			}
			o := &d.nodes[open]
			object := text[o.start] == '{'
			if text[i] == ',' && uint32(len(d.nodes)) > open+1 {
				i = skipSpace(text, i+1)
				if object {
					if i = d.readName(i); i < 0 {
						return false
					}
				}
				break
			}
			if text[i] != text[o.start]+2 {
				return false
			}
			i++
			open, o.end, o.next = o.next, uint32(i), uint32(len(d.nodes))
			depth--
		}
	}
}

func (d *document) leaf(start, end int, plain bool) {
	d.nodes = append(d.nodes, node{start: uint32(start), end: uint32(end), next: uint32(len(d.nodes) + 1), plain: plain})
}

// readName parses a field's name and colon and returns where the value begins, or -1.
func (d *document) readName(i int) int {
	if i >= len(d.text) || d.text[i] != '"' {
		return -1
	}
	end, plain := skipString(d.text, i)
	if end < 0 {
		return -1
	}
	d.leaf(i, end, plain)
	if i = skipSpace(d.text, end); i >= len(d.text) || d.text[i] != ':' {
		return -1
	}
	return skipSpace(d.text, i+1)
}

const eightSpaces = 0x2020202020202020

// skipSpace returns the first position from i on without white space, or the text's length.
func skipSpace(text []byte, i int) int {
	if i < len(text) && text[i] > ' ' {
		return i
	}
	return skipSpaces(text, i)
}

// skipSpaces is skipSpace for a text that has white space at i. Most of it is indentation after a
// line break, so it compares eight blanks at once.
func skipSpaces(text []byte, i int) int {
	for i < len(text) {
		switch text[i] {
		case ' ', '\n', '\r', '\t':
		default:
			return i
		}
		for i++; len(text)-i >= 8; i += 8 {
			if other := binary.LittleEndian.Uint64(text[i:]) ^ eightSpaces; other != 0 {
				i += bits.TrailingZeros64(other) / 8
				break
			}
		}
	}
	return i
}

const (
	ones     = 0x0101010101010101
	highBits = 0x8080808080808080
)

// skipString returns the position after the string that begins at i and whether the string is
// plain, or -1 if it is not valid. It examines eight bytes at once with the arithmetic of
// https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord
func skipString(text []byte, i int) (end int, plain bool) {
	plain = true
	for i++; ; {
		for len(text)-i >= 8 {
			w := binary.LittleEndian.Uint64(text[i:])
			quote, slash := w^('"'*ones), w^('\\'*ones)
			// Marks each byte that is a quote, a backslash, a control character or not ASCII. The
			// lowest mark is correct; marks above it may be false.
			marks := (quote-ones)&^quote | (slash-ones)&^slash | (w - ' '*ones) | w
			if marks &= highBits; marks == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(marks) / 8
			break
		}
		if i >= len(text) {
			return -1, false
		}
		switch c := text[i]; {
		case c == '"':
			return i + 1, plain
		case c == '\\':
			plain = false
			if i = skipEscape(text, i); i < 0 {
				return -1, false
			}
		case c < ' ':
			return -1, false
		case c >= 0x80:
			plain = false
			i++
		default:
			i++
		}
	}
}

// skipEscape returns the position after the escape that begins at i, or -1 if it is invalid.
func skipEscape(text []byte, i int) int {
	if i+1 >= len(text) {
		return -1
	}
	switch text[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		if i+6 > len(text) {
			return -1
		}
		for _, c := range text[i+2 : i+6] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return -1
			}
		}
		return i + 6
	}
	return -1
}

// skipWord returns the position after the number, true, false or null that begins at i, or -1.
func skipWord(text []byte, i int) int {
	for _, word := range [...]string{"null", "true", "false"} {
		if len(text)-i >= len(word) && string(text[i:i+len(word)]) == word {
			return i + len(word)
		}
	}
	if i < len(text) && text[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else if !digits() {
		return -1
	}
	if i < len(text) && text[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		if i++; i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}
