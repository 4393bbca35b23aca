package stripe_test

import (
	"fmt"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// link is an object with one form of a link, and the facts that the event must state.
type link struct {
	what, object string
	want         ledger.Facts
}

func checkLinks(t *testing.T, typ string, links []link) {
	for _, c := range links {
		t.Run(c.what, func(t *testing.T) { checkFacts(t, event(typ, c.object), c.want) })
	}
}

// noLinks are values of a link that name nothing.
var noLinks = []string{`null`, `""`, `7`, `true`, `[]`, `["xx_9"]`, `[{"id": "xx_9"}]`, `{}`, `{"id": null}`, `{"id": 7}`, `{"id": ""}`, `{"id": "a b"}`,
	`{"id": {"id": "xx_9"}}`, `{"ID": "xx_9"}`, `{"data": {"id": "xx_9"}}`, `"a b"`, `"a\u0000"`, `"é"`, `"` + strings.Repeat("x", 256) + `"`}

// checkNoLinks checks that links that name nothing give the same facts as an absent link.
func checkNoLinks(t *testing.T, typ, fields, name string, want ledger.Facts) {
	t.Run(name+" is absent", func(t *testing.T) { checkFacts(t, event(typ, obj(fields)), want) })
	for _, value := range noLinks {
		t.Run(name+" is "+value, func(t *testing.T) { checkFacts(t, event(typ, obj(fields, fmt.Sprintf("%q: %s", name, value))), want) })
	}
}

func TestLinksOfACharge(t *testing.T) {
	const typ = "charge.succeeded"
	charges := []ledger.Charge{charge1}
	checkNoLinks(t, typ, chargeJSON, "payment_intent", ledger.Facts{Charge: "ch_1", Charges: charges})
	checkLinks(t, typ, []link{
		{"a text", obj(chargeJSON, `"payment_intent": "pi_1"`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges}},
		{"before all else", obj(`"payment_intent": "pi_1"`, chargeJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges}},
		{"the longest id", obj(chargeJSON, `"payment_intent": "`+strings.Repeat("x", 255)+`"`),
			ledger.Facts{PaymentIntent: strings.Repeat("x", 255), Charge: "ch_1", Charges: charges}},
		{"the object", obj(chargeJSON, `"payment_intent": `+obj(intentJSON)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges, Intents: []ledger.Intent{intent1}}},
		{"the object, that has gone on to another charge", obj(`"payment_intent": `+obj(intentJSON, `"latest_charge": "ch_2"`), chargeJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges,
				Intents: []ledger.Intent{with(intent1, func(in *ledger.Intent) { in.LatestCharge = "ch_2" })}}},
		{"an object with an id only", obj(chargeJSON, `"payment_intent": {"id": "pi_1"}`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges}},
		{"an object that cannot be read", obj(chargeJSON, `"payment_intent": `+obj(set(intentJSON, "amount", "7.5"))),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: charges}},
	})
}

func TestLinksOfARefund(t *testing.T) {
	const typ = "refund.created"
	alone := []ledger.Refund{refund1}
	linked := []ledger.Refund{with(refund1, func(f *ledger.Refund) { f.Charge = "ch_1" })}
	charges, intents := []ledger.Charge{charge1}, []ledger.Intent{intent1}
	checkNoLinks(t, typ, refundJSON, "charge", ledger.Facts{Refunds: alone})
	checkNoLinks(t, typ, refundJSON, "payment_intent", ledger.Facts{Refunds: alone})
	checkNoLinks(t, typ, refundJSON+`, "payment_intent": "pi_1"`, "charge", ledger.Facts{PaymentIntent: "pi_1", Refunds: alone})
	checkNoLinks(t, typ, refundJSON+`, "charge": "ch_1"`, "payment_intent", ledger.Facts{Charge: "ch_1", Refunds: linked})
	checkLinks(t, typ, []link{
		{"both texts", obj(`"payment_intent": "pi_1", "charge": "ch_1"`, refundJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked}},
		{"the charge's object", obj(refundJSON, `"payment_intent": "pi_1", "charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked, Charges: charges}},
		{"the charge's object only knows the PaymentIntent", obj(refundJSON, `"payment_intent": null, "charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked, Charges: charges}},
		{"the PaymentIntent's object", obj(refundJSON, `"payment_intent": `+obj(intentJSON), `"charge": "ch_1"`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked, Intents: intents}},
		{"the PaymentIntent's object only knows a charge", obj(refundJSON, `"payment_intent": `+obj(intentJSON, `"latest_charge": "ch_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: alone,
				Intents: []ledger.Intent{with(intent1, func(in *ledger.Intent) { in.LatestCharge = "ch_1" })}}},
		{"both objects", obj(`"charge": `+obj(chargeJSON), refundJSON, `"payment_intent": `+obj(intentJSON)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked, Charges: charges, Intents: intents}},
		{"an object in the object", obj(refundJSON, `"charge": `+obj(chargeJSON, `"payment_intent": `+obj(intentJSON))),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked, Charges: charges, Intents: intents}},
		{"a charge that cannot be read", obj(refundJSON, `"payment_intent": "pi_1", "charge": `+obj(set(chargeJSON, "amount", "7.5"))),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: linked}},
	})
}

func TestLinksOfADispute(t *testing.T) {
	const typ = "charge.dispute.closed"
	alone := []ledger.Dispute{dispute1}
	linked := []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) { d.Charge = "ch_1" })}
	charges, intents := []ledger.Charge{charge1}, []ledger.Intent{intent1}
	checkNoLinks(t, typ, disputeJSON, "charge", ledger.Facts{Disputes: alone})
	checkNoLinks(t, typ, disputeJSON, "payment_intent", ledger.Facts{Disputes: alone})
	checkNoLinks(t, typ, disputeJSON+`, "payment_intent": "pi_1"`, "charge", ledger.Facts{PaymentIntent: "pi_1", Disputes: alone})
	checkNoLinks(t, typ, disputeJSON+`, "charge": "ch_1"`, "payment_intent", ledger.Facts{Charge: "ch_1", Disputes: linked})
	checkLinks(t, typ, []link{
		{"both texts", obj(`"payment_intent": "pi_1", "charge": "ch_1"`, disputeJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: linked}},
		{"the charge's object", obj(disputeJSON, `"payment_intent": "pi_1", "charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: linked, Charges: charges}},
		{"the charge's object only knows the PaymentIntent", obj(disputeJSON, `"charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: linked, Charges: charges}},
		{"the PaymentIntent's object", obj(disputeJSON, `"payment_intent": `+obj(intentJSON), `"charge": "ch_1"`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: linked, Intents: intents}},
		{"both objects", obj(`"charge": `+obj(chargeJSON), disputeJSON, `"payment_intent": `+obj(intentJSON)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: linked, Charges: charges, Intents: intents}},
		{"a charge that cannot be read", obj(disputeJSON, `"charge": `+obj(set(chargeJSON, "status", "null"), `"payment_intent": "pi_1"`)),
			ledger.Facts{Charge: "ch_1", Disputes: linked}},
	})
}

func TestLinksOfASession(t *testing.T) {
	const typ = "checkout.session.completed"
	sessions := []ledger.Session{session1}
	latest := []ledger.Intent{with(intent1, func(in *ledger.Intent) { in.LatestCharge = "ch_1" })}
	checkNoLinks(t, typ, sessionJSON, "payment_intent", ledger.Facts{Sessions: sessions})
	checkLinks(t, typ, []link{
		{"a text", obj(`"payment_intent": "pi_1"`, sessionJSON),
			ledger.Facts{PaymentIntent: "pi_1", Sessions: sessions}},
		{"the object", obj(sessionJSON, `"payment_intent": `+obj(intentJSON)),
			ledger.Facts{PaymentIntent: "pi_1", Sessions: sessions, Intents: []ledger.Intent{intent1}}},
		{"the object, and it names a charge", obj(sessionJSON, `"payment_intent": `+obj(intentJSON, `"latest_charge": "ch_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Sessions: sessions, Intents: latest}},
		{"the object, and it holds a charge", obj(`"payment_intent": `+obj(`"latest_charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`), intentJSON), sessionJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Sessions: sessions, Intents: latest, Charges: []ledger.Charge{charge1}}},
		{"an object that cannot be read", obj(sessionJSON, `"payment_intent": `+obj(set(intentJSON, "status", "null"), `"latest_charge": "ch_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Sessions: sessions}},
	})
}

func TestLinksOfAnIntent(t *testing.T) {
	const typ = "payment_intent.succeeded"
	latest := []ledger.Intent{with(intent1, func(in *ledger.Intent) { in.LatestCharge = "ch_1" })}
	charges := []ledger.Charge{charge1}
	checkNoLinks(t, typ, intentJSON, "latest_charge", ledger.Facts{PaymentIntent: "pi_1", Intents: []ledger.Intent{intent1}})
	checkLinks(t, typ, []link{
		{"a text", obj(`"latest_charge": "ch_1"`, intentJSON),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest}},
		{"the object", obj(intentJSON, `"latest_charge": `+obj(chargeJSON, `"payment_intent": "pi_1"`)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest, Charges: charges}},
		{"the object, that names no PaymentIntent", obj(intentJSON, `"latest_charge": `+obj(chargeJSON)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest, Charges: charges}},
		{"an object with an id only", obj(intentJSON, `"latest_charge": {"id": "ch_1"}`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest}},
		{"an object that cannot be read", obj(intentJSON, `"latest_charge": `+obj(set(chargeJSON, "currency", "978"))),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest}},
		{"the object, with a refund and a dispute in it", obj(intentJSON, `"latest_charge": `+obj(chargeJSON, `"refunds": [`+obj(refundJSON)+`], "dispute": `+obj(disputeJSON))),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: latest, Charges: charges,
				Refunds:  []ledger.Refund{with(refund1, func(f *ledger.Refund) { f.Charge = "ch_1" })},
				Disputes: []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) { d.Charge = "ch_1" })}}},
	})
}

// The outer object decides which payment the event is about. An object of another payment inside it
// is ignored.
func TestAnotherPaymentInside(t *testing.T) {
	other := obj(set(intentJSON, "id", `"pi_2"`), `"latest_charge": "ch_2"`)
	charge := obj(chargeJSON, `"payment_intent": `+other)
	linked := with(refund1, func(f *ledger.Refund) { f.Charge = "ch_1" })
	latest := with(intent1, func(in *ledger.Intent) { in.LatestCharge = "ch_1" })
	disputed := with(dispute1, func(d *ledger.Dispute) { d.Charge = "ch_1" })
	for _, c := range []struct {
		what, typ, object string
		want              ledger.Facts
	}{
		{"in a refund's charge", "refund.created", obj(refundJSON, `"payment_intent": "pi_1", "charge": `+charge),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Refunds: []ledger.Refund{linked}, Charges: []ledger.Charge{charge1}}},
		{"in a dispute's charge", "charge.dispute.created", obj(disputeJSON, `"payment_intent": "pi_1", "charge": `+charge),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Disputes: []ledger.Dispute{disputed}, Charges: []ledger.Charge{charge1}}},
		{"in the latest charge", "payment_intent.succeeded", obj(intentJSON, `"latest_charge": `+charge),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: []ledger.Intent{latest}, Charges: []ledger.Charge{charge1}}},
		{"in a listed charge", "payment_intent.succeeded", obj(intentJSON, `"charges": {"data": [`+charge+`]}`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Intents: []ledger.Intent{intent1}, Charges: []ledger.Charge{charge1}}},
		{"in a charge's refund", "charge.refunded", obj(chargeJSON, `"payment_intent": "pi_1", "refunds": [`+obj(refundJSON, `"payment_intent": `+other)+`]`),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: []ledger.Charge{charge1}, Refunds: []ledger.Refund{linked}}},
		{"in a charge's dispute", "charge.updated", obj(chargeJSON, `"payment_intent": "pi_1", "dispute": `+obj(disputeJSON, `"payment_intent": `+other)),
			ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: []ledger.Charge{charge1}, Disputes: []ledger.Dispute{disputed}}},
	} {
		t.Run(c.what, func(t *testing.T) { checkFacts(t, event(c.typ, c.object), c.want) })
	}
}

// Four levels of objects are read, as many as Stripe expands.
func TestDepth(t *testing.T) {
	intentAt := func(n int, charge string) string {
		return obj(`"object": "payment_intent", "id": "pi_1", "amount": `+fmt.Sprint(n), `"status": "succeeded"`, `"latest_charge": `+charge)
	}
	chargeAt := func(n int, intent string) string {
		return obj(fmt.Sprintf(`"object": "charge", "id": "ch_%d", "status": "succeeded", "amount": %d`, n, n), `"payment_intent": `+intent)
	}
	intent := func(n int, latest string) ledger.Intent {
		return ledger.Intent{ID: "pi_1", Status: "succeeded", Amount: int64(n), HasAmount: true, LatestCharge: latest}
	}
	charge := func(n int) ledger.Charge {
		return ledger.Charge{ID: fmt.Sprint("ch_", n), Status: "succeeded", Amount: int64(n), Captured: true, CaptureUnknown: true}
	}
	checkFacts(t, event("payment_intent.succeeded", intentAt(0, chargeAt(1, intentAt(2, chargeAt(3, intentAt(4, chargeAt(5, `null`))))))), ledger.Facts{
		PaymentIntent: "pi_1", Charge: "ch_1",
		Intents: []ledger.Intent{intent(0, "ch_1"), intent(2, "ch_3"), intent(4, "ch_5")}, Charges: []ledger.Charge{charge(1), charge(3)},
	})
	checkFacts(t, event("charge.succeeded", chargeAt(0, intentAt(1, chargeAt(2, intentAt(3, chargeAt(4, intentAt(5, `"ch_6"`))))))), ledger.Facts{
		PaymentIntent: "pi_1", Charge: "ch_0",
		Intents: []ledger.Intent{intent(1, "ch_2"), intent(3, "ch_4")}, Charges: []ledger.Charge{charge(0), charge(2), charge(4)},
	})
	// The elements of a list are a level, the list is not.
	refunded := func(n int, refund string) string {
		return obj(fmt.Sprintf(`"object": "charge", "id": "ch_%d", "status": "succeeded", "amount": %d`, n, n), `"refunds": {"data": [`+refund+`]}`)
	}
	refundAt := func(n int, charge string) string {
		return obj(fmt.Sprintf(`"id": "re_%d", "amount": %d`, n, n), `"charge": `+charge)
	}
	refund := func(n int, charge string) ledger.Refund {
		return ledger.Refund{ID: fmt.Sprint("re_", n), Charge: charge, Amount: int64(n)}
	}
	checkFacts(t, event("charge.refunded", refunded(0, refundAt(1, refunded(2, refundAt(3, refunded(4, refundAt(5, `null`))))))), ledger.Facts{
		Charge: "ch_0", Charges: []ledger.Charge{charge(0), charge(2), charge(4)}, Refunds: []ledger.Refund{refund(1, "ch_2"), refund(3, "ch_4")},
	})
	deep := strings.Repeat(`{"id": "pi_1", "status": "succeeded", "latest_charge": {"id": "ch_1", "status": "pending", "payment_intent": `, 4000) + `null` + strings.Repeat(`}}`, 4000)
	e := stripe.Decode(event("charge.succeeded", obj(chargeJSON, `"payment_intent": `+deep)), false)
	if len(e.Facts.Intents) != 2 || len(e.Facts.Charges) != 3 {
		t.Errorf("of 8000 levels %d and %d objects were read", len(e.Facts.Intents), len(e.Facts.Charges))
	}
}
