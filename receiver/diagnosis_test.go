package receiver_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tillhook/receiver"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// finding is the one of a name that the receiver has.
func (s *shop) finding(t *testing.T, code health.Code) health.Finding {
	t.Helper()
	for _, f := range s.receiver.Findings() {
		if f.Code == code {
			return f
		}
	}
	t.Fatalf("there is no finding %s in %+v", code, s.receiver.Findings())
	return health.Finding{}
}

// Each way in which signatures fail is told in its own words: in the log, and where findings are
// read.
func TestWhySignaturesFail(t *testing.T) {
	body := sample(t, "payment_intent.succeeded")
	compact := bytes.ReplaceAll(body, []byte("\n"), nil)
	ofStripe := func(r *http.Request) { r.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)") }
	for _, c := range []struct {
		name   string
		before func(s *shop)
		body   []byte
		secret string
		age    time.Duration
		bend   func(r *http.Request)
		code   string
		says   string
		fails  bool // that is: not one delivery verified
	}{
		{name: "a wrong secret", body: body, secret: "whsec_other", code: "signature_mismatch", says: "no event has verified since the start: STRIPE_WEBHOOK_SECRET is probably that of another endpoint", fails: true},
		{name: "some are right", before: func(s *shop) { s.post(t, body) }, body: body, secret: "whsec_other", code: "signature_mismatch", says: "a second endpoint sends here, or the secret was rolled"},
		{name: "a secret that was taken out", before: func(s *shop) { s.receiver.Verifier.Replace([]string{"whsec_new"}) }, body: body, secret: secret, code: "signature_mismatch",
			says: "signed with a secret that was removed from STRIPE_WEBHOOK_SECRET", fails: true},
		{name: "the secret of stripe listen", before: func(s *shop) { s.receiver.Verifier.Replace([]string{"whsec_" + strings.Repeat("0a", 32)}) }, body: body, secret: "whsec_other", code: "signature_mismatch",
			says: "the secret of stripe listen, and the request was signed by an endpoint", fails: true},
		{name: "a clock that is ahead", body: body, secret: secret, age: 10 * time.Minute, code: "timestamp_too_old", says: "the signature is valid and 10m0s old: this machine's clock is ahead by that much", fails: true},
		{name: "a clock that is behind", body: body, secret: secret, age: -10 * time.Minute, code: "timestamp_in_future", says: "10m0s in the future: this machine's clock is behind by that much", fails: true},
		{name: "the other mode", body: bytes.Replace(body, []byte(`"livemode": false`), []byte(`"livemode": true`), -1), secret: "whsec_other", code: "signature_mismatch",
			says: "the body is of live mode and this receiver of test mode", fails: true},
		{name: "a thin event", body: sample(t, "v1.payment_intent.succeeded"), secret: "whsec_other", code: "signature_mismatch", says: "the body is a thin event", fails: true},
		{name: "a body that was rewritten", body: compact, secret: "whsec_other", bend: ofStripe, code: "signature_mismatch", says: "STRIPE_WEBHOOK_SECRET is probably not that of the endpoint that sends here (each has its own, and so has stripe listen); or else a proxy in front rewrites the body", fails: true},
		{name: "a body that was cut", body: body[:len(body)/2], secret: "whsec_other", bend: ofStripe, code: "signature_mismatch", says: "a proxy in front changes or cuts the body", fails: true},
		{name: "no header", body: body, code: "missing_signature", says: "a proxy in front drops the Stripe-Signature header", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openShop(t, false)
			if c.before != nil {
				c.before(s)
			}
			if f := s.finding(t, health.Signatures); f.Severity != health.OK {
				t.Errorf("before: %+v", f)
			}
			for range 3 {
				var signature []string
				if c.secret != "" {
					signature = []string{stripe.Sign(c.body, c.secret, s.now.Add(-c.age))}
				}
				r := s.request(t, "POST", hook, bytes.NewReader(c.body), signature...)
				if c.bend != nil {
					c.bend(r)
				}
				if a := s.do(t, r); a.word() != c.code {
					t.Fatalf("answered %s", a.text)
				}
			}
			f := s.finding(t, health.Signatures)
			if want := map[bool]health.Severity{true: health.Fail, false: health.Warn}[c.fails]; f.Severity != want || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Message, c.code) || f.Next == "" {
				t.Errorf("it is told as %+v, want %s and %q", f, want, c.says)
			}
			if lines := strings.Count(s.log.String(), "signature rejected"); lines != 1 || !strings.Contains(s.log.String(), c.says[:20]) {
				t.Errorf("%d lines in the log: %s", lines, s.log)
			}
			s.now = s.now.Add(61 * time.Second)
			s.do(t, s.request(t, "POST", hook, bytes.NewReader(c.body), "t=1,v1=00", "x"))
			s.now = s.now.Add(2 * time.Hour)
			if f := s.finding(t, health.Signatures); f.Severity != health.OK {
				t.Errorf("hours later: %+v", f)
			}
		})
	}
}

// Forged requests beside good deliveries are not reported.
func TestNoise(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	s.post(t, body)
	for range 5 {
		s.do(t, s.request(t, "POST", hook, strings.NewReader("x")))
		s.do(t, s.request(t, "POST", hook, strings.NewReader("x"), "nonsense"))
	}
	if f := s.finding(t, health.Signatures); f.Severity != health.OK {
		t.Errorf("it is told as %+v", f)
	}
	status := s.receiver.Status()
	if status.Verified != 1 || len(status.Refused) != 2 || status.Refused[0].Count != 5 || status.Refused[0].Cause == "" {
		t.Errorf("the status is %+v", status)
	}
}

// Which of two secrets is in use, and when the old one can go.
func TestRotation(t *testing.T) {
	s := openShop(t, false)
	s.now = time.Now()
	body := sample(t, "payment_intent.succeeded")
	if f := s.finding(t, health.Rotation); f.Severity != health.OK || !strings.Contains(f.Message, "secret 1 has verified nothing") {
		t.Errorf("at first: %+v", f)
	}
	for hour := range 30 {
		s.now = s.now.Add(time.Hour)
		if a := s.post(t, body); a.status != 200 {
			t.Fatalf("hour %d: %s", hour, a.text)
		}
	}
	f := s.finding(t, health.Rotation)
	if f.Severity != health.Warn || !strings.Contains(f.Message, "only with secret 1 for more than 24 hours: it can be removed") || !strings.Contains(f.Message, "secret 2 verified an event 0 seconds ago") {
		t.Errorf("after 30 hours: %+v", f)
	}
	s.receiver.Verifier.Replace([]string{secret})
	for _, f := range s.receiver.Findings() {
		if f.Code == "rotation" {
			t.Errorf("with one secret: %+v", f)
		}
	}
	if used := s.receiver.Verifier.SecretUses(); len(used) != 1 || used[0].Last.Unix() != s.now.Unix() {
		t.Errorf("a reload forgot what was used: %+v", used)
	}
}

func TestSilenceIsTold(t *testing.T) {
	s := openShop(t, false)
	if f := s.finding(t, health.Deliveries); f.Severity != health.OK || !strings.Contains(f.Message, "No event has arrived yet") {
		t.Errorf("at first: %+v", f)
	}
	s.post(t, sample(t, "payment_intent.succeeded"))
	s.now = s.now.Add(2 * 24 * time.Hour)
	if f := s.finding(t, health.Deliveries); f.Severity != health.OK || !strings.Contains(f.Message, "2 days ago") {
		t.Errorf("after two days: %+v", f)
	}
	s.now = s.now.Add(3 * 24 * time.Hour)
	if f := s.finding(t, health.Deliveries); f.Severity != health.Warn || !strings.Contains(f.Message, "No event has arrived for 5 days, since 2026-11-01 12:00 UTC") {
		t.Errorf("after five: %+v", f)
	}
}

// A probe is answered once, in its time, and is no event; without its nonce the same body is what
// any such body is.
func TestProbes(t *testing.T) {
	s := openShop(t, false)
	nonce := s.receiver.Probe()
	body := stripe.ProbeBody(nonce, 0)
	a := s.post(t, body)
	if a.status != 200 || a.Result.Status != receiver.Probed || !strings.Contains(a.text, `"event_id":null,"payment_id":null,"body_sha256":"`+fmt.Sprintf("%x", sum(body))) {
		t.Errorf("answered %s", a.text)
	}
	stats, err := s.books.Stats()
	if err != nil || stats.Events != 0 || s.receiver.Status().Verified != 0 {
		t.Errorf("%d events, %d deliveries, %v", stats.Events, s.receiver.Status().Verified, err)
	}
	if a = s.post(t, body); a.Result.Reason != "undecodable" {
		t.Errorf("the second time it was answered %s", a.text)
	}
	if a = s.post(t, stripe.ProbeBody("MADEUP", 0)); a.Result.Reason != "undecodable" {
		t.Errorf("with a nonce of its own: %s", a.text)
	}
	late := stripe.ProbeBody(s.receiver.Probe(), 300<<10)
	if len(late) < 300<<10 || len(late) > 301<<10 {
		t.Errorf("a probe of 300 kB has %d bytes", len(late))
	}
	s.now = s.now.Add(31 * time.Second)
	if a = s.post(t, late); a.Result.Reason != "undecodable" {
		t.Errorf("after its time: %s", a.text)
	}
	forged := stripe.ProbeBody(s.receiver.Probe(), 0)
	if a = s.do(t, s.request(t, "POST", hook, bytes.NewReader(forged), stripe.Sign(forged, "whsec_other", s.now))); a.status != 400 {
		t.Errorf("unsigned by us: %s", a.text)
	}
	for range 20 {
		nonce = s.receiver.Probe()
	}
	if nonce != "" {
		t.Error("nonces without end are given out")
	}
	s.now = s.now.Add(time.Minute)
	if s.receiver.Probe() == "" {
		t.Error("no nonce is given out after their time")
	}
}

func sum(body []byte) [sha256.Size]byte { return sha256.Sum256(body) }

// Refusals whose cause is over, or that are not of Stripe's, are a finding for half a minute where
// other deliveries verify; those that Stripe sends count for an hour.
func TestRefusalsThatAreOver(t *testing.T) {
	body := sample(t, "payment_intent.succeeded")
	const agent = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"
	for _, c := range []struct {
		name, agent, secret string
		age                 time.Duration
		verified, over      bool
	}{
		{"a clock that was wrong", agent, secret, time.Hour, true, true},
		{"a clock that was behind", agent, secret, -time.Hour, true, true},
		{"a clock that is wrong", agent, secret, time.Hour, false, false},
		{"a forgery", "curl/8.5.0", "whsec_forged", 0, true, true},
		{"another endpoint's secret", agent, "whsec_other", 0, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openShop(t, false)
			s.post(t, body)
			s.now = s.now.Add(time.Hour)
			for _, later := range []string{"", "once more"} {
				r := s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, c.secret, s.now.Add(-c.age)))
				r.Header.Set("User-Agent", c.agent)
				if a := s.do(t, r); a.status != 400 {
					t.Fatalf("answered %s", a.text)
				}
				s.now = s.now.Add(2 * time.Second)
				if c.verified {
					s.post(t, body)
				}
				if f := s.finding(t, health.Signatures); f.Severity != health.Warn {
					t.Errorf("at once %s: %+v", later, f)
				}
				s.now = s.now.Add(30 * time.Second)
				if f := s.finding(t, health.Signatures); (f.Severity == health.OK) != c.over {
					t.Errorf("after half a minute %s: %+v", later, f)
				}
			}
		})
	}
}

// A clock that was ahead has dated its refusals in the future. They are no finding for as long as
// it was wrong.
func TestRefusalsOfTheFuture(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	s.now = s.now.Add(365 * 24 * time.Hour)
	r := s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, secret, s.now.Add(-365*24*time.Hour)))
	if a := s.do(t, r); a.word() != "timestamp_too_old" {
		t.Fatalf("answered %s", a.text)
	}
	s.now = s.now.Add(-365 * 24 * time.Hour)
	if f := s.finding(t, health.Signatures); f.Severity != health.Fail {
		t.Errorf("while nothing has verified: %+v", f)
	}
	s.post(t, body)
	if f := s.finding(t, health.Signatures); f.Severity != health.OK {
		t.Errorf("after a delivery: %+v", f)
	}
}

// A delivery that verifies within the second of a refusal comes after it.
func TestADeliveryInTheSecondOfARefusal(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	s.now = s.now.Add(200 * time.Millisecond)
	s.do(t, s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, secret, s.now.Add(-time.Hour))))
	s.now = s.now.Add(200 * time.Millisecond)
	s.post(t, body)
	s.now = s.now.Add(time.Minute)
	if f := s.finding(t, health.Signatures); f.Severity != health.OK {
		t.Errorf("a minute later: %+v", f)
	}
}
