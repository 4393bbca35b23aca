package stripe

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"
)

// Code names why a signature was not accepted. Codes are what the sender is told and what is counted.
type Code string

const (
	MissingSignature   Code = "missing_signature"
	MalformedSignature Code = "malformed_signature"
	SignatureMismatch  Code = "signature_mismatch"
	TimestampTooOld    Code = "timestamp_too_old"
	TimestampInFuture  Code = "timestamp_in_future"
)

// Codes are all of them.
var Codes = [...]Code{MissingSignature, MalformedSignature, SignatureMismatch, TimestampTooOld, TimestampInFuture}

// Rejection is the error of a signature that was not accepted.
type Rejection struct {
	Code Code
	// Age is how old the signature is by our clock, negative if it is from the future. It is set with
	// the two timestamp codes only, whose sender has proven that it knows the secret.
	Age time.Duration
}

func (r *Rejection) Error() string {
	switch r.Code {
	case TimestampTooOld:
		return fmt.Sprintf("the signature is right and %s old", r.Age.Round(time.Second))
	case TimestampInFuture:
		return fmt.Sprintf("the signature is right and %s in the future", -r.Age.Round(time.Second))
	case MissingSignature:
		return "there is no Stripe-Signature header"
	case MalformedSignature:
		return "the Stripe-Signature header is not of Stripe's form"
	}
	return "no signature in the header was made with a configured secret"
}

// Signature is a Stripe-Signature header whose form is right: whether it signs anything is not known yet.
type Signature struct {
	header    string // as stripe-go reads it: no spaces behind commas
	timestamp int64  // the one that is signed, Unix seconds
}

// ParseSignature reads the Stripe-Signature lines of a request. It is stricter than stripe-go, which
// takes the first of several lines and signs the last of several timestamps (an age check on another
// one would let replays through), and milder in one point: it allows spaces behind commas.
// https://docs.stripe.com/webhooks#verify-manually
func ParseSignature(lines []string) (Signature, error) {
	if len(lines) > 1 {
		return Signature{}, &Rejection{Code: MalformedSignature}
	}
	if len(lines) == 0 || lines[0] == "" {
		return Signature{}, &Rejection{Code: MissingSignature}
	}
	sig := Signature{header: lines[0]}
	if strings.ContainsAny(sig.header, " \t") {
		parts := strings.Split(sig.header, ",")
		for i, part := range parts {
			parts[i] = strings.TrimLeft(part, " \t")
		}
		sig.header = strings.Join(parts, ",")
	}
	timestamps := 0
	for part := range strings.SplitSeq(sig.header, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || strings.Contains(value, "=") {
			return Signature{}, &Rejection{Code: MalformedSignature}
		}
		if name != "t" {
			continue
		}
		t, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return Signature{}, &Rejection{Code: MalformedSignature}
		}
		sig.timestamp = t
		timestamps++
	}
	if timestamps != 1 {
		return Signature{}, &Rejection{Code: MalformedSignature}
	}
	return sig, nil
}

// Verifier accepts what was signed with one of its secrets, not too long ago.
type Verifier struct {
	secrets   atomic.Pointer[[]string]
	tolerance time.Duration
}

// NewVerifier takes the signing secrets whole ("whsec_…") and how far a signature's time may be
// from ours, in either direction. Several secrets are right while one is being rolled.
func NewVerifier(secrets []string, tolerance time.Duration) *Verifier {
	v := &Verifier{tolerance: tolerance}
	v.Replace(secrets)
	return v
}

// Replace has other secrets count from the next signature on.
func (v *Verifier) Replace(secrets []string) { v.secrets.Store(&secrets) }

// Verify checks a body as it came, not a parsed and printed one. It returns which secret matched, by
// its position from 0, or a *[Rejection]. The MAC is compared first, so that a timestamp code
// always tells of somebody who knows the secret: a skewed clock, or a replay.
func (v *Verifier) Verify(sig Signature, body []byte, now time.Time) (position int, err error) {
	position = -1
	for i, secret := range *v.secrets.Load() {
		// Every v1 is compared, in constant time; the age check of stripe-go comes before its MAC
		// check and bounds the past alone, so it is left out and ours follows.
		if webhook.ValidatePayloadIgnoringTolerance(body, sig.header, secret) == nil {
			position = i
			break
		}
	}
	if position < 0 {
		return -1, &Rejection{Code: SignatureMismatch}
	}
	switch age := sig.age(now); {
	case age > v.tolerance:
		return -1, &Rejection{Code: TimestampTooOld, Age: age}
	case -age > v.tolerance:
		return -1, &Rejection{Code: TimestampInFuture, Age: age}
	}
	return position, nil
}

// age is how long before now the signature says it was made, cut to 100 years: the header can hold any number.
func (s Signature) age(now time.Time) time.Duration {
	const century = 100 * 365 * 24 * 3600
	seconds := now.Unix()
	switch {
	case s.timestamp < seconds-century:
		return century * time.Second
	case s.timestamp > seconds+century:
		return -century * time.Second
	}
	return now.Sub(time.Unix(s.timestamp, 0))
}

// Sign makes the Stripe-Signature header that Stripe would send with a body at a time.
func Sign(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}
