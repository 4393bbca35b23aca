package stripe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

const (
	// firstByteTime bounds the time of an interactive call until the first byte of its answer,
	// with the connection. Stripe takes less than a second.
	firstByteTime = 5 * time.Second
	// interactiveBackoff is the first pause between two attempts of an interactive call.
	interactiveBackoff = 200 * time.Millisecond
)

// ErrSilent is wrapped by errors of interactive calls that Stripe did not answer in time.
var ErrSilent = errors.New("no answer from Stripe's API")

// Interactive prepares the client for a command, before the first call: a person waits. An attempt
// without an answer for [firstByteTime] fails and is not repeated, and later calls fail at once.
// Background work waits longer ([callTimeout]) and tries again, because Stripe can be slow.
func (a *API) Interactive() {
	a.interactive, a.Backoff = true, interactiveBackoff
}

// firstByteTransport bounds the time until the header of an answer.
type firstByteTransport struct {
	api  *API
	base http.RoundTripper
}

func (t *firstByteTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	var connected, late atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	timer := time.AfterFunc(firstByteTime, func() {
		late.Store(true)
		cancel()
	})
	resp, err := t.base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	switch {
	case err == nil:
		resp.Body = &cancelingBody{resp.Body, cancel}
		return resp, nil
	case !late.Load() || r.Context().Err() != nil:
		cancel()
		return nil, err
	}
	t.api.silent.Store(true)
	if connected.Load() {
		return nil, &silence{fmt.Sprintf("it accepted the request and sent nothing for %s", firstByteTime)}
	}
	return nil, &silence{fmt.Sprintf("there was no connection to %s within %s", r.URL.Host, firstByteTime)}
}

// silence is the error of an attempt without an answer in time.
type silence struct{ detail string }

func (s *silence) Error() string { return ErrSilent.Error() + ": " + s.detail }
func (s *silence) Unwrap() error { return ErrSilent }

// cancelingBody ends the context of its request when it is closed.
type cancelingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
