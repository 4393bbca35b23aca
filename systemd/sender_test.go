package systemd_test

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
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// In a container this test binary is a sender: it posts signed events to the receiver there,
// repeats each until it is acknowledged, and prints a summary. SENDER_URL, SENDER_SECRET,
// SENDER_FROM and SENDER_COUNT configure it.
func TestMain(m *testing.M) {
	if os.Getenv("SENDER_URL") == "" {
		os.Exit(m.Run())
	}
	if err := send(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// sent counts the answers to a stream of events.
type sent struct {
	Acknowledged, Refused, Broken, Unavailable, Others int64
}

func send() error {
	from, err := strconv.Atoi(os.Getenv("SENDER_FROM"))
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(os.Getenv("SENDER_COUNT"))
	if err != nil {
		return err
	}
	var s sent
	var next atomic.Int64
	var senders sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for range 4 {
		senders.Go(func() {
			// One connection per event, so that a refused connection is noticed.
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			for i := next.Add(1) - 1; i < int64(count) && ctx.Err() == nil; i = next.Add(1) - 1 {
				for !s.post(ctx, client, from+int(i)) && ctx.Err() == nil {
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(4 * time.Millisecond) // spreads the events over the time in which the receiver restarts
			}
		})
	}
	senders.Wait()
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", text)
	return errors.Join(err, ctx.Err())
}

// post posts an event once and reports whether it was acknowledged.
func (s *sent) post(ctx context.Context, client *http.Client, n int) bool {
	body := fmt.Appendf(nil, `{"id":"evt_%019d","object":"event","api_version":"2023-10-16","created":%d,"type":"payment_intent.succeeded","livemode":false,"data":{"object":`+
		`{"id":"pi_%019d","object":"payment_intent","amount":4200,"amount_received":4200,"currency":"eur","created":%d,"status":"succeeded","livemode":false}}}`, n, time.Now().Unix(), n, time.Now().Unix())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("SENDER_URL"), bytes.NewReader(body))
	if err != nil {
		atomic.AddInt64(&s.Others, 1)
		return false
	}
	if name := os.Getenv("SENDER_NAME"); name != "" {
		r.Host = name
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = name
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, os.Getenv("SENDER_SECRET"), time.Now()))
	resp, err := client.Do(r)
	var network *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &network) && network.Op == "dial":
		atomic.AddInt64(&s.Refused, 1)
		return false
	case err != nil:
		atomic.AddInt64(&s.Broken, 1)
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	switch err = errors.Join(err, resp.Body.Close()); {
	case err == nil && resp.StatusCode == http.StatusOK:
		atomic.AddInt64(&s.Acknowledged, 1)
		return true
	case resp.StatusCode == http.StatusServiceUnavailable:
		atomic.AddInt64(&s.Unavailable, 1)
	default:
		atomic.AddInt64(&s.Others, 1)
	}
	return false
}
