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
	// connectTime bounds the time until an interactive call has its connection. A resolver tries
	// its second name server after 5 s.
	connectTime = 8 * time.Second
	// firstByteTime bounds the time from then to the first byte of the answer. Stripe takes less
	// than a second.
	firstByteTime = 5 * time.Second
	// interactivePause is the longest pause for which Stripe may ask (Retry-After) before a call
	// fails.
	interactivePause = 5 * time.Second
	// interactiveBackoff is the first pause between two attempts of an interactive call.
	interactiveBackoff = 200 * time.Millisecond
)

// ErrSilent is wrapped by errors of interactive calls that Stripe did not answer in time.
var ErrSilent = errors.New("no answer from Stripe's API")

// Interactive prepares the client for a command, before the first call: a person waits. An attempt
// without a connection for [connectTime] or an answer for [firstByteTime] fails and is not
// repeated, and later calls fail at once. Background work waits longer ([callTimeout]) and tries
// again, because Stripe can be slow.
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
	timer := time.AfterFunc(connectTime, cancel)
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if timer.Stop() {
			connected.Store(true)
			timer.Reset(firstByteTime)
		}
	}})
	resp, err := t.base.RoundTrip(r.WithContext(ctx))
	inTime := timer.Stop()
	if err == nil && inTime {
		resp.Body = &cancelingBody{resp.Body, cancel}
		return resp, nil
	}
	cancel()
	if err == nil { // its body cannot be read any more
		_ = resp.Body.Close()
		err = context.Canceled
	}
	if inTime || r.Context().Err() != nil {
		return nil, err
	}
	t.api.silent.Store(true)
	if connected.Load() {
		return nil, &silence{fmt.Sprintf("it accepted the request and sent nothing for %s", firstByteTime)}
	}
	return nil, &silence{fmt.Sprintf("there was no connection to %s within %s", r.URL.Host, connectTime)}
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
