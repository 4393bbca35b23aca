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

// Client calls the operator's API: that of a running receiver through its socket, or one in this
// process for a ledger that no receiver holds.
type Client struct {
	// AnswerTime bounds the time until an answer, or the first sign of work on it, begins; 0 for
	// any time. A socket that the service manager opened accepts connections even while no receiver
	// runs.
	AnswerTime time.Duration
	// StallTime bounds the time from one sign of progress, or one piece of an answer, to the next.
	StallTime time.Duration
	// Hint is the next step if the receiver does not answer.
	Hint string

	http   http.Client
	socket string
}

// Dial returns a client of the receiver that listens on a unix socket. It connects with the first
// request.
func Dial(socket string) *Client {
	return &Client{AnswerTime: 10 * time.Second, StallTime: 20 * time.Second, Hint: "look at its log", socket: socket,
		http: http.Client{CheckRedirect: refuseRedirect, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}}}
}

// Local returns a client of an open ledger. The caller closes the ledger.
func Local(l *ledger.Ledger) *Client {
	handler := New(Options{Ledger: l, Log: slog.New(slog.DiscardHandler)}).Socket()
	return &Client{http: http.Client{CheckRedirect: refuseRedirect, Transport: inProcess{handler}}}
}

// inProcess passes requests to a handler without a network. An answer begins when its header is
// written.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	out, in := io.Pipe()
	w := &recorder{header: http.Header{}, body: in, begun: make(chan struct{})}
	go func() {
		defer func() { // a handler panics to abort its answer
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
	if w.status == 0 && status >= http.StatusOK {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Get requests an escaped path and returns the answer, which the caller owns. An error answer is an
// *[Error] or a *[Partial].
func (c *Client) Get(ctx context.Context, path string, params url.Values) ([]byte, error) {
	return c.whole(ctx, http.MethodGet, path, params)
}

// Post sends a POST request, and is otherwise like Get.
func (c *Client) Post(ctx context.Context, path string, params url.Values) ([]byte, error) {
	return c.whole(ctx, http.MethodPost, path, params)
}

func (c *Client) whole(ctx context.Context, method, path string, params url.Values) ([]byte, error) {
	_, body, err := c.open(ctx, method, path, params)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(body)
	return answer, errors.Join(err, body.Close())
}

// Open requests an answer of any length. The caller closes it. An answer that is cut short ends in
// an error. The result has a method Size.
func (c *Client) Open(ctx context.Context, path string, params url.Values) (io.ReadCloser, error) {
	_, body, err := c.open(ctx, http.MethodGet, path, params)
	return body, err
}

// Export requests an export as Open does, and also returns the answer's header.
func (c *Client) Export(ctx context.Context, params url.Values) (http.Header, io.ReadCloser, error) {
	return c.open(ctx, http.MethodGet, "/api/export", params)
}

func (c *Client) open(ctx context.Context, method, path string, params url.Values) (http.Header, io.ReadCloser, error) {
	w := c.watch(ctx)
	r, err := http.NewRequestWithContext(w.ctx, method, "http://localhost"+path+"?"+params.Encode(), nil)
	if err != nil {
		w.end()
		return nil, nil, err
	}
	r.Header.Set(progressHeader, "1")
	resp, err := c.http.Do(r)
	if err != nil {
		w.end()
		return nil, nil, w.explain(err)
	}
	body := &watchedBody{resp.Body, w, resp.ContentLength}
	if resp.StatusCode == http.StatusOK {
		return resp.Header, body, nil
	}
	defer body.Close()
	var answer struct {
		Error  *Error
		Report json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&answer); err != nil || answer.Error == nil {
		return nil, nil, fmt.Errorf("the receiver answered %d, and not in the form of tillhook", resp.StatusCode)
	}
	answer.Error.Status = resp.StatusCode
	if answer.Report != nil {
		return nil, nil, &Partial{answer.Error, answer.Report}
	}
	return nil, nil, answer.Error
}

// EventPath returns the path of an event. The id may hold anything.
func EventPath(id string) string { return "/api/events/" + escape(id) }

// PaymentPath returns the path of a payment. The id may hold anything.
func PaymentPath(id string) string { return "/api/payments/" + escape(id) }

// escape makes an id one element of a path, even "." and "..".
func escape(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "%2E")
	}
	return url.PathEscape(id)
}

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
