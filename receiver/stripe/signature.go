package stripe

import (
	"fmt"
	"slices"
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
	secrets   atomic.Pointer[[]*signingSecret]
	retired   atomic.Pointer[[]retired]
	tolerance time.Duration
}

type signingSecret struct {
	text  string
	since time.Time    // when it was first configured
	last  atomic.Int64 // when it last verified a delivery, Unix seconds; 0 while it has not
}

// retired is a secret that was taken out of configuration.
type retired struct {
	text string
	at   time.Time
}

// maxRetired secrets are remembered.
const maxRetired = 4

// Use tells of a configured secret whether it verifies anything.
type Use struct {
	Since time.Time // when it was configured, as far as this process knows
	Last  time.Time // zero while it has verified nothing
}

// NewVerifier takes the signing secrets whole ("whsec_…") and how far a signature's time may be
// from ours, in either direction. Several secrets are right while one is being rolled.
func NewVerifier(secrets []string, tolerance time.Duration) *Verifier {
	v := &Verifier{tolerance: tolerance}
	v.Replace(secrets)
	return v
}

// Replace has other secrets count from the next signature on. Those that no longer do are remembered for [Verifier.Retired] alone. It is
// called by one goroutine.
func (v *Verifier) Replace(secrets []string) {
	now := time.Now()
	var before, list []*signingSecret
	if p := v.secrets.Load(); p != nil {
		before = *p
	}
	for _, text := range secrets {
		s := &signingSecret{text: text, since: now}
		for _, old := range before {
			if old.text == text {
				s = old
			}
		}
		list = append(list, s)
	}
	var out []retired
	if p := v.retired.Load(); p != nil {
		out = slices.DeleteFunc(slices.Clone(*p), func(r retired) bool { return slices.Contains(secrets, r.text) })
	}
	for _, old := range before {
		if !slices.Contains(list, old) {
			out = append(out, retired{old.text, now})
		}
	}
	out = out[max(0, len(out)-maxRetired):]
	v.retired.Store(&out)
	v.secrets.Store(&list)
}

// Used tells of each secret, in the order of configuration, whether it verifies anything.
func (v *Verifier) Used() (list []Use) {
	for _, s := range *v.secrets.Load() {
		u := Use{Since: s.since}
		if last := s.last.Load(); last != 0 {
			u.Last = time.Unix(last, 0)
		}
		list = append(list, u)
	}
	return list
}

// Retired tells whether a body was signed with a secret that was taken out of configuration, and when that was.
func (v *Verifier) Retired(sig Signature, body []byte) (at time.Time, ok bool) {
	for _, r := range *v.retired.Load() {
		if webhook.ValidatePayloadIgnoringTolerance(body, sig.header, r.text) == nil {
			return r.at, true
		}
	}
	return at, false
}

// FromCLI tells that every configured secret is one of stripe listen.
func (v *Verifier) FromCLI() bool {
	return !slices.ContainsFunc(*v.secrets.Load(), func(s *signingSecret) bool { return !SecretFromCLI(s.text) })
}

// SecretFromCLI tells whether a signing secret looks like one that stripe listen made: those are 64 hexadecimal digits, an endpoint's
// are 32 letters and digits. https://docs.stripe.com/stripe-cli/use-cli
func SecretFromCLI(secret string) bool {
	digits := strings.TrimPrefix(secret, "whsec_")
	return len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Verify checks a body as it came, not a parsed and printed one. It returns which secret matched, by
// its position from 0, or a *[Rejection]. The MAC is compared first, so that a timestamp code
// always tells of somebody who knows the secret: a skewed clock, or a replay.
func (v *Verifier) Verify(sig Signature, body []byte, now time.Time) (position int, err error) {
	position = -1
	var match *signingSecret
	for i, secret := range *v.secrets.Load() {
		// Every v1 is compared, in constant time; the age check of stripe-go comes before its MAC
		// check and bounds the past alone, so it is left out and ours follows.
		if webhook.ValidatePayloadIgnoringTolerance(body, sig.header, secret.text) == nil {
			position, match = i, secret
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
	if now := now.Unix(); match.last.Load() != now { // else all processors would write to the same place all the time
		match.last.Store(now)
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
