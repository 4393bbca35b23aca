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

// Code is the reason why a signature was rejected. It is sent to the caller and counted.
type Code string

const (
	MissingSignature   Code = "missing_signature"
	MalformedSignature Code = "malformed_signature"
	SignatureMismatch  Code = "signature_mismatch"
	TimestampTooOld    Code = "timestamp_too_old"
	TimestampInFuture  Code = "timestamp_in_future"
)

// Codes lists all codes.
var Codes = [...]Code{MissingSignature, MalformedSignature, SignatureMismatch, TimestampTooOld, TimestampInFuture}

// Rejection is the error of a rejected signature.
type Rejection struct {
	Code Code
	// Age is the age of the signature by this machine's clock, negative if it is in the future.
	// It is set only with the two timestamp codes, whose senders know the secret.
	Age time.Duration
}

func (r *Rejection) Error() string {
	switch r.Code {
	case TimestampTooOld:
		return fmt.Sprintf("the signature is valid and %s old", r.Age.Round(time.Second))
	case TimestampInFuture:
		return fmt.Sprintf("the signature is valid and %s in the future", -r.Age.Round(time.Second))
	case MissingSignature:
		return "there is no Stripe-Signature header"
	case MalformedSignature:
		return "the Stripe-Signature header is malformed"
	}
	return "no signature in the header was made with a configured secret"
}

// Signature is a well-formed Stripe-Signature header. It is not verified yet.
type Signature struct {
	header    string // normalised for stripe-go: no spaces after commas
	timestamp int64  // the signed timestamp, Unix seconds
}

// ParseSignature parses the Stripe-Signature lines of a request. It is stricter than stripe-go,
// which takes the first of several header lines and signs the last of several timestamps: an age
// check on another timestamp would allow replays. In one point it is more lenient: it allows spaces
// after commas. https://docs.stripe.com/webhooks#verify-manually
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

// Verifier accepts bodies that were signed with one of its secrets within its tolerance. Its
// methods, except Replace, are safe for concurrent use.
type Verifier struct {
	secrets   atomic.Pointer[[]*signingSecret]
	retired   atomic.Pointer[[]retired]
	tolerance time.Duration
}

type signingSecret struct {
	text  string
	since time.Time    // when it was first configured
	last  atomic.Int64 // when it last verified a delivery, Unix seconds; 0 if never
}

// retired is a secret that was removed from the configuration.
type retired struct {
	text string
	at   time.Time
}

// maxRetired is the number of removed secrets that are remembered.
const maxRetired = 4

// SecretUse shows whether a configured secret verifies anything.
type SecretUse struct {
	Since time.Time // when this process first saw it configured
	Last  time.Time // when it last verified a delivery; zero if never
}

// NewVerifier returns a verifier for complete signing secrets ("whsec_…"). tolerance bounds the
// difference between a signature's time and this machine's clock in both directions. Several
// secrets are valid during a rotation.
func NewVerifier(secrets []string, tolerance time.Duration) *Verifier {
	v := &Verifier{tolerance: tolerance}
	v.Replace(secrets)
	return v
}

// Replace replaces the secrets for all later signatures. Removed secrets are remembered for
// [Verifier.SignedByRetired] only. Replace must not be called concurrently with itself.
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

// SecretUses returns the use of each secret, in the order of the configuration.
func (v *Verifier) SecretUses() (list []SecretUse) {
	for _, s := range *v.secrets.Load() {
		u := SecretUse{Since: s.since}
		if last := s.last.Load(); last != 0 {
			u.Last = time.Unix(last, 0)
		}
		list = append(list, u)
	}
	return list
}

// SignedByRetired reports whether a body was signed with a removed secret, and when that secret was
// removed.
func (v *Verifier) SignedByRetired(sig Signature, body []byte) (at time.Time, ok bool) {
	for _, r := range *v.retired.Load() {
		if webhook.ValidatePayloadIgnoringTolerance(body, sig.header, r.text) == nil {
			return r.at, true
		}
	}
	return at, false
}

// SecretsFromCLI reports whether all configured secrets come from "stripe listen".
func (v *Verifier) SecretsFromCLI() bool {
	return !slices.ContainsFunc(*v.secrets.Load(), func(s *signingSecret) bool { return !SecretFromCLI(s.text) })
}

// SecretFromCLI reports whether a signing secret looks like one of "stripe listen": 64 hexadecimal
// digits, where an endpoint's secret has 32 letters and digits.
// https://docs.stripe.com/stripe-cli/use-cli
func SecretFromCLI(secret string) bool {
	digits := strings.TrimPrefix(secret, "whsec_")
	return len(digits) == 64 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Verify verifies a body, which must be the bytes as they arrived. It returns the index of the
// matching secret, or a *[Rejection]. It compares the MAC before it checks the age, so a timestamp
// code always means a sender that knows the secret: a wrong clock or a replay.
func (v *Verifier) Verify(sig Signature, body []byte, now time.Time) (position int, err error) {
	position = -1
	var match *signingSecret
	for i, secret := range *v.secrets.Load() {
		// Compares every v1 in constant time. stripe-go checks the age before the MAC and only
		// against the past, so this skips its check and the one below follows.
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
	if now := now.Unix(); match.last.Load() != now { // avoids a write per delivery to a shared cache line
		match.last.Store(now)
	}
	return position, nil
}

// age returns how long before now the signature was made, limited to 100 years because the header
// can hold any number.
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

// Sign returns the Stripe-Signature header that Stripe sends with a body.
func Sign(body []byte, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}
