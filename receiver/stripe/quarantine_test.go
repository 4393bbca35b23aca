package stripe_test

import (
	"fmt"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// Events whose quarantine is expected.
func TestExpectedQuarantine(t *testing.T) {
	thin := func(typ, related, snapshot string) string {
		return fmt.Sprintf(`{"id":"evt_test_61","object":"v2.core.event","type":%q,"livemode":false,"created":"2026-09-30T06:25:13.402Z","context":null,"related_object":%s,"snapshot_event":%s}`,
			typ, related, snapshot)
	}
	object := func(id, kind string) string { return fmt.Sprintf(`{"id":%q,"type":%q,"url":"/"}`, id, kind) }
	test := func(account string) string {
		return `{"id":"evt_1","object":"event","type":"payment_intent.created","livemode":false,"account":` + account + `,"created":1776000000,"data":{"object":{}}}`
	}
	for _, c := range []struct {
		what     string
		body     string
		livemode bool
		reason   ledger.Reason
		expected bool
		snapshot string
	}{
		{"a ping", thin("v2.core.event_destination.ping", object("ed_test_61", "v2.core.event_destination"), "null"), false, ledger.ThinEvent, true, ""},
		{"a ping of no object", thin("v1.webhook_endpoint.ping", "null", "null"), false, ledger.ThinEvent, true, ""},
		{"an account", thin("v2.core.account[requirements].updated", object("acct_1", "v2.core.account"), "null"), false, ledger.ThinEvent, true, ""},
		{"a meter", thin("v1.billing.meter.no_meter_found", "null", "null"), false, ledger.ThinEvent, true, ""},
		{"a customer beside its snapshot", thin("v1.customer.created", object("cus_1", "customer"), `"evt_2"`), false, ledger.ThinEvent, true, ""},
		{"a payment beside its snapshot", thin("v1.payment_intent.succeeded", object("pi_1", "payment_intent"), `"evt_2"`), false, ledger.ThinEvent, false, "evt_2"},
		{"a payment beside nothing", thin("v1.payment_intent.succeeded", object("pi_1", "payment_intent"), "null"), false, ledger.ThinEvent, false, ""},
		{"a payment beside what is no id", thin("v1.payment_intent.succeeded", object("pi_1", "payment_intent"), `{"id":"evt_2"}`), false, ledger.ThinEvent, false, ""},
		{"a dispute that names no object", thin("v1.charge.dispute.created", "null", `"evt_2"`), false, ledger.ThinEvent, false, "evt_2"},
		{"a refund by its kind only", thin("v1.new.refund_thing", object("x_1", "refund"), "null"), false, ledger.ThinEvent, false, ""},
		{"events that could not be made", thin("v2.core.health.event_generation_failure.resolved", "null", "null"), false, ledger.ThinEvent, false, ""},
		{"no type", `{"id":"evt_test_61","object":"v2.core.event","livemode":false}`, false, ledger.ThinEvent, false, ""},
		{"a test event on a live Connect endpoint", test(`"acct_1"`), true, ledger.WrongMode, true, ""},
		{"a test event on a live endpoint", test("null"), true, ledger.WrongMode, false, ""},
		{"a test event of an organization's account", strings.Replace(test("null"), `"created"`, `"context":"acct_1","created"`, 1), true, ledger.WrongMode, false, ""},
		{"a thin test event of an account, perhaps one's own", strings.Replace(thin("v1.payment_intent.succeeded", object("pi_1", "payment_intent"), "null"), `"context":null`, `"context":"acct_1"`, 1), true, ledger.ThinEvent, false, ""},
		{"a test ping on a live endpoint", `{"id":"evt_1","object":"event","type":"ping","livemode":false,"data":{"object":{}}}`, true, ledger.WrongMode, true, ""},
		{"a test event that cannot be decoded", test(`"acct_1"`), false, ledger.Undecodable, false, ""},
		{"no JSON", `}`, true, ledger.Undecodable, false, ""},
	} {
		e := stripe.Decode([]byte(c.body), c.livemode)
		if e.Quarantine != c.reason || e.Expected != c.expected || e.Snapshot != c.snapshot {
			t.Errorf("%s: it is %s, expected %v, snapshot %q", c.what, e.Quarantine, e.Expected, e.Snapshot)
		}
	}
	live := stripe.Decode([]byte(`{"id":"evt_1","object":"event","type":"payment_intent.created","livemode":true,"account":"acct_1","data":{"object":{}}}`), false)
	if live.Quarantine != ledger.WrongMode || live.Expected {
		t.Errorf("a live event on a test endpoint is %+v", live)
	}
}

func TestExpectedVersions(t *testing.T) {
	for version, want := range map[string]bool{
		"2015-10-16": true, "2023-10-16": true, "2024-09-30.acacia": true, "2025-03-31.basil": true, "2025-09-30.clover": true,
		"2026-03-25.dahlia": true, "2026-08-26.dahlia": true, "2026-09-30.endive": true,
		"": false, "2027-09-30.fennel": false, "2026-08-26.preview": false, "2026-08-26.": false, "dahlia": false, "2026-08-26.dahlia.2": false,
		"2026-13-26": false, "2026-00-26": false, "2026-08-32": false, "2026-08-00": false, "2026/08/26": false, "20260826": false,
		"2026-08-2x": false, "x026-08-26": false, "2026-08-260": false, "2026-08_26": false,
	} {
		if got := stripe.ExpectedVersion(version); got != want {
			t.Errorf("%q is expected: %v", version, got)
		}
	}
}
