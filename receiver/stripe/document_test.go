package stripe_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// A body is valid JSON if encoding/json accepts it.
func TestValidAgreesWithEncodingJSON(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	texts := []string{"", " ", "{}", "[]", " [ ] ", "{", "}", "[", "]", "{]", "[}", "{,}", "[,]", "[1,]", "[1 2]", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" : 1 , "b":[ ]}`,
		`{"a":1 "b":2}`, `{a:1}`, `{1:1}`, "nul", "null", "nulls", "true false", "tru", "false", "-", "0", "-0", "00", "01", "1.", "1.0", ".5", "1e", "1e+", "1E-7", "1e5", "1.5e5x",
		`"`, `"a`, `"\"`, `"\\"`, `"\x"`, `"\u12"`, `"\u12aF"`, `"\u12ag"`, "\"\x00\"", "\"12345678\x1f\"", "\"\x7f\x80\xff\"", "\"eight by\"", "\"eight bytes and\tmore\"",
		"[1]x", "[1],", `"a""b"`, "\ufeff{}", "{}\n\r\t ", "\v{}", deep, "[" + deep + "]", `{"a":{"b":[{"c":null}]},"d":"e"}`, `{"a":1}}`, `[[]`, `[{}]`, `[{},[]]`, `{"":""}`,
	}
	for _, text := range texts {
		if got, want := stripe.Valid([]byte(text)), json.Valid([]byte(text)); got != want {
			t.Errorf("%.60q: valid %v, encoding/json says %v", text, got, want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	bodies, err := filepath.Glob("../../testdata/events/*.json")
	if err != nil || len(bodies) == 0 {
		f.Fatal("no samples", err)
	}
	for _, name := range bodies {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`[1.5e-7,"\u00e9\n",{"":[]} , true]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := stripe.Valid(text), json.Valid(text); got != want {
			t.Fatalf("valid %v, encoding/json says %v: %q", got, want, text)
		}
	})
}

func measured(b *testing.B, name string) []byte {
	b.Helper()
	body, err := os.ReadFile("../../testdata/events/" + name + ".json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	return body
}

// FuzzText compares strings with encoding/json: escapes, surrogates, invalid UTF-8.
func FuzzText(f *testing.F) {
	for _, text := range []string{"plain", "K\u00e4se", "Käse", `\"\\\/\b\f\n\r\t`, `\ud83e\udd6f`, `\ud83e`, `\udd6f\ud83e`, `\ud83ex`, `\ud83e\n`, `\ud83e\u0041`, "\xff\xfe\xc3", `\u00Ff\u00aB`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body := []byte(`{"object":"event","id":"evt_1","livemode":false,"type":"` + text + `"}`)
		var want struct{ Type string }
		if json.Unmarshal(body, &want) != nil || strings.Contains(text, `"`) && !strings.Contains(text, `\"`) {
			return
		}
		if e := stripe.Decode(body, false); e.Type != want.Type {
			t.Errorf("%q is read as %q, not %q", text, e.Type, want.Type)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := measured(b, "payment_intent.succeeded")
	for b.Loop() {
		if e := stripe.Decode(body, false); e.Facts.PaymentIntent == "" {
			b.Fatal("nothing was read")
		}
	}
}

// BenchmarkValidation is the time of encoding/json's validation, for comparison: Decode validates
// too.
func BenchmarkValidation(b *testing.B) {
	body := measured(b, "payment_intent.succeeded")
	for b.Loop() {
		if !json.Valid(body) {
			b.Fatal("not valid")
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	body := measured(b, "payment_intent.succeeded")
	now := time.Now()
	header := stripe.Sign(body, "whsec_bench", now)
	v := stripe.NewVerifier([]string{"whsec_bench"}, 5*time.Minute)
	for b.Loop() {
		sig, err := stripe.ParseSignature([]string{header})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := v.Verify(sig, body, now); err != nil {
			b.Fatal(err)
		}
	}
}
