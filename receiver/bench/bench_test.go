package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/bench"
	"tillhook/receiver/stripe"
)

// Requests are signed as Stripe signs them, and their ids share prefixes as Stripe's do.
func TestRequestsAreStripes(t *testing.T) {
	const secret = "whsec_bench"
	now := time.Now()
	verifier := stripe.NewVerifier([]string{secret}, 5*time.Minute)
	seen := map[string]bool{}
	types := map[string]int{}
	for _, request := range bench.NewGenerator(secret, now).NewEvents(2000) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request.Bytes)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) != request.Body {
			t.Fatalf("a body of %d bytes with a length of %d: %v", len(body), request.Body, err)
		}
		signature, err := stripe.ParseSignature(r.Header["Stripe-Signature"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Verify(signature, body, now); err != nil {
			t.Fatal(err)
		}
		e := stripe.Decode(body, false)
		if e.Quarantine != "" || seen[e.ID] || !regexp.MustCompile(`^evt_3[0-9A-Za-z]{23}$`).MatchString(e.ID) {
			t.Fatalf("event %q (%s), quarantine %q", e.ID, e.Type, e.Quarantine)
		}
		seen[e.ID] = true
		types[e.Type]++
		shared := strings.TrimPrefix(e.ID, "evt_")[:16]
		if !strings.HasPrefix(e.Facts.PaymentIntent, "pi_"+shared) || e.Facts.Charge != "" && !strings.HasPrefix(e.Facts.Charge, "ch_"+shared) {
			t.Fatalf("%s is about %s and %s", e.ID, e.Facts.PaymentIntent, e.Facts.Charge)
		}
	}
	if a, b := types["payment_intent.created"], types["payment_intent.succeeded"]; a+b != 2000 || b < 850 {
		t.Errorf("%v: not two events a payment", types)
	}
}

func TestForgedRequestsAreNot(t *testing.T) {
	request := bench.NewGenerator("whsec_bench", time.Now()).Forged(1)[0]
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request.Bytes)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := stripe.ParseSignature(r.Header["Stripe-Signature"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stripe.NewVerifier([]string{"whsec_bench"}, 5*time.Minute).Verify(signature, body, time.Now()); err == nil {
		t.Error("it verifies")
	}
}

// The bare handler answers everything, and the client reports an answer with another status.
func TestSend(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bench.Bare(ctx, address) }()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	requests := bench.NewGenerator("whsec_bench", time.Now()).NewEvents(1000)
	load, err := bench.Send(ctx, address, requests, 16, 200)
	if err != nil {
		t.Fatal(err)
	}
	if half, most := load.Quantile(0.5), load.Quantile(1); half <= 0 || most < half || load.Took.Seconds() < most {
		t.Errorf("half took %v s, the slowest %v s, all %v", half, most, load.Took)
	}
	if _, err := bench.Send(ctx, address, requests, 16, 400); err == nil || !strings.Contains(err.Error(), "status 200") {
		t.Errorf("an unexpected status: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoAnswer(t *testing.T) {
	answers := map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":          "",
		"HTTP/1.1 200 OK\r\n\r\n":                                 "Content-Length",
		"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n":         "Content-Length",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok":          "read the answer",
		"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n":       "Content-Length",
		"HTTP/1.1 503 Unavailable\r\nContent-Length: 2\r\n\r\nno": "status 503",
	}
	for answer, want := range answers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return // the test fails without an answer
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				fmt.Fprint(conn, answer)
			}
		}()
		_, err = bench.Send(t.Context(), l.Addr().String(), bench.NewGenerator("whsec_bench", time.Now()).NewEvents(1), 1, 200)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, not %q", answer, err, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
