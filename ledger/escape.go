package ledger

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Texts of customers and of Stripe end up on terminals and in editors and spreadsheets, which obey
// some characters instead of showing them: control characters move the cursor or change a
// terminal's settings, and the bidirectional ones reorder the line, so that it reads as something
// else than it is (CVE-2021-42574). They are written as \u202e.

// obeyed reports whether a character is one that programs act on: C0, DEL and C1, the bidirectional
// marks, embeddings, overrides and isolates, and the separators of lines and paragraphs.
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

// Escape returns a text for one line of output: every character that programs act on is written as
// an escape, line feeds and tabs too, and bytes that are not UTF-8 as U+FFFD. A text without any is
// returned as it is.
func Escape(s string) string { return escape(s, "") }

// escape leaves the characters in keep as they are.
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

// EscapeWriter returns a writer that escapes what is written to w as [Escape] does, but for line
// feeds and tabs. Each call of Write has to end with a whole character. JSON stays JSON of the same
// meaning: outside of its strings there are no such characters, and in them \u202e is the same as
// the character.
func EscapeWriter(w io.Writer) io.Writer { return escapeWriter{w} }

type escapeWriter struct{ w io.Writer }

func (e escapeWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(e.w, escape(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}
