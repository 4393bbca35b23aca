package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// intake is a stream of new events that does not end by itself.
type intake struct {
	acked  atomic.Int64
	last   atomic.Int64 // Unix nanoseconds of the last answer
	gap    atomic.Int64 // the longest time without one, in nanoseconds
	failed atomic.Pointer[error]
	stop   func()
}

// intake posts new events from 16 senders.
func (p *program) intake(t *testing.T, from int64) *intake {
	t.Helper()
	in := &intake{}
	ctx, cancel := context.WithCancel(t.Context())
	var number atomic.Int64
	number.Store(from)
	template := sample(t, "payment_intent.succeeded")
	var senders sync.WaitGroup
	in.last.Store(time.Now().UnixNano())
	for range 16 {
		senders.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				n := number.Add(1)
				body := bytes.Replace(template, []byte("evt_3wBTwEKvHadernBlBPBleRA0"), fmt.Appendf(nil, "evt_%d", n), 1)
				body = bytes.ReplaceAll(body, []byte("3wBTwEKvHadernBl4gdrfNcd"), fmt.Appendf(nil, "%d", n/3))
				body = bytes.ReplaceAll(body, []byte("py_3wBTwEKvHadernBlVhC6f5rz"), fmt.Appendf(nil, "py_%d", n/3))
				if err := p.deliver(ctx, client, body); err != nil {
					if ctx.Err() == nil {
						in.failed.Store(&err)
					}
					return
				}
				in.acked.Add(1)
				now := time.Now().UnixNano()
				if gap := now - in.last.Swap(now); gap > in.gap.Load() {
					in.gap.Store(gap)
				}
			}
		})
	}
	in.stop = func() { cancel(); senders.Wait() }
	return in
}

// during counts what is acknowledged in a time while something else goes on, a second.
func (in *intake) during(t *testing.T, d time.Duration, also func(ctx context.Context) error) (rate float64, gap time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	in.gap.Store(0)
	begin, start := in.acked.Load(), time.Now()
	for ctx.Err() == nil {
		if also == nil {
			<-ctx.Done()
		} else if err := also(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
			break
		}
	}
	rate = float64(in.acked.Load()-begin) / time.Since(start).Seconds()
	if err := in.failed.Load(); err != nil {
		t.Errorf("an event was not taken: %v", *err)
	}
	return rate, time.Duration(in.gap.Load())
}

func download(client *operator.Client, path string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		body, err := client.Open(ctx, path, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		return errors.Join(err, body.Close())
	}
}

// stalled asks for a backup and reads none of it.
func stalled(t *testing.T, socket string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET /api/backup HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}

// Intake goes on while the ledger is copied, exported, copied to a client that does not read, and
// deleted from. How much slower it is then stands in the log, beside the intake right before and
// after.
func TestIntakeGoesOn(t *testing.T) {
	fill, phase := int64(2500), 400*time.Millisecond
	if *long {
		fill, phase = 400_000, 15*time.Second
	}
	p := build(t)
	p.env = []string{"TILLHOOK_RETENTION=0"}
	p.start(t)
	in := p.intake(t, 1)
	for in.acked.Load() < fill && in.failed.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	socket := filepath.Join(p.dir, "operator.sock")
	client := operator.Dial(socket)
	quiet, _ := in.during(t, phase, nil)
	compare := func(what string, also func(ctx context.Context) error) {
		rate, gap := in.during(t, phase, also)
		after, _ := in.during(t, phase, nil)
		t.Logf("%-28s %6.0f events/s of %6.0f: ratio %.2f, longest gap %v", what, rate, (quiet+after)/2, 2*rate/(quiet+after), gap.Round(time.Millisecond))
		if quiet = after; gap > 4*time.Second {
			t.Errorf("%s: nothing was acknowledged for %v", what, gap)
		}
	}
	compare("nothing else", nil)
	compare("one backup after another", download(client, "/api/backup"))
	stalled(t, socket)
	compare("beside a stalled backup", nil)
	compare("one export after another", download(client, "/api/export"))
	in.stop()

	p.kill(t)
	p.env = []string{"TILLHOOK_RETENTION=1s!"}
	p.start(t)
	if *long {
		in = p.intake(t, 1<<40)
		rate, gap := in.during(t, 2*phase, nil)
		t.Logf("%-28s %6.0f events/s of %6.0f: ratio %.2f, longest gap %v", "while bodies are deleted", rate, quiet, rate/quiet, gap.Round(time.Millisecond))
		in.stop()
	}
	var gone *operator.Error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := client.Get(t.Context(), operator.EventPath("evt_2")+"/body", nil)
		if errors.As(err, &gone) && gone.Code == "gone" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the oldest body is still there: %v", err)
		}
	}
	p.kill(t)
	proof, err := check.Verify(t.Context(), filepath.Join(p.dir, "ledger.db"))
	if err != nil {
		t.Fatalf("%v\n%+v", err, proof)
	}
	t.Logf("%d events, %d bodies left, %d bytes, %d free pages", proof.Events, proof.Bodies, proof.Bytes, proof.FreePages)
}

// A live receiver books nothing of a test event, and the reverse: all of it is kept in quarantine.
func TestTheModesDoNotMix(t *testing.T) {
	for _, livemode := range []bool{false, true} {
		s := openShop(t, livemode)
		for _, l := range lives(t, 1) {
			for _, body := range l.bodies {
				if !livemode {
					body = bytes.ReplaceAll(body, []byte(`"livemode": false`), []byte(`"livemode": true`))
				}
				if a := s.post(t, body); a.status != http.StatusOK || a.word() != "quarantined" || a.Result.Reason != "wrong_mode" {
					t.Fatalf("answered %d %s", a.status, a.text)
				}
			}
		}
		payments, err := s.books.Payments(t.Context(), ledger.PaymentQuery{Limit: 1})
		if err != nil || len(payments.Data) != 0 {
			t.Errorf("%d payments, %v", len(payments.Data), err)
		}
		var summary operator.Summary
		if err := json.Unmarshal([]byte(s.get(t, "/api/summary")), &summary); err != nil || len(summary.Totals) != 0 {
			t.Errorf("totals %v, %v", summary.Totals, err)
		}
		if !slices.ContainsFunc(summary.Health.Findings, func(s health.Finding) bool { return s.Code == health.Quarantine && s.Severity == "warn" }) {
			t.Errorf("health is %+v", summary.Health)
		}
	}
}
