package wording_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"tillhook/ledger/wording"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		// right-to-left letters and joiners are not escaped
		"überwiesen, 3 € 日本 👩‍🚀 שלום": "überwiesen, 3 € 日本 👩‍🚀 שלום",
		"a\nb\r\tc":                                        `a\nb\r\tc`,
		"\x1b[2J\x07\x00\x7f":                              `\u001b[2J\u0007\u0000\u007f`,
		"\u0080\u009b\u009f\u00a0":                         `\u0080\u009b\u009f` + "\u00a0",
		"\u061c\u200e\u200f":                               `\u061c\u200e\u200f`,
		"\u202a\u202b\u202c\u202d\u202e\u2028\u2029":       `\u202a\u202b\u202c\u202d\u202e\u2028\u2029`,
		"\u2066\u2067\u2068\u2069":                         `\u2066\u2067\u2068\u2069`,
		"\u061b\u061d\u200d\u2010\u2027\u202f\u2065\u206a": "\u061b\u061d\u200d\u2010\u2027\u202f\u2065\u206a",
		"a\x9bb\xffc":                                      "a\ufffdb\ufffdc",
		`C:\new \u202e`:                                    `C:\new \u202e`,
	} {
		if got := wording.Escape(text); got != want || wording.Escape(got) != want {
			t.Errorf("%q: got %q, want %q, and escaped twice %q", text, got, want, wording.Escape(got))
		}
	}
}

func TestEscapeWriter(t *testing.T) {
	var out bytes.Buffer
	w := wording.EscapeWriter(&out)
	if n, err := fmt.Fprint(w, "one\ttwo\nthr\ree\u202e\x9b\n"); n != 19 || err != nil {
		t.Errorf("the writer returned %d bytes, %v", n, err)
	}
	if want := "one\ttwo\nthr\\u000dee\\u202e\ufffd\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}

	var text string
	for c := rune(0); c < 0x2100; c++ {
		text += string(c)
	}
	out.Reset()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode([]string{text}); err != nil {
		t.Fatal(err)
	}
	var again []string
	if err := json.Unmarshal(out.Bytes(), &again); err != nil || again[0] != text {
		t.Errorf("the escaped JSON decodes to %q, %v", again, err)
	}
	if got := wording.Escape(out.String()[:out.Len()-1]) + "\n"; got != out.String() {
		t.Errorf("not everything is escaped in %q", out.String())
	}

	broken := errors.New("the reader is closed")
	_, in := io.Pipe()
	if err := in.CloseWithError(broken); err != nil {
		t.Fatal(err)
	}
	if n, err := fmt.Fprint(wording.EscapeWriter(in), "x"); n != 0 || err == nil {
		t.Errorf("writing to a closed pipe returned %d, %v", n, err)
	}
}
