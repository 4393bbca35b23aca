package stripe_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// mac is a second implementation of Stripe's scheme: HMAC-SHA256 over "<t>.<body>".
func mac(secret, t, body string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(t + "." + body))
	return hex.EncodeToString(m.Sum(nil))
}

func codeOf(err error) stripe.Code {
	var r *stripe.Rejection
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

const accepted stripe.Code = ""

func TestSignatures(t *testing.T) {
	const secret, old, body = "whsec_paperNew", "whsec_paperOld", `{"id":"evt_1"}`
	now := time.Unix(1780000000, 500e6)
	at := func(offset int64) string { return fmt.Sprint(now.Unix() + offset) }
	good := mac(secret, at(0), body)
	wrong := strings.Repeat("0badc0de", 8)
	for _, c := range []struct {
		name  string
		lines []string
		want  stripe.Code
	}{
		{"as Stripe sends it", []string{"t=" + at(0) + ",v1=" + good}, accepted},
		{"the scheme before the time", []string{"v1=" + good + ",t=" + at(0)}, accepted},
		{"a wrong one before it", []string{"t=" + at(0) + ",v1=" + wrong + ",v1=" + good}, accepted},
		{"no hex before it", []string{"t=" + at(0) + ",v1=zz,v1=" + good}, accepted},
		{"a thousand wrong ones before it", []string{"t=" + at(0) + strings.Repeat(",v1="+wrong, 1000) + ",v1=" + good}, accepted},
		{"a rolled secret: both sign, we have one", []string{"t=" + at(0) + ",v1=" + mac("whsec_notYetHere", at(0), body) + ",v1=" + good}, accepted},
		{"the older of our two secrets", []string{"t=" + at(0) + ",v1=" + mac(old, at(0), body)}, accepted},
		{"test mode's v0 beside it", []string{"t=" + at(0) + ",v1=" + good + ",v0=" + wrong}, accepted},
		{"a scheme to come", []string{"t=" + at(0) + ",v2=abc,v1=" + good}, accepted},
		{"upper case hex", []string{"t=" + at(0) + ",v1=" + strings.ToUpper(good)}, accepted},
		{"spaces behind commas", []string{"t=" + at(0) + ", v1=" + good + ",\tv0=x"}, accepted},
		{"zeros before the number", []string{"t=000" + at(0) + ",v1=" + good}, accepted},
		{"a plus before the number", []string{"t=+" + at(0) + ",v1=" + good}, accepted},
		{"as old as allowed", []string{"t=" + at(-299) + ",v1=" + mac(secret, at(-299), body)}, accepted},
		{"as new as allowed", []string{"t=" + at(300) + ",v1=" + mac(secret, at(300), body)}, accepted},

		{"no header", nil, stripe.MissingSignature},
		{"an empty header", []string{""}, stripe.MissingSignature},
		{"two header lines", []string{"t=" + at(0) + ",v1=" + good, "t=" + at(0) + ",v1=" + good}, stripe.MalformedSignature},
		{"an empty line and a good one", []string{"", "t=" + at(0) + ",v1=" + good}, stripe.MalformedSignature},
		{"no time", []string{"v1=" + good}, stripe.MalformedSignature},
		{"two times, the last one signed", []string{"t=" + at(-9999) + ",t=" + at(0) + ",v1=" + good}, stripe.MalformedSignature},
		{"two times, the first one signed", []string{"t=" + at(0) + ",v1=" + good + ",t=" + at(-9999)}, stripe.MalformedSignature},
		{"the same time twice", []string{"t=" + at(0) + ",t=" + at(0) + ",v1=" + good}, stripe.MalformedSignature},
		{"words", []string{"i'm not even a real signature header"}, stripe.MalformedSignature},
		{"a name without a value", []string{"v1,t=1"}, stripe.MalformedSignature},
		{"an empty time", []string{"t=,v1=" + good}, stripe.MalformedSignature},
		{"a fractional time", []string{"t=" + at(0) + ".5,v1=" + good}, stripe.MalformedSignature},
		{"a time beyond 64 bits", []string{"t=99999999999999999999,v1=" + good}, stripe.MalformedSignature},
		{"a comma at the end", []string{"t=" + at(0) + ",v1=" + good + ","}, stripe.MalformedSignature},
		{"commas only", []string{",,"}, stripe.MalformedSignature},
		{"base64 padding in another scheme", []string{"t=" + at(0) + ",v1=" + good + ",v2=YWJj=="}, stripe.MalformedSignature},
		{"only v0, with the right MAC", []string{"t=" + at(0) + ",v0=" + good}, stripe.SignatureMismatch},
		{"only what is no hex", []string{"t=" + at(0) + ",v1=potato"}, stripe.SignatureMismatch},
		{"an empty v1", []string{"t=" + at(0) + ",v1="}, stripe.SignatureMismatch},
		{"half of the MAC", []string{"t=" + at(0) + ",v1=" + good[:32]}, stripe.SignatureMismatch},
		{"an unknown secret", []string{"t=" + at(0) + ",v1=" + mac("whsec_other", at(0), body)}, stripe.SignatureMismatch},
		{"an empty secret", []string{"t=" + at(0) + ",v1=" + mac("", at(0), body)}, stripe.SignatureMismatch},
		{"another body", []string{"t=" + at(0) + ",v1=" + mac(secret, at(0), body+" ")}, stripe.SignatureMismatch},
		{"another time than the signed one", []string{"t=" + at(-1) + ",v1=" + good}, stripe.SignatureMismatch},
		{"the version in capitals", []string{"t=" + at(0) + ",V1=" + good}, stripe.SignatureMismatch},
		{"a wrong MAC, long ago: unknown sender, whatever its age", []string{"t=12345,v1=" + good}, stripe.SignatureMismatch},
		{"a second too old", []string{"t=" + at(-300) + ",v1=" + mac(secret, at(-300), body)}, stripe.TimestampTooOld},
		{"very old", []string{"t=12345,v1=" + mac(secret, "12345", body)}, stripe.TimestampTooOld},
		{"the oldest number there is", []string{"t=-9223372036854775808,v1=" + mac(secret, "-9223372036854775808", body)}, stripe.TimestampTooOld},
		{"a second too new", []string{"t=" + at(301) + ",v1=" + mac(secret, at(301), body)}, stripe.TimestampInFuture},
		{"the newest number there is", []string{"t=9223372036854775807,v1=" + mac(secret, "9223372036854775807", body)}, stripe.TimestampInFuture},
	} {
		t.Run(c.name, func(t *testing.T) {
			sig, err := stripe.ParseSignature(c.lines)
			if err == nil {
				_, err = stripe.NewVerifier([]string{secret, old}, 5*time.Minute).Verify(sig, []byte(body), now)
			}
			if got := codeOf(err); got != c.want || (err != nil) != (c.want != accepted) {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}

func TestVerifyReturnsTheMatchingSecret(t *testing.T) {
	secrets := []string{"whsec_first", "whsec_second", "whsec_third"}
	v := stripe.NewVerifier(secrets, time.Minute)
	now := time.Now()
	for i, secret := range secrets {
		sig, err := stripe.ParseSignature([]string{stripe.Sign([]byte("body"), secret, now)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Verify(sig, []byte("body"), now); got != i || err != nil {
			t.Errorf("secret %d: got position %d, %v", i, got, err)
		}
	}
}

func TestRejectionHasTheSkewAndNoSecret(t *testing.T) {
	now := time.Unix(1780000000, 0)
	v := stripe.NewVerifier([]string{"whsec_hushhush"}, time.Minute)
	for offset, want := range map[time.Duration]string{-10 * time.Minute: "10m0s old", time.Hour: "1h0m0s in the future"} {
		sig, err := stripe.ParseSignature([]string{stripe.Sign(nil, "whsec_hushhush", now.Add(offset))})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(sig, nil, now)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v: got %v, want it to say %q", offset, err, want)
		}
	}
}

// FuzzHeader searches for an accepted header without a correct MAC over its only timestamp.
func FuzzHeader(f *testing.F) {
	const secret, body = "whsec_paper", `{"id":"evt_1"}`
	now := time.Unix(1780000000, 0)
	good := mac(secret, "1780000000", body)
	f.Add("t=1780000000,v1="+good, "")
	f.Add("t=1780000000, v1="+good, "t=1")
	f.Add("t=1,t=1780000000,v1="+good+",v0=x", "")
	f.Add("t=1779999700,v1="+mac(secret, "1779999700", body), "")
	f.Add(",,=", "")
	verifier := stripe.NewVerifier([]string{secret}, 5*time.Minute)
	f.Fuzz(func(t *testing.T, first, second string) {
		lines := []string{first}
		if second != "" {
			lines = append(lines, second)
		}
		sig, err := stripe.ParseSignature(lines)
		if err == nil {
			_, err = verifier.Verify(sig, []byte(body), now)
		}
		if err != nil {
			if codeOf(err) == "" {
				t.Fatalf("the error has no code: %v", err)
			}
			return
		}
		if len(lines) != 1 {
			t.Fatal("two lines were accepted")
		}
		var times []int64
		var macs []string
		for part := range strings.SplitSeq(first, ",") {
			name, value, _ := strings.Cut(strings.TrimLeft(part, " \t"), "=")
			switch name {
			case "t":
				n, err := strconv.ParseInt(value, 10, 64) // decimal, with any leading zeros
				if err != nil {
					t.Fatalf("an unreadable time was accepted: %q", value)
				}
				times = append(times, n)
			case "v1":
				macs = append(macs, strings.ToLower(value))
			}
		}
		if len(times) != 1 || times[0] < now.Unix()-300 || times[0] > now.Unix()+300 {
			t.Fatalf("accepted with the times %v", times)
		}
		want := mac(secret, fmt.Sprint(times[0]), body)
		for _, m := range macs {
			if m == want {
				return
			}
		}
		t.Fatalf("accepted without a right v1: %q", first)
	})
}
