package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// ruleCase is a set of events to which one rule applies, and the payments that they result in,
// computed by hand.
type ruleCase struct {
	rule   string
	events []*ledger.Event
	want   []string // a line for each payment, each followed by a line for each of its entries
}

// tryRules compares the model and the ledger with cases that were computed by hand.
func tryRules(t *testing.T, cases []ruleCase) {
	t.Helper()
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(13, 17))
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			want := strings.Join(c.want, "\n")
			if got := modelText(c.events); got != want {
				t.Errorf("the model has\n%s\nwant\n%s", got, want)
			}
			orders(rng, c.events, 200, func(order []*ledger.Event) {
				trial, err := l.Try(order)
				if err != nil {
					t.Fatal(err)
				}
				var lines []string
				for _, p := range trial.Payments {
					lines = append(lines, paymentText(p, trial.Entries[p.ID])...)
				}
				if got := strings.Join(lines, "\n"); got != want {
					t.Fatalf("in the order %v the ledger has\n%s\nwant\n%s", ids(order), got, want)
				}
			})
		})
	}
}

// modelText returns the result of the model in the form of ruleCase.want.
func modelText(events []*ledger.Event) string {
	payments := model(events)
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(payments)) {
		p := payments[id]
		lines = append(lines, paymentText(&p.Payment, p.Entries)...)
	}
	return strings.Join(lines, "\n")
}

// paymentText returns a line about a payment, which leaves out amounts of 0, and a line for each of
// its entries, with the seconds since midnight.
func paymentText(p *ledger.Payment, entries []ledger.Entry) []string {
	line := fmt.Sprintf("%s %s: received %s", p.ID, cmp.Or(p.Status, "-"), figure(p.AmountReceived))
	for _, f := range []struct {
		name   string
		amount *int64
	}{{"refunded", p.AmountRefunded}, {"withdrawn", p.DisputeWithdrawn}, {"reinstated", p.DisputeReinstated},
		{"net", p.AmountNet}} {
		if text := figure(f.amount); text != "0" || f.name == "net" {
			line += fmt.Sprintf(", %s %s", f.name, text)
		}
	}
	for _, flag := range p.Flags {
		line += " " + flag
	}
	lines := []string{line}
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%d %s %d %s", e.At-midnight, e.ID, e.Amount, cmp.Or(e.Currency, "-")))
	}
	return lines
}

func figure(amount *int64) string {
	if amount == nil {
		return "null"
	}
	return fmt.Sprint(*amount)
}

// rules are the names under which the model records that a rule applied.
var rules = []string{
	"payment known by its charge", "payment described by its charge", "entry without a time",
	"stale fetch", "stale: not terminal", "stale: no latest_charge", "stale: less received", "every fetch is stale",
	"a fetched PaymentIntent overrides others", "a fetch decides between succeeded and canceled",
	"latest_charge of another snapshot than the winner", "currency of the best charge", "amount of the best charge",
	"currency of another snapshot than the winner", "amount of another snapshot than the winner",
	"the amount is in another currency than the payment",
	"currency of a refund", "currency of a dispute",
	"PaymentIntent in another currency", "charge in another currency", "refund in another currency",
	"several captures", "captured: balance transaction", "captured: charge.captured", "captured: charge.succeeded",
	"captured: payment_intent.succeeded",
	"captured: creation of the charge", "captured: later than the creation of the charge",
	"captured: other evidence", "captured: no event",
	"received: unknown", "received: known from a charge", "received: a negative amount",
	"refunded: a negative amount",
	"capture unknown: another snapshot has it", "capture unknown: amount_received",
	"capture unknown: charge.captured", "capture unknown: the whole amount",
	"a canceled PaymentIntent received nothing", "received beyond the charges",
	"received beyond the charges, dated by the creation", "fee",
	"a refund without a charge belongs to the only captured charge",
	"a refund without a charge belongs to the only charge",
	"a refund without any charge",
	"a refund of an unseen charge", "a refund of an authorization does not count",
	"refund: balance transaction", "refund: time of the event",
	"return: balance transaction", "return: first event of the failure", "return: time of the refund",
	"void: not in the totals", "void: charge.captured shows it", "void: the PaymentIntent needs no capture",
	"void: in the totals by API version", "void: not in the totals by API version", "void: its own refund",
	"void: its own refund without charge.captured", "void: its own refund is not the first",
	"void: more refunded than captured", "void: no more refunded than captured, without failed refunds",
	"void: the refunds before it exceed the total before it", "void: an earlier rise belongs to a refund",
	"void: a refund before the first total may be its own", "void: a refund in the total before it failed",
	"void: in the totals, with a refund between captures", "void: not in the totals, with a refund between captures",
	"refunds known only from the total", "returns known only from the total",
	"a refund failed and the total did not fall",
	"a refund after one that failed is hidden in the total",
	"refund dated by a fetch", "refund dated by a fall", "a fetched fall is skipped", "a stale fetched charge",
	"a dispute without an id", "a dispute without an id is merged", "a transaction of several disputes",
	"a dispute in another currency", "a settlement currency", "a settlement currency without a withdrawal",
	"rounded half to even",
	"flag amount", "flag conflict", "flag currency", "flag currency_mismatch", "flag date_approximate",
	"flag dispute_approximate", "flag dispute_unfunded", "flag overflow",
	"several payments",
}

// The result of the model does not depend on the order of the events, its totals agree with its
// payments, and the random sets of events reach every rule.
func TestGeneratorReachesEveryRule(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 5))
	reached := map[string]int{}
	const rounds = 3000
	for round := range rounds {
		events := randomEvents(rng, fmt.Sprint(round), 2+round%22)
		payments, totals := model(events), modelTotals(events)
		want := asText(payments) + asText(totals)
		again := append(slices.Clone(events), events[:len(events)/2]...)
		rng.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		if got := asText(model(again)) + asText(modelTotals(again)); got != want {
			t.Fatalf("shuffled, round %d results in\n%s\nwant\n%s", round, got, want)
		}
		net, sum := units(0), units(0)
		for id, own := range byPayment(events) {
			for rule := range compute(id, own).rules {
				reached[rule]++
			}
			net = plus(net, netOf(payments[id]))
		}
		for _, l := range totals {
			sum = plus(sum, l.Net)
		}
		if net.Cmp(sum) != 0 {
			t.Fatalf("the totals of round %d add up to %s, its payments to %s", round, sum, net)
		}
		if len(payments) > 1 {
			reached["several payments"]++
		}
	}
	for _, rule := range rules {
		t.Logf("%s: %d of %d", rule, reached[rule], rounds)
		if reached[rule] < rounds/200 {
			t.Errorf("only %d of %d sets of events reach the rule %q", reached[rule], rounds, rule)
		}
		delete(reached, rule)
	}
	for rule := range reached {
		t.Errorf("the rule %q is not in the list", rule)
	}
}

// netOf returns the net amount of a payment, computed from its known amounts.
func netOf(p modelPayment) *big.Int {
	sum := units(0)
	for i, n := range []*int64{p.Payment.AmountReceived, p.Payment.DisputeReinstated, p.Payment.AmountRefunded,
		p.Payment.DisputeWithdrawn} {
		switch {
		case n == nil:
		case i < 2:
			sum = plus(sum, units(*n))
		default:
			sum = minus(sum, units(*n))
		}
	}
	return sum
}

// The times of events are in seconds since midnight. Unless a case says otherwise, the events are
// about the PaymentIntent pi_1 and the charge ch_1 of 50.00 USD, created 20 and 10 seconds before
// midnight.

func intentAt(id string, at int64, in ledger.Intent) *ledger.Event {
	in.ID, in.Created, in.HasReceived = cmp.Or(in.ID, "pi_1"), cmp.Or(in.Created, midnight-20), true
	if in.Currency = cmp.Or(in.Currency, "usd"); in.Currency == "none" {
		in.Currency = ""
	} else {
		in.Amount, in.HasAmount = cmp.Or(in.Amount, 5000), true
	}
	e := about(id, "payment_intent."+in.Status, midnight+at,
		ledger.Facts{PaymentIntent: in.ID, Charge: in.LatestCharge})
	e.Facts.Intents = []ledger.Intent{in}
	return e
}

func chargeAt(id, typ string, at int64, c ledger.Charge) *ledger.Event {
	c.ID, c.Status, c.Currency = cmp.Or(c.ID, "ch_1"), cmp.Or(c.Status, "succeeded"), cmp.Or(c.Currency, "usd")
	c.Amount, c.Created, c.Captured = cmp.Or(c.Amount, 5000), cmp.Or(c.Created, midnight-10), c.AmountCaptured != 0
	return about(id, typ, midnight+at, ledger.Facts{PaymentIntent: "pi_1", Charge: c.ID, Charges: []ledger.Charge{c}})
}

func refundAt(id string, at int64, r ledger.Refund) *ledger.Event {
	r.ID, r.Status, r.Currency = cmp.Or(r.ID, "re_1"), cmp.Or(r.Status, "succeeded"), cmp.Or(r.Currency, "usd")
	r.Created = cmp.Or(r.Created, midnight+at)
	if r.Charge = cmp.Or(r.Charge, "ch_1"); r.Charge == "none" {
		r.Charge = ""
	}
	return about(id, "refund.updated", midnight+at,
		ledger.Facts{PaymentIntent: "pi_1", Charge: r.Charge, Refunds: []ledger.Refund{r}})
}

func disputeAt(id string, at int64, d ledger.Dispute) *ledger.Event {
	d.ID, d.Charge, d.Status = cmp.Or(d.ID, "dp_1"), cmp.Or(d.Charge, "ch_1"), cmp.Or(d.Status, "lost")
	d.Currency, d.Amount, d.Created = cmp.Or(d.Currency, "usd"), cmp.Or(d.Amount, 5000), cmp.Or(d.Created, midnight)
	return about(id, "charge.dispute.updated", midnight+at,
		ledger.Facts{PaymentIntent: "pi_1", Charge: d.Charge, Disputes: []ledger.Dispute{d}})
}

// withoutReceived removes amount_received from the PaymentIntent of an event.
func withoutReceived(e *ledger.Event) *ledger.Event {
	e.Facts.Intents[0].AmountReceived, e.Facts.Intents[0].HasReceived = 0, false
	return e
}

// withoutCaptured removes amount_captured from the captured charge of an event.
func withoutCaptured(e *ledger.Event) *ledger.Event {
	c := &e.Facts.Charges[0]
	c.Captured, c.AmountCaptured, c.CaptureUnknown = true, 0, true
	return e
}

// fetched turns an event into an object that was fetched from the API.
func fetched(e *ledger.Event) *ledger.Event {
	e.Source, e.Type = ledger.Fetch, ""
	return e
}

// fullCapture is an event about the charge of 50.00 USD after it was captured, with an
// amount_refunded.
func fullCapture(id, typ string, at, refunded int64) *ledger.Event {
	return chargeAt(id, typ, at, ledger.Charge{AmountCaptured: 5000, AmountRefunded: refunded})
}

// partialCapture is an event about the charge of 50.00 USD after 30.00 were captured.
func partialCapture(id, typ, version string, at, refunded int64) *ledger.Event {
	return capturedTo(id, typ, version, at, 3000, refunded)
}

// capturedTo is an event about the charge of 50.00 USD with the amounts that were captured and
// refunded so far.
func capturedTo(id, typ, version string, at, captured, refunded int64) *ledger.Event {
	e := chargeAt(id, typ, at, ledger.Charge{AmountCaptured: captured, AmountRefunded: refunded})
	e.APIVersion = version
	return e
}

// capturedOf100 is an event about a charge of which 100.00 USD were authorized.
func capturedOf100(id, typ string, at, captured, refunded int64) *ledger.Event {
	return chargeAt(id, typ, at, ledger.Charge{Amount: 10000, AmountCaptured: captured, AmountRefunded: refunded})
}

// capturedOf50 is partialCapture with an API version in which amount_refunded includes voids.
func capturedOf50(id, typ string, at, refunded int64) *ledger.Event {
	return partialCapture(id, typ, "2023-10-16", at, refunded)
}

const day = 86400

// about returns an event with the given facts.
func about(id, typ string, created int64, f ledger.Facts) *ledger.Event {
	return &ledger.Event{
		ID: id, Type: typ, Created: created, APIVersion: "2023-10-16", Source: ledger.Webhook,
		Received: time.Unix(1760000100, 0), Raw: []byte("{}"), Facts: f,
	}
}
