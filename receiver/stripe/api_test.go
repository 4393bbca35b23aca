package stripe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// client returns a client of a test account, without the pauses between calls.
func client(t testing.TB, address, key string) *stripe.API {
	t.Helper()
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	api := stripe.NewAPI(key, base, "test")
	api.Pause, api.Backoff = 0, time.Millisecond
	return api
}

// smallEvent returns the body of an event of a type with a creation time.
func smallEvent(id, typ string, created int64) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","api_version":"2023-10-16","created":%d,"type":%q,"livemode":false,"pending_webhooks":0,"request":null,
		"data":{"object":{"id":"pi_%s","object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,"currency":"eur","created":%[2]d}}}`, id, created, typ, id)
}

func TestEventsAreListedByPages(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	now := time.Now().Unix()
	for i := range 250 {
		account.AddEvent(smallEvent(fmt.Sprintf("evt_%03d", i), "payment_intent.succeeded", now-int64(i)), "")
	}
	account.AddEvent(smallEvent("evt_other", "customer.created", now-3), "")
	account.AddEvent(smallEvent("evt_connected", "payment_intent.succeeded", now-4), "acct_1")
	var ids []string
	var sizes []int
	for after := ""; ; {
		page, err := api.Events(t.Context(), stripe.Account{}, false, stripe.Types[:14], now-239, now, after)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Events))
		for _, e := range page.Events {
			ids = append(ids, e.ID)
			if e.Quarantine != "" || intentOf(e).Amount != 4900 || e.Account != "" {
				t.Fatalf("listed as %+v", e)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if !reflect.DeepEqual(sizes, []int{100, 100, 39}) || ids[0] != "evt_001" || ids[238] != "evt_239" {
		t.Errorf("pages of %v, from %s to %s", sizes, ids[0], ids[len(ids)-1])
	}
	page, err := api.Events(t.Context(), stripe.Account{ID: "acct_1"}, false, stripe.Types[:14], now-10, now, "")
	if err != nil || len(page.Events) != 1 || page.Events[0].Account != "acct_1" {
		t.Errorf("of the connected account: %+v, %v", page, err)
	}
	if _, err = api.Events(t.Context(), stripe.Account{}, false, stripe.Types[:21], now-10, now, ""); err == nil {
		t.Error("21 types were asked for at once and given")
	}
	var all []string
	for _, group := range stripe.TypeGroups() {
		if len(group) > 20 {
			t.Errorf("a group of %d types", len(group))
		}
		all = append(all, group...)
	}
	if !slices.Equal(all, stripe.Types[:]) {
		t.Errorf("the groups have %v", all)
	}
}

// Calls are repeated if Stripe is busy, and not if Stripe refuses them.
func TestCallsThatFail(t *testing.T) {
	busy := stripetest.Fault{Status: 429, RetryAfter: "0"}
	for _, c := range []struct {
		name   string
		faults []stripetest.Fault
		calls  int
		want   string // part of the error; empty for success
	}{
		{"nothing", nil, 1, ""},
		{"too many calls", []stripetest.Fault{busy, busy}, 3, ""},
		{"too many calls permanently", []stripetest.Fault{busy, busy, busy, busy, busy}, 5, "Stripe answered 429 to /v1/webhook_endpoints: It did not work. [req_5]"},
		{"a fault of Stripe's", []stripetest.Fault{{Status: 500}, {Status: 503}}, 3, ""},
		{"a lock", []stripetest.Fault{{Status: 409}}, 2, ""},
		{"an answer that breaks off", []stripetest.Fault{{Cut: true}}, 2, ""},
		{"answers that break off", []stripetest.Fault{{Cut: true}, {Cut: true}, {Cut: true}, {Cut: true}, {Cut: true}}, 5, "cut short or is not JSON"},
		{"a proxy that is busy", []stripetest.Fault{{HTML: true}}, 2, ""},
		{"a proxy that forbids", []stripetest.Fault{{HTML: true, Status: 403}}, 1, "(HTTP 403) was cut short or is not JSON: a proxy or firewall"},
		{"a refusal", []stripetest.Fault{{Status: 402}}, 1, "Stripe answered 402"},
	} {
		t.Run(c.name, func(t *testing.T) {
			account := stripetest.New(t)
			account.AddEndpoint(map[string]any{"id": "we_1", "url": "https://pay.haderer.example/webhooks/stripe"})
			account.Fail(c.faults...)
			api := client(t, account.URL, account.Key)
			var codes []string
			api.Failed = func(code string) { codes = append(codes, code) }
			list, _, err := api.Endpoints(t.Context())
			if c.want == "" && (err != nil || len(list) != 1) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, %v; want %q", list, err, c.want)
			}
			failed := c.calls - 1
			if c.want != "" {
				failed = c.calls
			}
			if n := len(account.Calls()); n != c.calls || len(codes) != failed {
				t.Errorf("%d calls of %d, counted as %v", n, c.calls, codes)
			}
		})
	}
}

func TestRetryAfterAndContext(t *testing.T) {
	account := stripetest.New(t)
	account.Fail(stripetest.Fault{Status: 429, RetryAfter: "1"})
	api := client(t, account.URL, account.Key)
	begun := time.Now()
	if _, _, err := api.Endpoints(t.Context()); err != nil || time.Since(begun) < time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
	account.Fail(stripetest.Fault{Status: 429, RetryAfter: "3600"})
	calls := len(account.Calls())
	for range 2 {
		if _, _, err := api.Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "Stripe asked to wait for another 1h0m0s") {
			t.Errorf("asked to wait for an hour: %v", err)
		}
	}
	if n := len(account.Calls()) - calls; n != 1 {
		t.Errorf("asked to wait for an hour, it called %d times", n)
	}
	api = client(t, account.URL, account.Key)
	account.Fail(stripetest.Fault{Slow: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := api.Endpoints(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a slow answer: %v", err)
	}
	api.Pause = time.Hour
	_, _, _ = api.Endpoints(ctx)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := api.Endpoints(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a call that waits for its turn: %v", err)
	}
}

// Errors do not contain the key, and each has a next step.
func TestErrorsOfRefusals(t *testing.T) {
	account := stripetest.New(t)
	const wrong = "sk_test_51QbD7sKvHadernBlWrong"
	_, _, err := client(t, account.URL, wrong).Endpoints(t.Context())
	var refused *stripe.APIError
	if !errors.As(err, &refused) || !refused.Refused() || strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "****") {
		t.Errorf("of a wrong key: %v", err)
	}
	account.Deny("/v1/events", "rak_event_read")
	_, err = client(t, account.URL, account.Key).Events(t.Context(), stripe.Account{}, false, stripe.Types[:1], 0, 1, "")
	if !errors.As(err, &refused) || refused.Permission() != "Events: Read" {
		t.Errorf("of a right that is missing: %v", err)
	}
	account.Deny("/v1/webhook_endpoints", "rak_webhook_write")
	_, err = client(t, account.URL, account.Key).CreateEndpoint(t.Context(), "https://pay.haderer.example/", "2026-08-26.dahlia", "")
	if !errors.As(err, &refused) || refused.Permission() != "Webhook Endpoints: Write" {
		t.Errorf("of a right to write: %v", err)
	}
	_, err = client(t, account.URL, account.Key).Fetch(t.Context(), stripe.Account{}, false, "pi_none")
	if !errors.As(err, &refused) || !refused.Missing() || refused.Permission() != "" {
		t.Errorf("of what is not there: %v", err)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	if _, _, err = client(t, closed.URL, account.Key).Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer from Stripe's API to /v1/webhook_endpoints") {
		t.Errorf("of a closed server: %v", err)
	}
}

// The key is not sent to the target of a redirect.
func TestARedirectIsNotFollowed(t *testing.T) {
	account := stripetest.New(t)
	moved := httptest.NewServer(http.RedirectHandler(account.URL+"/v1/webhook_endpoints", http.StatusTemporaryRedirect))
	defer moved.Close()
	if list, _, err := client(t, moved.URL, account.Key).Endpoints(t.Context()); err == nil || len(account.Calls()) != 0 {
		t.Errorf("got %v, %v and %d calls behind the redirect", list, err, len(account.Calls()))
	}
}

func TestStripesClock(t *testing.T) {
	account := stripetest.New(t)
	account.SetNow(func() time.Time { return time.Now().Add(-10 * time.Minute) })
	api := client(t, account.URL, account.Key)
	if c := api.Clocks(); c.Known {
		t.Errorf("it is known before a call: %+v", c)
	}
	account.Fail(stripetest.Fault{Status: 402})
	if _, _, err := api.Endpoints(t.Context()); err == nil {
		t.Fatal("the call did not fail")
	}
	skew, ok := api.Skew()
	if c := api.Clocks(); !ok || (skew-10*time.Minute).Abs() > 2*time.Second || c.Stripe.After(time.Now().Add(-9*time.Minute)) {
		t.Errorf("the clocks are %+v, the skew %s", c, skew)
	}
}

// objectOf returns the object of a sample event.
func objectOf(t testing.TB, name string) []byte {
	t.Helper()
	body := sample(t, name)
	at := bytes.Index(body, []byte(`"object": {`))
	if at < 0 {
		t.Fatalf("%s has no object", name)
	}
	depth := 0
	for i, c := range body[at+len(`"object": `):] {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return body[at+len(`"object": `):][:i+1]
			}
		}
	}
	t.Fatalf("the object in %s does not end", name)
	return nil
}

func TestObjectsAreFetchedAsEvents(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	at := time.Unix(1790000000, 0)
	account.SetNow(func() time.Time { return at })
	for _, name := range []string{"payment_intent.succeeded", "charge.refunded", "refund.created", "charge.dispute.closed", "checkout.session.completed"} {
		want := stripe.Decode(sample(t, name), false)
		object := objectOf(t, name)
		account.Put(object, "acct_7")
		id := strings.Split(strings.SplitN(string(object), `"id": "`, 2)[1], `"`)[0]
		got, err := api.Fetch(t.Context(), stripe.Account{ID: "acct_7"}, false, id)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.ID != "fetch_"+id+"_1790000000" || got.Created != 1790000000 || got.Account != "acct_7" || got.Quarantine != "" || got.APIVersion != stripe.PinnedVersion {
			t.Errorf("%s was fetched as %+v", name, got)
		}
		if got.Facts.PaymentIntent != want.Facts.PaymentIntent || got.Facts.Charge != want.Facts.Charge && want.Facts.Charge != "" || len(got.Facts.Refunds) < len(want.Facts.Refunds) {
			t.Errorf("%s was fetched with the facts %+v, want %+v", name, got.Facts, want.Facts)
		}
		again := stripe.Decode(got.Raw, false)
		if again.ID != got.ID || !reflect.DeepEqual(again.Facts, got.Facts) || again.Account != got.Account || again.Type != got.Type {
			t.Errorf("%s reads as %+v the next time", name, again)
		}
	}
	if _, err := api.Fetch(t.Context(), stripe.Account{}, false, "cus_1"); !errors.Is(err, stripe.ErrNoObject) {
		t.Errorf("of a customer: %v", err)
	}
	if _, err := api.Fetch(t.Context(), stripe.Account{}, false, "pi_../../x"); !errors.Is(err, stripe.ErrNoObject) {
		t.Errorf("of a path: %v", err)
	}
	account.Put([]byte(`{"id":"pi_live","object":"payment_intent","status":"succeeded","livemode":true,"created":1}`), "")
	if _, err := api.Fetch(t.Context(), stripe.Account{}, false, "pi_live"); err == nil || !strings.Contains(err.Error(), "live mode") {
		t.Errorf("of the other mode: %v", err)
	}
	page, err := api.ListObjects(t.Context(), stripe.Account{ID: "acct_7"}, false, "refund", 0, "")
	if err != nil || len(page.Events) != 1 || page.Next != "" || page.Events[0].Type != "refund.fetched" {
		t.Errorf("the refunds: %+v, %v", page, err)
	}
}

// Every call sends the pinned version, and a fetched object has the version of the answer.
func TestCallsNameTheVersion(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	account.Put([]byte(`{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":1,"currency":"eur","created":1}`), "")
	e, err := api.Fetch(t.Context(), stripe.Account{}, false, "pi_1")
	if err != nil || e.APIVersion != stripe.PinnedVersion {
		t.Errorf("fetched as %+v, %v", e, err)
	}
	for _, call := range []func() error{
		func() error { _, _, err := api.Endpoints(t.Context()); return err },
		func() error { _, _, err := api.Destinations(t.Context()); return err },
		func() error { _, err := api.Events(t.Context(), stripe.Account{}, false, nil, 0, 1, ""); return err },
	} {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range account.Calls() {
		if c.Version != "2026-08-26.dahlia" {
			t.Errorf("%s was asked in version %q", c.Path, c.Version)
		}
	}
	newer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Stripe-Version", "2027-01-01.newer")
		fmt.Fprint(w, `{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":1,"currency":"eur","created":1}`)
	}))
	defer newer.Close()
	if e, err := client(t, newer.URL, account.Key).Fetch(t.Context(), stripe.Account{}, false, "pi_1"); err != nil || e.APIVersion != "2027-01-01.newer" {
		t.Errorf("an answer in another version was read as %+v, %v", e, err)
	}
}

// A member of an organization is named by its context, a connected account by its id.
func TestCallsNameTheAccount(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	now := time.Now().Unix()
	account.AddEvent(smallEvent("evt_1", "payment_intent.succeeded", now-1), "acct_member")
	account.Put([]byte(`{"id":"pi_1","object":"payment_intent","status":"succeeded","amount":1,"currency":"eur","created":1}`), "acct_member")
	member := stripe.Account{ID: "acct_member", Context: "org_1/acct_member"}
	page, err := api.Events(t.Context(), member, false, nil, now-10, now, "")
	if err != nil || len(page.Events) != 1 || page.Events[0].Account != "acct_member" || page.Events[0].Context != member.Context {
		t.Errorf("listed %+v, %v", page, err)
	}
	if e, err := api.Fetch(t.Context(), member, false, "pi_1"); err != nil || e.Account != "acct_member" || e.Context != member.Context {
		t.Errorf("fetched %+v, %v", e, err)
	}
	if _, err := api.Events(t.Context(), stripe.Account{ID: "acct_member"}, false, nil, now-10, now, ""); err != nil {
		t.Error(err)
	}
	var said []string
	for _, c := range account.Calls() {
		said = append(said, c.Account+" "+c.Context)
	}
	if want := []string{"acct_member org_1/acct_member", "acct_member org_1/acct_member", "acct_member "}; !slices.Equal(said, want) {
		t.Errorf("the calls named %q", said)
	}
}

// A Date in the future would let a read take precedence over later events.
func TestAFetchIsNotOfTheFuture(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	account.SetNow(func() time.Time { return time.Now().Add(1000 * time.Hour) })
	account.Put([]byte(`{"id":"pi_1","object":"payment_intent","status":"processing","amount":1,"currency":"eur","created":1}`), "")
	e, err := api.Fetch(t.Context(), stripe.Account{}, false, "pi_1")
	if err != nil || e.Created > time.Now().Unix() || e.ID != fmt.Sprintf("fetch_pi_1_%d", e.Created) {
		t.Errorf("fetched as %+v, %v", e, err)
	}
}

// An unreadable object hides neither its page nor the next ones.
func TestAnUnreadableObjectIsSkipped(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	for i := range 150 {
		account.Put(fmt.Appendf(nil, `{"id":"re_%03d","object":"refund","status":"succeeded","amount":1,"currency":"eur","charge":"ch_1","created":%d}`, i, 1000-i), "")
	}
	account.Put([]byte(`{"id":"re 99?","object":"refund","created":901}`), "") // the last of the first page
	account.Put([]byte(`{"id":"re_odd","object":"refund","amount":{},"charge":7,"created":998}`), "")
	read, skipped, pages := map[string]bool{}, 0, 0
	for after := ""; pages < 5; pages++ {
		page, err := api.ListObjects(t.Context(), stripe.Account{}, false, "refund", 0, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			read[e.ID] = true
		}
		skipped += len(page.Skipped)
		if after = page.Next; after == "" {
			break
		}
	}
	if len(read) < 150 || skipped == 0 {
		t.Errorf("%d refunds in %d pages, %d skipped", len(read), pages+1, skipped)
	}
}

// A list of endpoints that returns to its beginning ends, and a long message is cut.
func TestAnswersAreBounded(t *testing.T) {
	calls := 0
	circle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls > 20 {
			w.WriteHeader(http.StatusPaymentRequired)
		}
		next := "we_a"
		if r.FormValue("starting_after") == "we_a" {
			next = "we_b"
		}
		fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[{"id":%q}]}`, next)
	}))
	defer circle.Close()
	if _, _, err := client(t, circle.URL, "rk_test_1").Endpoints(t.Context()); !errors.Is(err, stripe.ErrNotStripe) || calls > 10 {
		t.Errorf("after %d calls: %v", calls, err)
	}
	wordy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusPaymentRequired)
		fmt.Fprintf(w, `{"error":{"type":"api_error","message":%q}}`, strings.Repeat("no ", 1<<20))
	}))
	defer wordy.Close()
	if _, _, err := client(t, wordy.URL, "rk_test_1").Endpoints(t.Context()); err == nil || len(err.Error()) > 1000 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	waits := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "99999999999")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer waits.Close()
	if _, _, err := client(t, waits.URL, "rk_test_1").Endpoints(t.Context()); err == nil || !strings.Contains(err.Error(), "wait for another 1h0m0s") {
		t.Errorf("asked to wait for years: %v", err)
	}
}

func TestAThinEventIsResolved(t *testing.T) {
	thin := sample(t, "v1.payment_intent.succeeded")
	id := stripe.RelatedObject(thin)
	if !strings.HasPrefix(id, "pi_") {
		t.Fatalf("it is about %q", id)
	}
	e := stripe.ResolveThin(thin, false, &ledger.Event{Facts: ledger.Facts{PaymentIntent: id, Charge: "ch_1"}})
	if e.Quarantine != "" || e.Facts.PaymentIntent != id || e.Facts.AboutPayment() || e.Created == 0 {
		t.Errorf("it reads as %+v", e)
	}
	if e = stripe.ResolveThin(thin, true, &ledger.Event{}); e.Quarantine == "" {
		t.Errorf("of the other mode it reads as %+v", e)
	}
	if id := stripe.RelatedObject([]byte(`{"related_object":{"id":"bm_1"}}`)); id != "" {
		t.Errorf("%q can be fetched", id)
	}
}

func TestEndpointsAreWritten(t *testing.T) {
	account := stripetest.New(t)
	api := client(t, account.URL, account.Key)
	made, err := api.CreateEndpoint(t.Context(), "https://pay.haderer.example/webhooks/stripe", "2026-08-26.dahlia", "Tillhook")
	if err != nil || made.Secret == "" || made.APIVersion != "2026-08-26.dahlia" || len(made.MissingTypes()) != 0 || !made.Enabled() {
		t.Fatalf("made %+v, %v", made, err)
	}
	if e, err := api.SetTypes(t.Context(), made.ID, []string{"charge.succeeded", "customer.created"}); err != nil || len(e.MissingTypes()) != len(stripe.Types)-1 {
		t.Errorf("it has %+v, %v", e, err)
	}
	account.Endpoint(made.ID)["status"] = "disabled"
	if e, err := api.EnableEndpoint(t.Context(), made.ID); err != nil || !e.Enabled() {
		t.Errorf("enabled: %+v, %v", e, err)
	}
	if _, err := api.EnableEndpoint(t.Context(), "we_1/../x"); err == nil {
		t.Error("a path was taken for an id")
	}
	if all := (&stripe.Endpoint{EnabledEvents: []string{"*"}}).MissingTypes(); all != nil {
		t.Errorf("with all events it lacks %v", all)
	}
	account.AddEndpoint(map[string]any{"id": "we_thin", "url": "https://thin.haderer.example/", "event_payload": "thin"})
	list, _, err := api.Destinations(t.Context())
	if err != nil || len(list) != 2 || list[1].Payload != "thin" || list[1].URL() != "https://thin.haderer.example/" {
		t.Errorf("destinations %+v, %v", list, err)
	}
}

// stripe-mock knows every path and parameter of Stripe's API and refuses others.
// https://github.com/stripe/stripe-mock
func TestStripeMockAcceptsTheCalls(t *testing.T) {
	path, err := exec.LookPath("stripe-mock")
	if err != nil {
		missing(t, "stripe-mock is not installed")
	}
	address := startMock(t, path)
	api := client(t, address, "sk_test_123")
	now := time.Now().Unix()
	for _, group := range stripe.TypeGroups() {
		if _, err := api.Events(t.Context(), stripe.Account{ID: "acct_1"}, false, group, now-3600, now, "evt_123"); err != nil {
			t.Errorf("events: %v", err)
		}
	}
	if list, _, err := api.Endpoints(t.Context()); err != nil || len(list) == 0 || list[0].URL == "" || list[0].Status == "" {
		t.Errorf("endpoints: %+v, %v", list, err)
	}
	if e, err := api.CreateEndpoint(t.Context(), "https://pay.haderer.example/webhooks/stripe", "2023-10-16", "Tillhook"); e.ID == "" || err != nil && !strings.Contains(err.Error(), "returned no secret") {
		t.Errorf("create: %+v, %v", e, err)
	}
	if _, err := api.SetTypes(t.Context(), "we_123", stripe.Types[:]); err != nil {
		t.Errorf("update: %v", err)
	}
	if _, err := api.EnableEndpoint(t.Context(), "we_123"); err != nil {
		t.Errorf("enable: %v", err)
	}
	for _, id := range []string{"pi_123", "ch_123", "re_123", "dp_123", "cs_123"} {
		if e, err := api.Fetch(t.Context(), stripe.Account{}, false, id); err != nil || !e.Facts.AboutPayment() {
			t.Errorf("fetch %s: %+v, %v", id, e, err)
		}
	}
	for _, kind := range stripe.ListedKinds {
		if page, err := api.ListObjects(t.Context(), stripe.Account{}, false, kind, now, ""); err != nil || len(page.Events) == 0 {
			t.Errorf("list of %s: %v", kind, err)
		}
	}
	if page, err := api.ListRefunds(t.Context(), stripe.Account{}, false, "ch_123", ""); err != nil || len(page.Events) == 0 {
		t.Errorf("refunds of a charge: %v", err)
	}
}

// missing skips a test because something is missing. In CI that is a failure.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// startMock starts stripe-mock on a free port until the test ends.
func startMock(t *testing.T, path string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mock := exec.Command(path, "-http-addr", address)
	var said bytes.Buffer
	mock.Stdout, mock.Stderr = &said, &said
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = mock.Process.Kill()
		_ = mock.Wait() // killed on purpose
		if t.Failed() {
			t.Logf("stripe-mock said: %s", said.Bytes())
		}
	})
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return "http://" + address
		}
	}
	t.Fatalf("stripe-mock does not listen: %s", said.Bytes())
	return ""
}

// Missing access to an account is distinguished from a missing permission of the key.
func TestReasonsOfARefusal(t *testing.T) {
	gone := &stripe.APIError{Path: "/v1/events", Status: 403, Code: "account_invalid", Message: "The provided key does not have access to account 'acct_7'."}
	if !gone.NoAccess() || gone.LacksPermission() || gone.Permission() != "" {
		t.Errorf("an account that left: %v", gone)
	}
	lacking := &stripe.APIError{Path: "/v1/events", Status: 403, Message: "Having the 'rak_event_read' permission would allow this request to continue."}
	if lacking.NoAccess() || !lacking.LacksPermission() || lacking.Permission() != "Events: Read" {
		t.Errorf("a permission: %v", lacking)
	}
}
