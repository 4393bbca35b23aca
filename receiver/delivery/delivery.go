// Package delivery sends an event to a receiver as Stripe does, and reads the answer.
package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"tillhook/receiver/config"
	"tillhook/receiver/stripe"
)

// sendTime bounds a delivery. Tillhook answers within 5 s, but a service may have to start first.
const sendTime = 15 * time.Second

// Sender sends as Stripe does: signed, and without following redirects.
type Sender struct {
	Target, Secret string
	client         http.Client
}

// New returns a sender to a target.
func New(t *config.Target) *Sender {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if t.Socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", t.Socket)
		}
	}
	if t.Local { // the connection does not leave this machine
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return &Sender{Target: t.URL, Secret: t.Secret, client: http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Send signs a body with a time that lies age ago, and sends it.
func (s *Sender) Send(ctx context.Context, body []byte, age time.Duration) (*Answer, error) {
	return s.Post(ctx, body, stripe.Sign(body, s.Secret, time.Now().Add(-age)))
}

// Post sends a body with a signature.
func (s *Sender) Post(ctx context.Context, body []byte, signature string) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the URL to send to cannot be used: %w", err)
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Stripe-Signature", signature)
	r.Header.Set("User-Agent", "tillhook send (not Stripe)")
	start := time.Now()
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, s.explainFailure(ctx, err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	d := &Answer{Status: resp.StatusCode, Body: answer, Server: resp.Header.Get("Server"), Took: time.Since(start)}
	if err := json.Unmarshal(answer, d); err != nil {
		d.Received = nil // another program answered
	}
	return d, nil
}

// explainFailure returns the error for a delivery without an answer.
func (s *Sender) explainFailure(ctx context.Context, err error) error {
	err = stripe.PlainError(err) // the message names the address itself
	switch {
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("%s has not answered for %s: the receiver may be restarting or failing to start (systemctl status tillhook); it is unknown whether the event was stored", s.Target, sendTime)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s closed the connection before it answered: the receiver may be restarting (systemctl status tillhook)", s.Target)
	}
	return fmt.Errorf("nothing was delivered to %s: %w; is a receiver running there (systemctl status tillhook, or tillhook serve)?", s.Target, err)
}

// Answer is the answer to a delivery.
type Answer struct {
	Status   int           `json:"-"`
	Body     []byte        `json:"-"`
	Server   string        `json:"-"` // the answer's Server header
	Took     time.Duration `json:"-"`
	Received *bool         `json:"received"`
	Result   struct {
		Status    string `json:"status"`
		Reason    string `json:"reason"`
		EventID   string `json:"event_id"`
		PaymentID string `json:"payment_id"`
	} `json:"result"`
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// Accepted reports whether the status is 2xx.
func (d *Answer) Accepted() bool { return d.Status >= 200 && d.Status <= 299 }

// FromTillhook reports whether Tillhook answered. Only {"received":true} is what Stripe's example
// handlers answer.
func (d *Answer) FromTillhook() bool {
	return d.Received != nil && (d.Result.Status != "" && d.Result.EventID != "" || d.Error.Code != "")
}

// Outcome returns the answer in one or two words.
func (d *Answer) Outcome() string {
	switch {
	case d.Result.Reason != "":
		return d.Result.Status + ": " + d.Result.Reason
	case d.Result.Status != "":
		return d.Result.Status
	case d.Error.Code != "":
		return d.Error.Code
	}
	return "not an answer from Tillhook"
}
