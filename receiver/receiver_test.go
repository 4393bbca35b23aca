package receiver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// unread is a body that says it was never asked for.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestTheOrderOfRefusals(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	good := stripe.Sign(body, secret, s.now)
	large := bytes.Repeat([]byte(" "), 1<<20+1)
	for _, c := range []struct {
		what      string
		method    string
		path      string
		body      []byte
		signature []string
		status    int
		word      string
	}{
		{"another path, whatever else is wrong", "GET", "/", large, nil, 404, "not_found"},
		{"a longer path", "POST", hook + "/x", body, []string{good}, 404, "not_found"},
		{"two slashes at the end of another path", "POST", hook + "s//", body, []string{good}, 404, "not_found"},
		{"the path, written in an unusual way", "POST", "/webhooks%2Fstripe", body, []string{good}, 404, "not_found"},
		{"the operator's paths", "GET", "/metrics", nil, nil, 404, "not_found"},
		{"another method, whatever else is wrong", "PUT", hook, large, nil, 405, "method_not_allowed"},
		{"a look by browser", "GET", hook, nil, nil, 405, "method_not_allowed"},
		{"too large, whatever the signature", "POST", hook, large, nil, 413, "body_too_large"},
		{"no signature", "POST", hook, body, nil, 400, "missing_signature"},
		{"an empty signature", "POST", hook, body, []string{""}, 400, "missing_signature"},
		{"two signature headers", "POST", hook, body, []string{good, good}, 400, "malformed_signature"},
		{"a malformed signature", "POST", hook, body, []string{"v1=x"}, 400, "malformed_signature"},
		{"a signature of another body", "POST", hook, append(body, ' '), []string{good}, 400, "signature_mismatch"},
		{"too old", "POST", hook, body, []string{stripe.Sign(body, secret, s.now.Add(-301*time.Second))}, 400, "timestamp_too_old"},
		{"from the future", "POST", hook, body, []string{stripe.Sign(body, secret, s.now.Add(301*time.Second))}, 400, "timestamp_in_future"},
		{"good", "POST", hook, body, []string{good}, 200, "applied"},
		{"good, with a slash", "POST", hook + "/", body, []string{good}, 200, "already_processed"},
		{"good, with two slashes at the end", "POST", hook + "//", body, []string{good}, 200, "already_processed"},
		{"good, with repeated slashes", "POST", "/" + strings.ReplaceAll(hook, "/", "///"), body, []string{good}, 200, "already_processed"},
		{"good, by the older secret", "POST", hook, body, []string{stripe.Sign(body, "whsec_anOlderOne", s.now)}, 200, "already_processed"},
		{"no JSON", "POST", hook, []byte("}["), []string{stripe.Sign([]byte("}["), secret, s.now)}, 200, "quarantined"},
	} {
		t.Run(c.what, func(t *testing.T) {
			a := s.do(t, s.request(t, c.method, c.path, bytes.NewReader(c.body), c.signature...))
			if a.status != c.status || a.word() != c.word {
				t.Errorf("got %d %s, want %d %s", a.status, a.text, c.status, c.word)
			}
			if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the headers are %v", a.header)
			}
			if (a.header.Get("Allow") == "POST") != (c.status == 405) {
				t.Errorf("Allow is %q", a.header.Get("Allow"))
			}
			if strings.HasPrefix(a.text, `{"received":true`) != (c.status == 200) {
				t.Errorf("the answer is %s", a.text)
			}
		})
	}
	if st, err := s.books.Stats(); err != nil || st.Events != 2 {
		t.Errorf("%d events in the ledger, want 2: %v", st.Events, err)
	}
	if c := s.counted(t); c[`tillhook_webhook_requests_total{code="404"}`] != "5" || c[`tillhook_signature_failures_total{reason="signature_mismatch"}`] != "1" ||
		c[`tillhook_signature_failures_total{reason="missing_signature"}`] != "2" || c[`tillhook_webhook_duration_seconds_count{outcome="rejected"}`] != "15" {
		t.Errorf("counted %v", c)
	}
}

func TestABadHeaderIsRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	s := openShop(t, false)
	for _, signature := range []string{"", "not even a header"} {
		r := s.request(t, "POST", hook, unread{t}, signature)
		r.ContentLength = 1000
		r.Header.Set("Expect", "100-continue")
		client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != 400 {
			t.Errorf("%q: got %d, %v", signature, resp.StatusCode, err)
		}
		client.CloseIdleConnections()
	}
}

func TestLiveness(t *testing.T) {
	s := openShop(t, false)
	for method, want := range map[string]struct {
		status int
		text   string
	}{"GET": {200, "ok"}, "HEAD": {200, ""}, "POST": {405, ""}} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.url("/healthz"), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want.status || string(text) != want.text {
			t.Errorf("%s: got %d %q", method, resp.StatusCode, text)
		}
	}
}

// raw sends bytes on a connection of its own and returns the status line, "" if the server closed
// without one.
func (s *shop) raw(t *testing.T, text string) (conn net.Conn, status func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.server.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn, func() string {
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatalf("no answer and no close after 30 s to %.60q", text)
		}
		return strings.TrimSpace(line)
	}
}

// Whatever is sent gets an answer or a close, in time.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	head := "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nStripe-Signature: " + stripe.Sign(body, secret, s.now) + "\r\n"
	lines := append(bytes.Clone(body), bytes.Repeat([]byte("\n  "), 4000)...)
	for _, c := range []struct{ what, send, want string }{
		{"a body that does not come", head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body[:100]), "HTTP/1.1 408 Request Timeout"},
		{"chunks that stop", head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 408 Request Timeout"},
		{"invalid chunks", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400 Bad Request"},
		{"a header that does not end", "POST " + hook + " HTTP/1.1\r\nHost: sho", ""},
		{"nothing for an unknown path", "POST /nowhere HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\n", "HTTP/1.1 404 Not Found"},
		{"a huge header", "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nX: " + strings.Repeat("x", 1<<17) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a header over 16 KiB", "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nX: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a header of many lines", "GET /healthz HTTP/1.1\r\nHost: shop\r\n" + strings.Repeat("x:\r\n", 127) + "\r\n", "HTTP/1.1 400 Bad Request"},
		{"a header of not so many", "GET /healthz HTTP/1.1\r\nHost: shop\r\n" + strings.Repeat("x:\r\n", 126) + "\r\n", "HTTP/1.1 200 OK"},
		{"a large header", head + "X: " + strings.Repeat("x", 15<<10) + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body), "HTTP/1.1 200 OK"},
		{"a body of many lines", strings.Replace(head, stripe.Sign(body, secret, s.now), stripe.Sign(lines, secret, s.now), 1) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(lines), lines), "HTTP/1.1 200 OK"},
		{"HTTP/1.0", strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), "HTTP/1.0 200 OK"},
		{"options of nothing", "OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", "HTTP/1.1 404 Not Found"},
		{"liveness with a body that does not come", "GET /healthz HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK"},
		{"another protocol", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 404 Not Found"},
		{"noise", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			_, status := s.raw(t, c.send)
			if got := status(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("chunks without an end", func(t *testing.T) {
		t.Parallel()
		conn, status := s.raw(t, head+"Transfer-Encoding: chunked\r\n\r\n")
		chunk := "8000\r\n" + strings.Repeat(" ", 0x8000) + "\r\n"
		for range 33 { // a little over the limit of 1 MiB
			if _, err := io.WriteString(conn, chunk); err != nil {
				break // refused and closed while we were still sending
			}
		}
		if got := status(); got != "HTTP/1.1 413 Request Entity Too Large" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("two requests at once on one connection", func(t *testing.T) {
		t.Parallel()
		request := head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		conn, _ := s.raw(t, request+request)
		r := bufio.NewReader(conn)
		for range 2 {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
				t.Errorf("got %d, %v", resp.StatusCode, err)
			}
		}
	})
}

// Connections that are kept alive for nothing, and some that say nothing, do not keep an honest
// delivery out.
func TestACrowdOfIdleConnections(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const idle, silent, needed = 7500, 2300, 18500
	if files.Cur < needed {
		if os.Getenv("CI") == "true" {
			t.Fatalf("only %d files may be open", files.Cur)
		}
		t.Skipf("only %d files may be open", files.Cur)
	}
	s := openShop(t, false)
	for i := range idle + silent {
		if i >= idle {
			s.raw(t, "POST ")
			continue
		}
		conn, _ := s.raw(t, "GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if a := s.post(t, sample(t, "payment_intent.succeeded")); a.status != 200 || time.Since(begun) > 3*time.Second {
		t.Errorf("got %d after %s", a.status, time.Since(begun))
	}
}

func TestALargeEventIsFine(t *testing.T) {
	s := openShop(t, false)
	body := []byte(`{"id":"evt_large","object":"event","type":"invoice.paid","livemode":false,"created":1793534000,"data":{"object":{"object":"invoice","lines":"` +
		strings.Repeat("line ", 60000) + `"}}}`)
	if a := s.post(t, body); a.status != 200 || a.word() != "recorded" {
		t.Errorf("300 kB gave %d %s", a.status, a.text)
	}
	if got, err := s.books.Body("evt_large"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// What many senders hold together is bounded; those who hold little are not kept out by those who
// hold much.
func TestBodiesShareTheirMemory(t *testing.T) {
	t.Parallel()
	s := openShop(t, false)
	const half = 1 << 19 // bytes each sender holds; its buffer is 512 KiB to 1 MiB
	head := "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: 1048576\r\n\r\n"
	var refused, held int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 150 {
		group.Go(func() {
			_, status := s.raw(t, head+strings.Repeat(" ", half))
			line := status()
			mu.Lock()
			defer mu.Unlock()
			switch line {
			case "HTTP/1.1 503 Service Unavailable":
				refused++
			case "HTTP/1.1 408 Request Timeout":
				held++
			default:
				t.Errorf("got %q", line)
			}
		})
	}
	// While they hold all there is, a delivery of the common size gets through.
	body := sample(t, "payment_intent.succeeded")
	for range 20 {
		if a := s.post(t, body); a.status != 200 {
			t.Errorf("an honest delivery gave %d %s", a.status, a.text)
		}
	}
	group.Wait()
	if refused == 0 || held == 0 || held > 128 {
		t.Errorf("%d were held and %d refused", held, refused)
	}
	if a := s.post(t, bytes.Repeat([]byte(" "), 1<<20)); a.status != 200 {
		t.Errorf("when they are gone a large body gave %d %s", a.status, a.text)
	}
}

func TestOneDeliveryAHundredTimesAtOnce(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	words := map[string]int{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			a := s.post(t, body)
			mu.Lock()
			defer mu.Unlock()
			words[a.word()]++
		})
	}
	group.Wait()
	if words["applied"] != 1 || words["already_processed"] != 99 {
		t.Errorf("answered %v", words)
	}
	page, err := s.books.Events(t.Context(), ledger.EventQuery{Limit: 10})
	if err != nil || page.Next != "" || len(page.Data) != 1 || page.Data[0].Repeats != 99 {
		t.Errorf("the ledger holds %+v, %v", page, err)
	}
	if c := s.counted(t); c["tillhook_duplicate_events_total"] != "99" || c[`tillhook_events_total{outcome="applied",type="payment_intent.succeeded"}`] != "1" {
		t.Errorf("counted %v", c)
	}
}

func TestModes(t *testing.T) {
	test, live := openShop(t, false), openShop(t, true)
	body := bytes.ReplaceAll(sample(t, "payment_intent.succeeded"), []byte(`"livemode": false`), []byte(`"livemode": true`))
	for range 2 {
		if a := test.post(t, body); a.word() != "quarantined" || a.Result.Reason != "wrong_mode" || a.Result.PaymentID != nil {
			t.Errorf("a live event at a test receiver gave %s", a.text)
		}
	}
	if page, err := test.books.Payments(t.Context(), ledger.PaymentQuery{Limit: 1}); err != nil || len(page.Data) != 0 {
		t.Errorf("a live event booked a test payment: %v, %v", page, err)
	}
	if a := live.post(t, body); a.word() != "applied" {
		t.Errorf("the same event at a live receiver gave %s", a.text)
	}
}

func TestTheLog(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	forged := stripe.Sign(body, "whsec_somebodyElses", s.now)
	for range 50 {
		s.do(t, s.request(t, "POST", hook, bytes.NewReader(body), forged))
	}
	log := s.log.String()
	if n := strings.Count(log, "signature rejected"); n != 1 {
		t.Errorf("50 rejections made %d lines", n)
	}
	for _, want := range []string{"level=WARN", "code=signature_mismatch", "body_bytes=2421",
		"body_sha256=", "no event has verified since the start", "STRIPE_WEBHOOK_SECRET is probably that of another endpoint"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	if c := s.counted(t); c[`tillhook_signature_failures_total{reason="signature_mismatch"}`] != "50" {
		t.Errorf("counted %v", c)
	}
	s.post(t, body)
	s.now = s.now.Add(61 * time.Second)
	s.do(t, s.request(t, "POST", hook, bytes.NewReader(body), forged))
	log = s.log.String()
	for _, want := range []string{"level=INFO msg=event id=evt_3wBTwEKvHadernBlBPBleRA0 type=payment_intent.succeeded payment=pi_3wBTwEKvHadernBl4gdrfNcd outcome=applied ms=",
		"level=DEBUG msg=\"signature verified\" secret_position=2", "not_logged=49", "other events verify"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	for _, hidden := range []string{secret, "aTestsOwn", "anOlderOne", "_secret_", "somebodyElses"} {
		if strings.Contains(log, hidden) {
			t.Errorf("the log holds %q", hidden)
		}
	}
}

// A server that shuts down answers everything it has read, and whatever came on a connection that
// was kept alive.
func TestShutdownAnswersWhatWasRead(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	half := len(body) / 2
	conn, _ := s.raw(t, "POST "+hook+" HTTP/1.1\r\nHost: shop\r\nStripe-Signature: "+stripe.Sign(body, secret, s.now)+
		fmt.Sprintf("\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body)))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server said %q, %v", line, err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(body[:half]); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		closed <- s.server.Shutdown(ctx)
	}()
	for { // until it takes no more connections
		c, err := net.Dial("tcp", s.server.Address().String())
		if err != nil {
			break
		}
		c.Close()
	}
	time.Sleep(500 * time.Millisecond) // the sender takes longer than a closing server waits for idle ones
	if _, err := conn.Write(body[half:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
