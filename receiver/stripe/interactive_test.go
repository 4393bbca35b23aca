package stripe_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// An interactive call reports silence after 5 s in words, once: later calls fail at once. A slow
// answer is not silence once it has begun.
func TestInteractiveCalls(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(6 * time.Second)
		_, _ = w.Write([]byte(`{"object":"list","data":[],"has_more":false}`))
	}))
	t.Cleanup(slow.Close)
	full, err := net.Listen("tcp", "127.0.0.1:0") // takes the connection and starts no TLS
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	for _, c := range []struct{ what, url, says string }{
		{"accepts and says nothing", silent.URL, "no answer from Stripe's API to /v1/webhook_endpoints: it accepted the request and sent nothing for 5s"},
		{"does not finish the handshake", "https://" + full.Addr().String(), "there was no connection to " + full.Addr().String() + " within 8s"},
		{"is slow", slow.URL, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			base, err := url.Parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			api := stripe.NewAPI("rk_test_1", base, "test")
			api.Interactive()
			begun := time.Now()
			_, _, err = api.Endpoints(t.Context())
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("it took %s", took)
			}
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, stripe.ErrSilent) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v", err)
			}
			begun = time.Now()
			if _, err := api.CreateEndpoint(t.Context(), "https://a.example", "", ""); !errors.Is(err, stripe.ErrSilent) || time.Since(begun) > time.Second {
				t.Errorf("after %s: %v", time.Since(begun), err)
			}
		})
	}
	t.Run("asks to wait", func(t *testing.T) {
		t.Parallel()
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		t.Cleanup(busy.Close)
		base, err := url.Parse(busy.URL)
		if err != nil {
			t.Fatal(err)
		}
		api := stripe.NewAPI("rk_test_1", base, "test")
		api.Interactive()
		if _, _, err := api.Endpoints(t.Context()); !errors.Is(err, stripe.ErrPaused) || errors.Is(err, stripe.ErrSilent) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Cleanup(func() {
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls were made", n)
		}
	})
}
