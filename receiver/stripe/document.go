package stripe

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// document is a body that was read once, from its first byte to its last: it is known to be valid JSON
// (RFC 8259, to the letter that encoding/json takes), and where each value in it begins and ends. Looking at a
// field or passing over an object costs nothing more, however deep it lies.
type document struct {
	text  []byte
	nodes []node // in the order of the text: an object's names and values, an array's elements, follow it
}

// node is one value, or the name of a field.
type node struct {
	start, end uint32
	next       uint32 // the node behind this one and all that is in it
	plain      bool   // a string of ASCII without escapes
}

// maxNesting of arrays and objects, as encoding/json has it.
const maxNesting = 10_000

var documents = sync.Pool{New: func() any { return &document{nodes: make([]node, 0, 256)} }}

// parse checks that a body is one JSON value and finds its parts. The document is released when nothing refers to
// it any more.
func parse(body []byte) (*document, bool) {
	d := documents.Get().(*document)
	d.text, d.nodes = body, d.nodes[:0]
	if uint64(len(body)) >= 1<<31 || !d.read() {
		d.release()
		return nil, false
	}
	return d, true
}

// maxKept nodes are kept for the next document.
const maxKept = 16 << 10

func (d *document) release() {
	if d.text = nil; cap(d.nodes) <= maxKept {
		documents.Put(d)
	}
}

func (d *document) root() value { return value{of: d} }

// read goes through the text. An object or array that is still open has its parent in next.
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
			if text[i] != c+2 { // not its end: in ASCII both are two places on
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

// readName reads a field's name and its colon, and returns where the value begins; -1 if that is not what stands there.
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

// skipSpace returns the first position from i on that holds no space, or the text's length.
func skipSpace(text []byte, i int) int {
	if i < len(text) && text[i] > ' ' {
		return i
	}
	return skipSpaces(text, i)
}

// skipSpaces is skipSpace where there is some: most of it stands behind a line's end, many blanks together.
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
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// skipString returns the position behind the string that begins at i, and whether it is all plain; -1 if it is
// not valid. Eight bytes are looked at together, by the arithmetic of
// https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord.
func skipString(text []byte, i int) (end int, plain bool) {
	plain = true
	for i++; ; {
		for len(text)-i >= 8 {
			w := binary.LittleEndian.Uint64(text[i:])
			quote, slash := w^('"'*ones), w^('\\'*ones)
			// A byte is marked that is a quote, a backslash, a control character or not ASCII. The lowest mark is right;
			// those above it may be false.
			marks := (quote-ones)&^quote | (slash-ones)&^slash | (w - ' '*ones) | w
			if marks &= highs; marks == 0 {
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

// skipEscape returns the position behind the escape that begins at i; -1 if there is no such escape.
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

// skipWord returns the position behind the number, true, false or null that begins at i; -1 if none does.
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
