package ledger_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"tillhook/ledger"
)

// ofForm is a body with values as Stripe's are: ids of one payment, one that begins with another, a time twice, a sum, a UUID.
func ofForm(event, payment, secret, created, amount, text, uuid string) []byte {
	return fmt.Appendf(nil, `{"id": "evt_%s", "created": %s, "data": {"object": {"id": "pi_%s", "amount": %s, "client_secret": "pi_%s_secret_%s",
 "created": %s, "description": "Bestellung %s für drinnen", "metadata": {"kanal": "web"}}}, "request": {"idempotency_key": "%s"}}`,
		event, created, payment, amount, payment, secret, created, text, uuid)
}

// learnedForm is the form of many of them, all of one second.
func learnedForm(t testing.TB) *ledger.Form {
	var bodies [][]byte
	for n := range 12 {
		shared := fmt.Sprintf("3%05dAccountXyz", n)
		bodies = append(bodies, ofForm(fmt.Sprintf("%s%08d", shared, n*7), fmt.Sprintf("%s%08d", shared, n*11), strings.Repeat(string(rune('a'+n)), 25),
			"1790000000", fmt.Sprint(1000+n*n), fmt.Sprintf("%06d", n*4321), fmt.Sprintf("%08x-1a2b-4c3d-9e8f-0123456789%02x", n, n)))
	}
	f := ledger.FormOf(bodies)
	if f == nil {
		t.Fatal("they have no form")
	}
	f, err := f.Stored()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestABodyIsItsValues(t *testing.T) {
	const shared, uuid = "3Qx1aBLkdIwHu7ix", "0f1e2d3c-4b5a-4978-8a9b-acbdcedfe0f1"
	usual := ofForm(shared+"ZZZZzzzz", shared+"01234567", "secretsecretsecretsecret0", "1790001234", "4200", "001234", uuid)
	f := learnedForm(t)
	if text := f.Text(); !strings.Contains(text, `"metadata": {"kanal": "web"}`) || strings.Contains(text, "AccountXyz") || strings.Contains(text, "179") {
		t.Errorf("the form is %q", text)
	}
	for what, c := range map[string]struct {
		raw  []byte
		most int // bytes
	}{
		"as ever":                    {usual, 95},
		"another payment's id":       {ofForm(shared+"ZZZZzzzz", "1"+shared+"0123456", "s", "1", "0", "x", uuid), 130},
		"short ids":                  {ofForm("1", "2", "s", "1", "0", "x", "none"), 60},
		"no values":                  {ofForm("", "", "", "", "", "", ""), 60},
		"a long text":                {ofForm(shared, shared, strings.Repeat("long", 200), "-1.5e9", "0.1", strings.Repeat("Ärger, ", 40), strings.ToUpper(uuid)), 1100},
		"31 characters":              {ofForm(strings.Repeat("a", 31), strings.Repeat("b", 30), strings.Repeat("!", 31), "1", "2", strings.Repeat("!", 30), uuid), 260},
		"two of one second":          {ofForm(shared+"ZZZZzzzz", shared+"ZZZZzzzz", shared, "1790001234", "1790001234", "1790001234", uuid), 110},
		"a description without form": {bytes.Replace(usual, []byte("Bestellung"), []byte("Einkauf"), 1), 140},
		"half a description":         {bytes.Replace(usual, []byte("Bestellung 001234 für drinnen"), []byte("Bestellung für drinnen"), 1), 140},
		"another prefix":             {bytes.Replace(usual, []byte("evt_"), []byte("xyz_"), 1), 110},
	} {
		packed, ok := f.Pack(c.raw)
		if !ok || len(packed) > c.most {
			t.Errorf("%s: %d bytes, of the form: %v", what, len(packed), ok)
			continue
		}
		if raw, err := f.Unpack(packed); err != nil || !bytes.Equal(raw, c.raw) {
			t.Errorf("%s: it comes back as %q, %v", what, raw, err)
		}
		for cut := range packed {
			if raw, err := f.Unpack(packed[:cut]); err == nil {
				t.Errorf("%s: its first %d bytes are %q", what, cut, raw)
			}
		}
	}
	for what, raw := range map[string][]byte{
		"nothing": nil, "the beginning": usual[:100], "all but the end": usual[:len(usual)-1], "more": append(bytes.Clone(usual), ' '),
		"null for a number": bytes.Replace(usual, []byte("4200"), []byte("null"), 1), "a quote in a text": bytes.Replace(usual, []byte("001234"), []byte(`\"`), 1),
		"another channel": bytes.Replace(usual, []byte(`"web"`), []byte(`"app"`), 1), "a text that does not end": bytes.ReplaceAll(usual, []byte(`"}}`), []byte("}}")),
	} {
		if _, ok := f.Pack(raw); ok {
			t.Errorf("%s: it is taken for one of the form", what)
		}
	}
}

// FuzzForm packs bodies that are nearly of a form. Whatever is taken for one of it comes back byte for byte.
func FuzzForm(f *testing.F) {
	form := learnedForm(f)
	usual := ofForm("3Qx1aBLkdIwHu7ixZZZZzzzz", "3Qx1aBLkdIwHu7ix01234567", "secret", "1790001234", "4200", "001234", "0f1e2d3c-4b5a-4978-8a9b-acbdcedfe0f1")
	f.Add(usual, []byte("pi_3"), uint16(40), uint16(4))
	f.Fuzz(func(t *testing.T, raw, put []byte, at, instead uint16) {
		from := min(int(at), len(raw))
		raw = bytes.Join([][]byte{raw[:from], put, raw[min(len(raw), from+int(instead)):]}, nil)
		packed, ok := form.Pack(raw)
		if !ok {
			return
		}
		if again, err := form.Unpack(packed); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%q comes back as %q, %v", raw, again, err)
		}
	})
}
