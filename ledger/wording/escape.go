// Package wording prepares texts for people: it escapes what a terminal, an editor or a spreadsheet
// would interpret, and gives a number the right form of its noun.
package wording

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Texts from customers and from Stripe end up on terminals and in editors and spreadsheets, which
// interpret some characters instead of showing them. Control characters move the cursor or change
// the settings of a terminal. Bidirectional formatting characters reorder a line, so that it reads
// differently from what it contains (CVE-2021-42574). Such characters are written as escapes, for
// example \u202e.

// obeyed reports whether programs interpret a character instead of showing it: the control
// characters C0, DEL and C1, the bidirectional marks, embeddings, overrides and isolates, and the
// line and paragraph separators.
// https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
func obeyed(c rune) bool {
	switch {
	case c < 0x20, 0x7f <= c && c < 0xa0:
		return true
	case c < 0x61c:
		return false
	}
	return c == 0x61c || c == 0x200e || c == 0x200f || 0x2028 <= c && c <= 0x202e || 0x2066 <= c && c <= 0x2069
}

// Escape returns a text that can be printed on one line. It writes every character that programs
// interpret as an escape, including line feeds and tabs, and bytes that are not UTF-8 as U+FFFD. A
// text without such characters is returned unchanged.
func Escape(s string) string { return escape(s, "") }

// escape is [Escape], but does not change the characters in keep.
func escape(s, keep string) string {
	from := func(s string) int {
		for i, c := range s {
			if c == utf8.RuneError || obeyed(c) && !strings.ContainsRune(keep, c) {
				return i
			}
		}
		return -1
	}
	at := from(s)
	if at < 0 {
		return s
	}
	var b strings.Builder
	for ; at >= 0; at = from(s) {
		b.WriteString(s[:at])
		c, size := utf8.DecodeRuneInString(s[at:])
		s = s[at+size:]
		switch {
		case c == '\n' && keep == "":
			b.WriteString(`\n`)
		case c == '\r' && keep == "":
			b.WriteString(`\r`)
		case c == '\t' && keep == "":
			b.WriteString(`\t`)
		case c == utf8.RuneError:
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	b.WriteString(s)
	return b.String()
}

// EscapeWriter returns a writer to w that escapes as [Escape] does, except for line feeds and tabs.
// Each call of Write must end with a complete character. Escaping does not change the meaning of
// JSON: outside of its strings there are no such characters, and inside of them an escape such as
// \u202e means the same as the character.
func EscapeWriter(w io.Writer) io.Writer { return escapeWriter{w} }

type escapeWriter struct{ w io.Writer }

func (e escapeWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(e.w, escape(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}
