package stripe_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

const dir = "../../testdata/events"

func sample(t testing.TB, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// altered returns a sample with one text replaced, which must exist.
func altered(t testing.TB, name, old, new string) []byte {
	t.Helper()
	body := sample(t, name)
	if !bytes.Contains(body, []byte(old)) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	return bytes.ReplaceAll(body, []byte(old), []byte(new))
}

// intentOf returns the PaymentIntent that the event is about, or an empty one.
func intentOf(e *ledger.Event) ledger.Intent {
	if len(e.Facts.Intents) == 0 {
		return ledger.Intent{}
	}
	return e.Facts.Intents[0]
}

func TestEverySampleDecodes(t *testing.T) {
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	versions, types := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		e := stripe.Decode(sample(t, name), false)
		typ, _, _ := strings.Cut(name, "@")
		if e.Type != typ || e.Created == 0 || e.Livemode {
			t.Errorf("%s decodes to %+v", name, e)
		}
		versions[e.APIVersion], types[e.Type] = true, true
		switch {
		case strings.HasPrefix(typ, "v1."):
			if e.Quarantine != ledger.ThinEvent || e.Facts.AboutPayment() {
				t.Errorf("%s: a thin event gave %+v", name, e)
			}
		case strings.HasPrefix(typ, "payment_intent."):
			if in := intentOf(e); e.Quarantine != "" || in.Amount == 0 || in.Created == 0 || in.Currency == "" || len(in.Metadata) == 0 {
				t.Errorf("%s decodes to the facts %+v", name, e.Facts)
			}
		case slices.Contains(stripe.Types[:], typ):
			if e.Quarantine != "" || !e.Facts.AboutPayment() || e.Facts.PaymentIntent == "" && typ != "checkout.session.expired" {
				t.Errorf("%s decodes to %+v", name, e)
			}
		default:
			if e.Quarantine != "" || e.Facts.AboutPayment() {
				t.Errorf("%s decodes to %+v", name, e)
			}
		}
	}
	for _, typ := range stripe.Types {
		if !types[typ] {
			t.Errorf("there is no sample of %s", typ)
		}
	}
	delete(versions, "")
	for v := range versions {
		if !stripe.ExpectedVersion(v) {
			t.Errorf("a sample is of API version %s, which is not expected", v)
		}
	}
	if want := map[string]bool{"2023-10-16": true, stripe.PinnedVersion: true}; !maps.Equal(versions, want) {
		t.Errorf("samples of the API versions %v, not of %v", versions, want)
	}
}

func TestAllFieldsOfAnIntent(t *testing.T) {
	e := stripe.Decode(sample(t, "payment_intent.payment_failed"), false)
	want := ledger.Intent{
		ID: "pi_3wBXiMKvHadernBlEkeYB6nG", Status: "requires_payment_method", Currency: "usd", Amount: 2390, HasAmount: true, HasReceived: true,
		Description: "Order 2418: ink sampler", Metadata: map[string]string{"order_id": "2418", "channel": "shop"},
		LatestCharge: "ch_3wBXiMKvHadernBlrrmI1F9o", Created: 1775911530,
		LastError: &ledger.PaymentError{Type: "card_error", Code: "card_declined", DeclineCode: "insufficient_funds", Message: "Your card has insufficient funds."},
	}
	if !reflect.DeepEqual(e.Facts.Intents, []ledger.Intent{want}) {
		t.Errorf("got  %+v\nwant %+v", e.Facts.Intents, want)
	}
	if e.ID != "evt_3wBXiMKvHadernBldsKUmFn5" || e.APIVersion != "2023-10-16" || e.Created != 1775911588 || e.Account != "" {
		t.Errorf("the envelope is %+v", e)
	}
}

func TestQuarantine(t *testing.T) {
	const name = "payment_intent.succeeded"
	for _, c := range []struct {
		what string
		body []byte
		want ledger.Reason
		id   string // prefix of the id, if it differs from the sample's
	}{
		{"as it is", sample(t, name), "", ""},
		{"nothing", nil, ledger.Undecodable, "sha256_e3b0c44298fc1c14"},
		{"null", []byte("null"), ledger.Undecodable, "sha256_"},
		{"an empty object", []byte("{}"), ledger.Undecodable, "sha256_"},
		{"an array", []byte(`[{"object":"event"}]`), ledger.Undecodable, "sha256_"},
		{"no JSON", []byte("} I am not valid JSON; 123]["), ledger.Undecodable, "sha256_"},
		{"JSON and more", append(sample(t, name), '['), ledger.Undecodable, "sha256_"},
		{"a byte order mark", append([]byte("\xef\xbb\xbf"), sample(t, name)...), ledger.Undecodable, "sha256_"},
		{"no object", altered(t, name, `"object": "event"`, `"object": null`), ledger.Undecodable, ""},
		{"another object", altered(t, name, `"object": "event"`, `"object": "charge"`), ledger.Undecodable, ""},
		{"the name in capitals", altered(t, name, `"object": "event"`, `"Object": "event"`), ledger.Undecodable, ""},
		{"no id", altered(t, name, `"id": "evt_3wBTwEKvHadernBlBPBleRA0",`, ""), ledger.Undecodable, "sha256_"},
		{"an id of strange letters", altered(t, name, "evt_3wBTwEKvHadernBlBPBleRA0", `evt_\u0000`), ledger.Undecodable, "sha256_"},
		{"an endless id", altered(t, name, "evt_3wBTwEKvHadernBlBPBleRA0", strings.Repeat("x", 256)), ledger.Undecodable, "sha256_"},
		{"a number for an id", altered(t, name, `"evt_3wBTwEKvHadernBlBPBleRA0"`, `7`), ledger.Undecodable, "sha256_"},
		{"no type", altered(t, name, `"type": "payment_intent.succeeded"`, `"type": null`), ledger.Undecodable, ""},
		{"no mode", altered(t, name, `"livemode": false,
  "pending`, `"livemode": null, "pending`), ledger.Undecodable, ""},
		{"a word for a mode", altered(t, name, `"livemode": false,
  "pending`, `"livemode": "false", "pending`), ledger.Undecodable, ""},
		{"live mode", altered(t, name, `"livemode": false`, `"livemode": true`), ledger.WrongMode, ""},
		{"live mode and an invalid amount: the mode comes first", altered(t, name, `"livemode": false`, `"amount": "x", "livemode": true`), ledger.WrongMode, ""},
		{"no data", altered(t, name, `"data"`, `"dat"`), ledger.Undecodable, ""},
		{"an object of another kind", altered(t, name, `"object": "payment_intent"`, `"object": "charge"`), ledger.Undecodable, ""},
		{"no status", altered(t, name, `"status": "succeeded"`, `"status": null`), ledger.Undecodable, ""},
		{"no payment id", altered(t, name, `"id": "pi_3wBTwEKvHadernBl4gdrfNcd"`, `"id": ""`), ledger.Undecodable, ""},
		{"a float of money", altered(t, name, `"amount_received": 6480`, `"amount_received": 6480.5`), ledger.Undecodable, ""},
		{"an exponent of money", altered(t, name, `"amount_received": 6480`, `"amount_received": 6e3`), ledger.Undecodable, ""},
		{"money beyond 64 bits", altered(t, name, `"amount_received": 6480`, `"amount_received": 9223372036854775808`), ledger.Undecodable, ""},
		{"a text for money", altered(t, name, `"amount_received": 6480`, `"amount_received": "6480"`), ledger.Undecodable, ""},
		{"a number for a currency", altered(t, name, `"currency": "eur"`, `"currency": 978`), ledger.Undecodable, ""},
		{"thin", sample(t, "v1.payment_intent.succeeded"), ledger.ThinEvent, "evt_test_61"},
		{"thin and live", altered(t, "v1.payment_intent.succeeded", `"livemode": false`, `"livemode": true`), ledger.ThinEvent, "evt_test_61"},
		{"thin without an id", altered(t, "v1.payment_intent.succeeded", `"id": "evt_test`, `"x": "evt_test`), ledger.ThinEvent, "sha256_"},
		{"not about a payment, and odd inside", altered(t, "customer.created", `"balance": 0`, `"balance": "none"`), "", "evt_1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := stripe.Decode(c.body, false)
			if e.Quarantine != c.want {
				t.Errorf("quarantine %q, want %q", e.Quarantine, c.want)
			}
			if c.id == "" {
				c.id = "evt_3wBTwEKvHadernBlBPBleRA0"
			}
			if !strings.HasPrefix(e.ID, c.id) {
				t.Errorf("the id is %q, want %q…", e.ID, c.id)
			}
			if !bytes.Equal(e.Raw, c.body) {
				t.Error("the body was changed")
			}
		})
	}
}

func TestToleratedBodies(t *testing.T) {
	const name = "payment_intent.succeeded"
	same := stripe.Decode(sample(t, name), false)
	check := func(what string, body []byte, change func(want *ledger.Event)) {
		t.Run(what, func(t *testing.T) {
			want := *same
			want.Facts.Intents = slices.Clone(same.Facts.Intents)
			change(&want)
			want.Raw = body
			if got := stripe.Decode(body, false); !reflect.DeepEqual(got, &want) {
				t.Errorf("got  %+v %+v\nwant %+v %+v", got, got.Facts, &want, want.Facts)
			}
		})
	}
	same2 := func(*ledger.Event) {}
	check("windows line ends", altered(t, name, "\n", "\r\n"), same2)
	check("no space at all", compact(t, sample(t, name)), same2)
	check("an unknown field with brackets in a text", altered(t, name, `"object": "event"`, `"object": "event", "x": [{"y": "}]\\\"{"}, []], "z": {}`), same2)
	check("a name that is escaped", altered(t, name, `"type": "payment_intent.succeeded"`, `"\u0074ype": "payment_intent.succeeded"`), same2)
	check("the last of two fields", altered(t, name, `"status": "succeeded"`, `"status": 7, "status": "succeeded"`), same2)
	check("created as RFC 3339", altered(t, name, `"created": 1776163468`, `"created": "2026-04-14T10:44:28Z"`), same2)
	check("created as digits", altered(t, name, `"created": 1776163468`, `"created": "1776163468"`), same2)
	check("created as nothing", altered(t, name, `"created": 1776163468`, `"created": {}`), func(e *ledger.Event) { e.Created = 0 })
	check("any API version", altered(t, name, "2023-10-16", "2031-01-01.zebra"), func(e *ledger.Event) { e.APIVersion = "2031-01-01.zebra" })
	check("no API version", altered(t, name, `"2023-10-16"`, "null"), func(e *ledger.Event) { e.APIVersion = "" })
	check("request as a text", altered(t, name, `"request": {
    "id": null,
    "idempotency_key": null
  }`, `"request": "req_2015"`), same2)
	check("a connected account", altered(t, name, `"object": "event"`, `"object": "event", "account": "acct_1", "context": "acct_2"`), func(e *ledger.Event) { e.Account, e.Context = "acct_1", "acct_2" })
	check("an unknown type of payment event", altered(t, name, `"type": "payment_intent.succeeded"`, `"type": "payment_intent.frobnicated"`), func(e *ledger.Event) { e.Type = "payment_intent.frobnicated" })
	check("a payment in an event of another name", altered(t, name, `"type": "payment_intent.succeeded"`, `"type": "treasury.something"`), func(e *ledger.Event) { e.Type = "treasury.something" })
	check("an unknown status", altered(t, name, `"status": "succeeded"`, `"status": "requires_reconfirmation"`), func(e *ledger.Event) { e.Facts.Intents[0].Status = "requires_reconfirmation" })
	check("an expanded customer", altered(t, name, `"customer": "cus_UhPapier4mQ7Zd"`, `"customer": {"object": "customer", "id": "cus_UhPapier4mQ7Zd"}`), same2)
	check("a customer that is null", altered(t, name, `"customer": "cus_UhPapier4mQ7Zd"`, `"customer": null`), func(e *ledger.Event) { e.Facts.Intents[0].Customer = "" })
	check("a customer that is absent", altered(t, name, `"customer": "cus_UhPapier4mQ7Zd",`, ``), func(e *ledger.Event) { e.Facts.Intents[0].Customer = "" })
	check("an amount that is absent", altered(t, name, `"amount": 6480,`, ``), func(e *ledger.Event) { e.Facts.Intents[0].Amount, e.Facts.Intents[0].HasAmount = 0, false })
	unreceived := func(e *ledger.Event) { e.Facts.Intents[0].AmountReceived, e.Facts.Intents[0].HasReceived = 0, false }
	check("an amount_received that is absent", altered(t, name, `"amount_received": 6480,`, ``), unreceived)
	check("an amount_received that is null", altered(t, name, `"amount_received": 6480,`, `"amount_received": null,`), unreceived)
	check("an amount_received of nothing", altered(t, name, `"amount_received": 6480,`, `"amount_received": 0,`), func(e *ledger.Event) { e.Facts.Intents[0].AmountReceived = 0 })
	check("the greatest amount", altered(t, name, `"amount": 6480,`, `"amount": 9223372036854775807,`), func(e *ledger.Event) { e.Facts.Intents[0].Amount = 9223372036854775807 })
	check("hostile metadata", altered(t, name, `"channel": "shop"`, `"a\u0000": "\u202e'; DROP TABLE --", "n": 1.50, "o": {"p": [1]}, "s": "\ud800"`), func(e *ledger.Event) {
		e.Facts.Intents[0].Metadata = map[string]string{"order_id": "2417", "a\x00": "\u202e'; DROP TABLE --", "n": "1.50", "o": `{"p": [1]}`, "s": "\ufffd"}
	})
}

func compact(t *testing.T, body []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, body); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzDecode compares the facts of Decode with what encoding/json reads from the same body.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"id":"evt_1","object":"event","type":"payment_intent.x","livemode":false,"data":{"object":{"id":"pi_1","object":"payment_intent","status":"s"}}}`))
	f.Add([]byte(` { "a" : "\"\\" , "b" : [ "]" , { } ] , "id" : "x" } `))
	f.Add(event("charge.x", obj(chargeJSON, `"refunds": [`+obj(refundJSON)+`], "balance_transaction": {"fee": 25, "currency": "CHF"}, "payment_intent": `+obj(intentJSON))))
	f.Add(event("dispute.x", obj(disputeJSON, `"balance_transactions": [{"id": "txn_1", "amount": -700, "currency": "EUR"}], "charge": `+obj(chargeJSON))))
	f.Add(event("refund.x", obj(refundJSON, `"payment_intent": null, "charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`))))
	f.Add(event("session.x", obj(sessionJSON, `"payment_intent": `+obj(intentJSON, `"latest_charge": `+obj(chargeJSON)))))
	f.Add(event("charge.x", obj(`"object": "charge", "id": "ch_1", "amount": 700, "paid": true`)))
	f.Add(event("charge.x", obj(`"object": "charge", "id": "ch_1", "amount": 700, "paid": false`)))
	f.Add(event("charge.x", obj(`"object": "charge", "id": "ch_1", "amount": 700, "status": "paid"`)))
	f.Add(event("dispute.x", obj(`"object": "dispute", "amount": 700, "status": "lost", "charge": "ch_1"`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		kept := slices.Clone(body)
		e := stripe.Decode(body, false)
		if !bytes.Equal(body, kept) || !bytes.Equal(e.Raw, kept) {
			t.Fatal("the body was changed")
		}
		if e.ID == "" || len(e.ID) > 255 {
			t.Fatalf("the id is %q", e.ID)
		}
		var read map[string]any
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if !json.Valid(body) || dec.Decode(&read) != nil || read == nil {
			if e.Quarantine != ledger.Undecodable {
				t.Fatalf("no JSON object, and the quarantine is %q", e.Quarantine)
			}
			return
		}
		if e.Quarantine != "" {
			if e.Facts.AboutPayment() {
				t.Fatal("an event in quarantine has facts")
			}
			return
		}
		if read["object"] != "event" || read["id"] != e.ID || read["type"] != e.Type || read["livemode"] != false {
			t.Fatalf("booked %+v of %v", e, read)
		}
		data, _ := read["data"].(map[string]any)
		object, _ := data["object"].(map[string]any)
		compareFacts(t, &e.Facts, asRead{t, object})
	})
}
