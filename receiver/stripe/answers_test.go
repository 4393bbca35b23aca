package stripe_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/stripe"
)

// answering returns a client of a server that answers every request with do.
func answering(t *testing.T, do http.HandlerFunc) *stripe.API {
	t.Helper()
	server := httptest.NewServer(do)
	t.Cleanup(server.Close)
	return client(t, server.URL, "rk_test_1")
}

// Lists that return to an earlier page or have no end are given up, and each page counts as a call.
func TestShortListsEnd(t *testing.T) {
	for _, c := range []struct {
		what string
		next func(after string, calls int) string
		most int
	}{
		{"a list that leads to itself", func(string, int) string { return "we_a" }, 3},
		{"a circle of two", func(after string, _ int) string { return map[string]string{"we_a": "we_b"}[after] }, 4},
		{"a circle of three", func(after string, _ int) string { return map[string]string{"we_a": "we_b", "we_b": "we_c"}[after] }, 5},
		{"a list without an end", func(_ string, calls int) string { return fmt.Sprintf("we_%d", calls) }, 20},
	} {
		t.Run(c.what, func(t *testing.T) {
			calls := 0
			api := answering(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				if strings.HasPrefix(r.URL.Path, "/v2/") {
					next := c.next(r.FormValue("page"), calls)
					if next == "" {
						next = "we_a"
					}
					fmt.Fprintf(w, `{"data":[{"id":"ed_1"}],"next_page_url":"/v2/core/event_destinations?page=%s"}`, next)
					return
				}
				next := c.next(r.FormValue("starting_after"), calls)
				if next == "" {
					next = "we_a"
				}
				fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[{"id":%q}]}`, next)
			})
			spent := 0
			ctx := stripe.WithBudget(t.Context(), func() error { spent++; return nil })
			if _, _, err := api.Endpoints(ctx); !errors.Is(err, stripe.ErrNotStripe) || calls > c.most || spent != calls {
				t.Errorf("endpoints: %d calls, %d counted: %v", calls, spent, err)
			}
			calls, spent = 0, 0
			if _, _, err := api.Destinations(ctx); !errors.Is(err, stripe.ErrEndless) || calls > c.most || spent != calls {
				t.Errorf("destinations: %d calls, %d counted: %v", calls, spent, err)
			}
			over := errors.New("used up")
			calls = 0
			_, _, err := api.Destinations(stripe.WithBudget(t.Context(), func() error { return over }))
			if !errors.Is(err, over) || calls != 0 {
				t.Errorf("without calls left: %d calls, %v", calls, err)
			}
		})
	}
}

// An entry that is unreadable or far too large is skipped and named; the entries after it are read.
func TestUnreadableEntries(t *testing.T) {
	big := strings.Repeat("x", 70<<10)
	api := answering(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"object":"list","has_more":false,"next_page_url":null,"data":[7,null,{"id":"bad id"},{"id":"we_odd","url":{},"event_payload":{}},
			{"id":"we_big","description":%q},{"id":"we_url","url":%q,"webhook_endpoint":{"url":%[2]q}},
			{"id":"we_good","url":"https://pay.haderer.example/","event_payload":"thin"}]}`, big, big[:3000])
	})
	list, skipped, err := api.Endpoints(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "we_good" || len(skipped) != 6 {
		t.Errorf("endpoints %+v, skipped %v, %v", list, skipped, err)
	}
	all, skipped, err := api.Destinations(t.Context())
	if err != nil || len(all) != 1 || all[0].Payload != "thin" || len(skipped) != 6 {
		t.Errorf("destinations %+v, skipped %v, %v", all, skipped, err)
	}
	for _, err := range skipped {
		if len(err.Error()) > 400 {
			t.Errorf("an error has %d bytes", len(err.Error()))
		}
	}
}

// A list that is held in memory is bounded in bytes, in however many pages it comes.
func TestALargeListOfEndpoints(t *testing.T) {
	page := strings.Repeat(`{"id":"we_x","description":"`+strings.Repeat("x", 60<<10)+`"},`, 40)
	calls := 0
	api := answering(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[%s{"id":"we_%d"}]}`, page, calls)
	})
	if _, _, err := api.Endpoints(t.Context()); !errors.Is(err, stripe.ErrNotStripe) || !strings.Contains(err.Error(), "has more than 4 MiB") {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

// A page that is too long is asked for in smaller parts. An answer that stays too long is not
// repeated.
func TestAPageThatIsTooLong(t *testing.T) {
	pad := strings.Repeat("x", 1<<19)
	limits := []string{}
	api := answering(t, func(w http.ResponseWriter, r *http.Request) {
		limits = append(limits, r.FormValue("limit"))
		n, err := strconv.Atoi(r.FormValue("limit"))
		if err != nil {
			t.Error(err)
		}
		io.WriteString(w, `{"object":"list","has_more":true,"data":[`)
		for i := range n {
			fmt.Fprintf(w, `{"id":"evt_%d","object":"event","created":5,"type":"charge.succeeded","livemode":false,"data":{"object":{"id":"ch_1","object":"charge"},"pad":"`, i)
			io.WriteString(w, pad)
			io.WriteString(w, `"}}`)
			if i < n-1 {
				io.WriteString(w, ",")
			}
		}
		io.WriteString(w, "]}")
	})
	page, err := api.Events(t.Context(), stripe.Account{}, false, nil, 0, 10, "")
	if err != nil || len(page.Events) != 6 || page.Next != "evt_5" || fmt.Sprint(limits) != "[100 25 6]" {
		t.Errorf("%d events, next %q, limits %v, %v", len(page.Events), page.Next, limits, err)
	}
	// The next pages of that list begin with as few, until they are short; other lists do not.
	pages := func(n int) string {
		limits = nil
		for range n {
			if _, err := api.Events(t.Context(), stripe.Account{}, false, nil, 0, 10, ""); err != nil {
				t.Fatal(err)
			}
		}
		return fmt.Sprint(limits)
	}
	if got := pages(2); got != "[6 6]" {
		t.Errorf("the next pages were asked for with the limits %s", got)
	}
	pad = ""
	if got := pages(4); got != "[6 24 96 100]" {
		t.Errorf("short pages were asked for with the limits %s", got)
	}
	pad = strings.Repeat("x", 10<<20) // one fits into an answer, not into a page of several
	if got := pages(2); got != "[100 25 6 1 1]" {
		t.Errorf("pages of one event were asked for with the limits %s", got)
	}
	limits = nil
	if _, err := api.ListObjects(t.Context(), stripe.Account{}, false, "charge", 0, ""); err != nil || limits[0] != "100" {
		t.Errorf("another list was asked for with the limits %v, %v", limits, err)
	}
	calls := 0
	api = answering(t, func(w http.ResponseWriter, r *http.Request) {
		calls++
		for range 20 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	if _, err := api.Event(t.Context(), stripe.Account{}, false, "evt_1"); !errors.Is(err, stripe.ErrLong) || calls != 1 {
		t.Errorf("an event of 20 MiB: %d calls, %v", calls, err)
	}
}

// Stripe's messages reach the log without control characters and cut to 300 bytes.
func TestMessagesAreReadable(t *testing.T) {
	const hostile = "\x1b[2J\u202e\u2066red\a \x7f\u009b31m sk_test_51Secret"
	for _, message := range []string{hostile, hostile + strings.Repeat("\u202e", 5000), strings.Repeat("ü", 5000), strings.Repeat("no ", 1<<18)} {
		api := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Request-Id", "req_"+strings.Repeat("9", 2000))
			w.WriteHeader(http.StatusPaymentRequired)
			fmt.Fprintf(w, `{"error":{"type":"api_error","code":%s,"message":%[1]s}}`, quoted(message))
		})
		_, _, err := api.Endpoints(t.Context())
		var refused *stripe.APIError
		if !errors.As(err, &refused) || len(refused.Message) > 303 || len(refused.Code) > 83 || len(err.Error()) > 600 {
			t.Fatalf("the message has %d bytes, the code %d, the error %d", len(refused.Message), len(refused.Code), len(err.Error()))
		}
		if text := err.Error(); wording.Escape(text) != text || strings.Contains(text, "51Secret") {
			t.Errorf("it says %q", text)
		}
	}
}

// So do network errors, which can quote a certificate or a proxy.
func TestANetworkErrorIsReadable(t *testing.T) {
	api := answering(t, nil)
	cause := errors.New("valid for \x1b[2J\u202e" + strings.Repeat("x", 5000))
	api.Transport, api.Backoff = broken{cause}, time.Microsecond
	_, _, err := api.Endpoints(t.Context())
	if !errors.Is(err, cause) || len(err.Error()) > 600 || wording.Escape(err.Error()) != err.Error() {
		t.Errorf("it says %q", err)
	}
}

// broken is a network that fails.
type broken struct{ err error }

func (b broken) RoundTrip(*http.Request) (*http.Response, error) { return nil, b.err }

func quoted(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c < 0x10000 {
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return `"` + b.String() + `"`
}

// A Retry-After that is not a number is ignored. A long one is bounded, and the error says so.
func TestOddRetryAfters(t *testing.T) {
	for after, want := range map[string]string{
		"-5": "429", "x": "429", "": "429", "1e9": "429", "99999999999999999999": "429", "Wed, 21 Oct 2065 07:28:00 GMT": "429",
		"7200":        "wait for another 1h0m0s (its Retry-After was 7200 s; the maximum wait is 1h0m0s)",
		"99999999999": "wait for another 1h0m0s (its Retry-After was 99999999999 s",
		"600":         "wait for another 10m0s",
	} {
		api := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		api.Backoff = time.Microsecond
		_, _, err := api.Endpoints(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Retry-After") != strings.Contains(want, "Retry-After") {
			t.Errorf("Retry-After %q: %v", after, err)
		}
	}
}

// A Date far from this machine's clock is believed unless a listed event disproves it.
func TestClocks(t *testing.T) {
	const year = 365 * 24 * time.Hour
	now := time.Now()
	for _, c := range []struct {
		what       string
		ours, date time.Duration
		seen       time.Duration // time of the newest event; 1 for none
		want       time.Duration
		sure       bool
	}{
		{"both right", 0, 0, -time.Minute, 0, true},
		{"no evidence", 0, 0, 1, 0, true},
		{"Date an hour behind", 0, -time.Hour, -time.Minute, -time.Hour, true},
		{"Date years behind", 0, -10 * year, -time.Minute, 0, true},
		{"Date years ahead", 0, 10 * year, -time.Minute, 0, true},
		{"ours years ahead", 10 * year, 0, -time.Minute, 0, true},
		{"ours years behind", -50 * year, 0, -time.Minute, 0, true},
		{"ours years behind, no evidence", -50 * year, 0, 1, -50 * year, false},
		{"an event of the future", 0, -10 * year, 20 * year, -10 * year, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			api := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(c.date).UTC().Format(http.TimeFormat))
				fmt.Fprint(w, `{"object":"list","data":[]}`)
			})
			api.Wall = func() time.Time { return time.Now().Add(c.ours).Round(0) }
			if c.seen != 1 {
				api.SawEvent(now.Add(c.seen).Unix())
			}
			if _, _, err := api.Endpoints(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.seen != 1 {
				api.SawEvent(now.Add(c.seen).Unix())
			}
			got, sure := api.Clocks().Believed()
			if diff := got.Sub(now.Add(c.want)); sure != c.sure || diff.Abs() > time.Minute {
				t.Errorf("believed is %s (%v), want %s", got, sure, now.Add(c.want))
			}
		})
	}
}
