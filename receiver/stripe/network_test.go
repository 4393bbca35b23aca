package stripe_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// Network errors are readable and can still be matched.
func TestPlainError(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	rude := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer rude.Close()
	bare := httptest.NewUnstartedServer(http.NotFoundHandler())
	bare.Config.ErrorLog = log.New(io.Discard, "", 0)
	bare.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("no certificate yet") }}
	bare.StartTLS()
	defer bare.Close()
	client := &http.Client{Timeout: 50 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(address string) error {
		resp, err := client.Get(address)
		if err == nil {
			err = errors.Join(errors.New("it answered"), resp.Body.Close())
		}
		return err
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	wrap := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://api.stripe.com/v1", Err: &net.OpError{Op: "dial", Net: "tcp", Err: err}}
	}
	for want, c := range map[string]struct{ err, is error }{
		"connect: connection refused":                                                       {ask("http://" + closed.Addr().String()), syscall.ECONNREFUSED},
		"there was no answer in time":                                                       {ask(silent.URL), context.DeadlineExceeded},
		"the connection was closed before the answer":                                       {ask(rude.URL), io.EOF},
		"the server speaks http, not https":                                                 {ask("https://" + strings.TrimPrefix(rude.URL, "http://")), nil},
		"the name api.stripe.com is unknown":                                                {wrap(&net.DNSError{Err: "no such host", Name: "api.stripe.com", IsNotFound: true}), nil},
		"the name api.stripe.com cannot be looked up":                                       {wrap(&net.DNSError{Err: "server misbehaving", Name: "api.stripe.com"}), nil},
		"canceled before an answer":                                                         {fmt.Errorf("x: %w", context.Canceled), context.Canceled},
		"there was no answer in time ":                                                      {wrap(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded},
		"the server refused TLS (internal error): it may have no certificate for that name": {ask(bare.URL), nil},
		"the key lacks the permission, as it said itself":                                   {errors.New("the key lacks the permission, as it said itself"), nil},
	} {
		got := stripe.PlainError(c.err)
		if !strings.HasPrefix(got.Error(), strings.TrimSpace(want)) || c.is != nil && !errors.Is(got, c.is) {
			t.Errorf("%v becomes %q, want %q", c.err, got, want)
		}
		for _, text := range []string{"dial", "://", "EOF", "deadline", "lookup", "context", "no such host"} {
			if strings.Contains(got.Error(), text) {
				t.Errorf("%q has %q in it", got, text)
			}
		}
	}
}
