package stripe

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// value is the text of one JSON value, known to be valid, without space around it; nil where there
// is none. encoding/json matches names whatever their case, and one field of an unexpected type spoils
// its whole struct; here a name is that name, and every field is read by itself.
type value []byte

// parse checks that a body is one JSON value.
func parse(body []byte) (value, bool) {
	if !json.Valid(body) {
		return nil, false
	}
	return value(bytes.Trim(body, " \t\r\n")), true
}

func (v value) isObject() bool { return len(v) > 0 && v[0] == '{' }

// fields visits an object's fields, the last one first; of a name that comes twice the last one stands, as
// everywhere in JSON practice, and the others are not visited. It visits nothing if v is not an object.
func (v value) fields(visit func(name []byte, field value)) {
	if !v.isObject() {
		return
	}
	type field struct{ name, value value }
	const few = 64 // more than Stripe's objects have
	list := make([]field, 0, few)
	for i := v.skipSpace(1); v[i] != '}'; {
		end := v.skipString(i)
		name := v[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			s, _ := v[i:end].text()
			name = value(s)
		}
		i = v.skipSpace(v.skipSpace(end) + 1) // over the colon
		end = v.skipValue(i)
		list = append(list, field{name, v[i:end]})
		if i = v.skipSpace(end); v[i] == ',' {
			i = v.skipSpace(i + 1)
		}
	}
	if len(list) > few {
		seen := make(map[string]bool, len(list))
		for _, f := range slices.Backward(list) {
			if !seen[string(f.name)] {
				seen[string(f.name)] = true
				visit(f.name, f.value)
			}
		}
		return
	}
	var seen uint64 // a bit for each length of a name there was, so that few are compared
	for i := len(list) - 1; i >= 0; i-- {
		f := list[i]
		bit := uint64(1) << (len(f.name) % 64)
		if seen&bit == 0 || !slices.ContainsFunc(list[i+1:], func(later field) bool { return bytes.Equal(later.name, f.name) }) {
			visit(f.name, f.value)
		}
		seen |= bit
	}
}

func (v value) isArray() bool { return len(v) > 0 && v[0] == '[' }

// elements visits an array's elements in order; nothing if v is not an array.
func (v value) elements(visit func(element value)) {
	if !v.isArray() {
		return
	}
	for i := v.skipSpace(1); v[i] != ']'; {
		end := v.skipValue(i)
		visit(v[i:end])
		if i = v.skipSpace(end); v[i] == ',' {
			i = v.skipSpace(i + 1)
		}
	}
}

func (v value) skipSpace(i int) int {
	for v[i] == ' ' || v[i] == '\n' || v[i] == '\r' || v[i] == '\t' {
		i++
	}
	return i
}

// skipString returns the position behind the string that begins at i.
func (v value) skipString(i int) int {
	for i++; v[i] != '"'; i++ {
		if v[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the position behind the value that begins at i.
func (v value) skipValue(i int) int {
	switch v[i] {
	case '"':
		return v.skipString(i)
	case '{', '[':
		for depth := 0; ; {
			switch v[i] {
			case '"':
				i = v.skipString(i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(v) && bytes.IndexByte([]byte(",]} \t\r\n"), v[i]) < 0 {
		i++
	}
	return i
}

// text reads a string; ok is false for anything else. What is no UTF-8 becomes U+FFFD.
func (v value) text() (s string, ok bool) {
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", false
	}
	return s, true
}

// integer reads a number without point and exponent that fits 64 bits. Money is never a float.
func (v value) integer() (n int64, ok bool) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	return n, err == nil
}

func (v value) boolean() (b, ok bool) {
	switch string(v) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// isNull: absent and null are the same to us.
func (v value) isNull() bool { return len(v) == 0 || v[0] == 'n' }
