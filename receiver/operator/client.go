package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tillhook/ledger"
)

// Client asks the private door: a running receiver's through its socket, or one in this process around
// a ledger that no receiver holds. What it asks is the same either way.
type Client struct{ http http.Client }

// Dial returns a client of the receiver that listens on a unix socket. It connects with the first request.
func Dial(socket string) *Client {
	return &Client{http.Client{Timeout: 30 * time.Second, CheckRedirect: refuseRedirect, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// Local returns a client of an open ledger. The caller closes the ledger.
func Local(l *ledger.Ledger) *Client {
	door := New(Options{Ledger: l, Log: slog.New(slog.DiscardHandler)}).Socket()
	return &Client{http.Client{CheckRedirect: refuseRedirect, Transport: inProcess{door}}}
}

// inProcess hands requests to a handler without a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	p.handler.ServeHTTP(w, r)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r}, nil
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

// Get asks for an escaped path and returns the answer as it came, for the caller to keep. An error
// that the door answered is an *[Error].
func (c *Client) Get(ctx context.Context, path string, params url.Values) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path+"?"+params.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read the receiver's answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var answer struct{ Error *Error }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error == nil {
		return nil, fmt.Errorf("the receiver answered %d with what is no answer of tillhook", resp.StatusCode)
	}
	answer.Error.Status = resp.StatusCode
	return nil, answer.Error
}

// EventPath is where one event is read; the id may hold anything.
func EventPath(id string) string { return "/api/events/" + escape(id) }

// PaymentPath is where one payment is read; the id may hold anything.
func PaymentPath(id string) string { return "/api/payments/" + escape(id) }

// escape makes an id one part of a path: "." and ".." can be ids, too.
func escape(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
