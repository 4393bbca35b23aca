package operator

import (
	"context"
	"encoding/json"
	"errors"
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

// answerTime is how long an answer may take to begin: a copy of a large ledger is made, or proven, first, or thirty days of
// Stripe's events are read.
const answerTime = 3 * time.Hour

// Dial returns a client of the receiver that listens on a unix socket. It connects with the first request.
func Dial(socket string) *Client {
	return &Client{http.Client{CheckRedirect: refuseRedirect, Transport: &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: answerTime,
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

// inProcess hands requests to a handler without a network. An answer begins when its header is written.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	out, in := io.Pipe()
	w := &recorder{header: http.Header{}, body: in, begun: make(chan struct{})}
	go func() {
		defer func() { // a handler panics to break its answer off
			switch broken := recover(); broken {
			case nil:
			case http.ErrAbortHandler:
				w.WriteHeader(http.StatusInternalServerError)
				in.CloseWithError(io.ErrUnexpectedEOF)
			default:
				panic(broken)
			}
		}()
		p.handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		in.Close()
	}()
	<-w.begun
	return &http.Response{StatusCode: w.status, Header: w.sent, Body: out, Request: r}, nil
}

type recorder struct {
	header, sent http.Header
	status       int
	body         *io.PipeWriter
	begun        chan struct{}
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Get asks for an escaped path and returns the answer as it came, for the caller to keep. An error
// that the door answered is an *[Error].
func (c *Client) Get(ctx context.Context, path string, params url.Values) ([]byte, error) {
	return c.whole(ctx, http.MethodGet, path, params)
}

// Post has something done, and returns the answer as Get does.
func (c *Client) Post(ctx context.Context, path string, params url.Values) ([]byte, error) {
	return c.whole(ctx, http.MethodPost, path, params)
}

func (c *Client) whole(ctx context.Context, method, path string, params url.Values) ([]byte, error) {
	_, body, err := c.open(ctx, method, path, params)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("read the receiver's answer: %w", err)
	}
	return answer, nil
}

// Open asks for an answer of any length; the caller reads it to its end, or closes it. One that is cut
// short ends in an error.
func (c *Client) Open(ctx context.Context, path string, params url.Values) (io.ReadCloser, error) {
	_, body, err := c.open(ctx, http.MethodGet, path, params)
	return body, err
}

// Export asks for an export as Open does, and returns the answer's header, too.
func (c *Client) Export(ctx context.Context, params url.Values) (http.Header, io.ReadCloser, error) {
	return c.open(ctx, http.MethodGet, "/api/export", params)
}

func (c *Client) open(ctx context.Context, method, path string, params url.Values) (http.Header, io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path+"?"+params.Encode(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Header, resp.Body, nil
	}
	defer resp.Body.Close()
	var answer struct {
		Error  *Error
		Report json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Error == nil {
		return nil, nil, fmt.Errorf("the receiver answered %d with what is no answer of tillhook", resp.StatusCode)
	}
	answer.Error.Status = resp.StatusCode
	if answer.Report != nil {
		return nil, nil, &Partial{answer.Error, answer.Report}
	}
	return nil, nil, answer.Error
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
