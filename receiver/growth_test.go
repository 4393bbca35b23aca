package receiver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/receiver/bench"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// What a ledger costs when it has grown, and what a receiver does in the long run. The figures
// stand in the log: the machine is not quiet enough for a test to judge them, but for those that
// must not grow at all.

// grown is a receiver whose ledger grows.
type grown struct {
	*program
	maker *bench.Generator
	asks  *operator.Client
	sent  int
}

func newGrown(t *testing.T) *grown {
	t.Helper()
	g := &grown{program: build(t), maker: bench.NewGenerator(secret, time.Now())}
	socket := filepath.Join(t.TempDir(), "operator.sock")
	g.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + socket, "TILLHOOK_RETENTION=0"}
	g.asks = operator.Dial(socket)
	return g
}

// take sends new events over 64 connections, and returns how many are stored in a second.
func (g *grown) take(t *testing.T, events int) float64 {
	t.Helper()
	load, err := bench.Send(t.Context(), g.public, g.maker.NewEvents(events), 64, http.StatusOK)
	if err != nil {
		t.Fatal(err)
	}
	g.sent += events
	return float64(events) / load.Took.Seconds()
}

// metric reads one, without labels.
func (g *grown) metric(t *testing.T, name string) float64 {
	t.Helper()
	text, err := g.asks.Get(t.Context(), "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (.*)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("there is no %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// beside compares it with a receiver that begins with nothing, in turn.
func (g *grown) beside(t *testing.T, what string, events int) {
	t.Helper()
	var ratios []float64
	rounds := 1
	if *long {
		rounds = 3
	}
	for range rounds {
		empty := newGrown(t)
		empty.start(t)
		base := empty.take(t, events)
		empty.kill(t)
		rate := g.take(t, events)
		ratios = append(ratios, rate/base)
		t.Logf("%s: %.0f events/s, an empty ledger beside it %.0f: ratio %.2f", what, rate, base, rate/base)
	}
	slices.Sort(ratios)
	t.Logf("%s: median ratio %.2f", what, ratios[len(ratios)/2])
}

// look starts it once more and returns what it costs to open, to look into, and to hold.
func (g *grown) look(t *testing.T, what string) {
	t.Helper()
	timed := func(f func()) time.Duration {
		begun := time.Now()
		f()
		return time.Since(begun).Round(100 * time.Microsecond)
	}
	g.kill(t)
	opened := timed(func() { g.start(t) })
	scrape := timed(func() { g.metric(t, "tillhook_ledger_events") })
	var first, last string
	page := func(after string) (id string, took time.Duration) {
		q := url.Values{"limit": {"100"}}
		if after != "" {
			q.Set("starting_after", after)
		}
		var list struct{ Data []struct{ ID string } }
		took = timed(func() {
			text, err := g.asks.Get(t.Context(), "/api/payments", q)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &list); err != nil || len(list.Data) != 100 {
				t.Fatalf("a page of %d, %v", len(list.Data), err)
			}
		})
		return list.Data[99].ID, took
	}
	first, newest := page("")
	last, further := page(first)
	took := timed(func() {
		if _, err := g.asks.Get(t.Context(), operator.PaymentPath(last), nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%s: killed, started and answering after %v; first scrape %v; a page of 100 payments %v, the next %v; one payment %v; memory of its own %d MB; file %.0f MB, of it free %.0f",
		what, opened, scrape, newest, further, took, g.memory(t)>>20, g.metric(t, "tillhook_ledger_size_bytes")/(1<<20), g.metric(t, "tillhook_ledger_free_bytes")/(1<<20))
}

// search follows lists that have filters which nothing matches to their ends: each answer reads a
// bounded number of rows, however large the ledger is.
func (g *grown) search(t *testing.T) {
	t.Helper()
	for _, list := range []struct {
		path  string
		query url.Values
	}{
		{"/api/payments", url.Values{"customer": {"cus_none"}}},
		{"/api/payments", url.Values{"metadata[order]": {"none"}}},
		{"/api/payments", url.Values{"status": {"canceled"}}},
		{"/api/events", url.Values{"type": {"charge.dispute.closed"}}},
		{"/api/events", url.Values{"outcome": {"quarantined"}}},
	} {
		var pages int
		var slowest, all time.Duration
		for next := "first"; next != ""; pages++ {
			if next != "first" {
				list.query.Set("page", next)
			}
			begun := time.Now()
			text, err := g.asks.Get(t.Context(), list.path, list.query)
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begun)
			slowest, all = max(slowest, took), all+took
			var answer struct {
				Data []any
				Next string `json:"next_page"`
			}
			if err := json.Unmarshal(text, &answer); err != nil || len(answer.Data) > 0 {
				t.Fatalf("%d found, %v", len(answer.Data), err)
			}
			next = answer.Next
		}
		list.query.Del("page")
		t.Logf("%s?%s: %d pages in %v, the slowest in %v", list.path, list.query.Encode(), pages, all.Round(time.Millisecond), slowest.Round(time.Millisecond))
	}
}

// A ledger grows: intake beside that of an empty one, and again when retention has deleted half of
// the bodies.
func TestGrowth(t *testing.T) {
	events, chunk, step := 3000, 1000, 500
	if *long {
		events, chunk, step = 5_000_000, 100_000, 50_000
	}
	g := newGrown(t)
	g.start(t)
	g.idle(t)
	begun := time.Now()
	g.take(t, events/10)
	for g.sent < events {
		rate := g.take(t, chunk)
		if g.sent%(10*chunk) == 0 {
			t.Logf("%d events: %.0f a second", g.sent, rate)
		}
	}
	g.look(t, fmt.Sprintf("%d events", g.sent))
	g.search(t)
	g.beside(t, fmt.Sprintf("%d events", g.sent), step)
	t.Logf("memory of its own under load %d MB", g.memory(t)>>20)

	// What is older than half of the time goes, as fast as new events need the space. That time is
	// in whole seconds.
	time.Sleep(time.Until(begun.Add(4 * time.Second)))
	g.take(t, 2) // the time to delete by begins at the newest event, and is looked at once a minute
	g.kill(t)
	g.env = append(g.env[:1:1], fmt.Sprintf("TILLHOOK_RETENTION=%ds!", max(1, int(time.Since(begun).Seconds()/2))))
	g.start(t)
	for end := g.sent + events; g.metric(t, "tillhook_expired_bodies_total") < float64(events/2) && g.sent < end; {
		rate := g.take(t, chunk)
		if *long {
			t.Logf("%d bodies are deleted: %.0f events a second meanwhile", int(g.metric(t, "tillhook_expired_bodies_total")), rate)
		}
	}
	comes(t, "half of the bodies are deleted", func() bool { return g.metric(t, "tillhook_expired_bodies_total") >= float64(events/2) })
	expired := g.metric(t, "tillhook_expired_bodies_total")
	g.look(t, fmt.Sprintf("%.0f bodies deleted", expired))
	g.beside(t, fmt.Sprintf("%.0f bodies deleted", expired), step)
	g.kill(t)
	proof, err := check.Verify(t.Context(), ledger.Path(g.dir))
	if err != nil || proof.Events != uint64(g.sent) {
		t.Fatalf("%d events of %d, %v", proof.Events, g.sent, err)
	}
	t.Logf("the proof: %d events, %d payments, %d bodies", proof.Events, proof.Payments, proof.Bodies)
}

// idle returns what an idle receiver costs.
func (g *grown) idle(t *testing.T) {
	t.Helper()
	g.kill(t)
	begun := time.Now()
	g.start(t)
	t.Logf("empty: started and answering after %v; memory of its own, idle, %d MB", time.Since(begun).Round(time.Millisecond), g.memory(t)>>20)
}

// Minutes of everything at once: new events, repeats, forged ones, large ones. Neither memory nor
// goroutines grow.
func TestManyMinutes(t *testing.T) {
	minutes, minute := 5, 600*time.Millisecond
	if *long {
		minutes, minute = 10, time.Minute
	}
	g := newGrown(t)
	g.start(t)
	template := sample(t, "payment_intent.succeeded")
	padding := append(append([]byte(`{"padding":"`), []byte(regexp.MustCompile(`.`).ReplaceAllString(string(template), "0123456789abcdef"))...), `",`...)
	var mu sync.Mutex // guards both
	var took []time.Duration
	answers := map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	var number atomic.Int64
	for range 16 {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
		senders.Go(func() {
			defer client.CloseIdleConnections()
			_, known := ownEvent(template, number.Add(1))
			for n := 0; ctx.Err() == nil; n++ {
				_, body := ownEvent(template, number.Add(1)) // ids grow with time, as Stripe's do
				key, want := secret, "200"
				switch n % 10 {
				case 3, 7:
					body = known
				case 5, 8:
					key, want = "whsec_forged", "400"
				case 9:
					body = append(append([]byte{}, padding...), body[1:]...)
				}
				begun := time.Now()
				answer := g.onceSigned(ctx, client, body, stripe.Sign(body, key, begun))
				mu.Lock()
				took = append(took, time.Since(begun))
				if answers[answer]++; answer != want && ctx.Err() == nil {
					t.Errorf("answered %s, not %s", answer, want)
				}
				mu.Unlock()
			}
		})
	}
	memory, goroutines := make([]int64, minutes), make([]float64, minutes)
	for i := range minutes {
		time.Sleep(minute)
		mu.Lock()
		if slices.Sort(took); len(took) == 0 {
			t.Fatal("nothing was answered")
		}
		memory[i], goroutines[i] = g.memory(t), g.metric(t, "go_goroutines")
		t.Logf("minute %d: %d requests, p50 %v, p99 %v, p99.9 %v; memory of its own %d MB, %.0f goroutines", i+1, len(took), took[len(took)/2].Round(time.Microsecond),
			took[len(took)*99/100].Round(time.Microsecond), took[len(took)*999/1000].Round(time.Microsecond), memory[i]>>20, goroutines[i])
		took = took[:0]
		mu.Unlock()
	}
	cancel()
	senders.Wait()
	half := minutes / 2
	if before, after := slices.Max(memory[:half]), slices.Max(memory[half:]); *long && after > before*3/2 {
		t.Errorf("the memory of its own grew from %d to %d MB", before>>20, after>>20)
	}
	if before, after := slices.Max(goroutines[:half]), slices.Max(goroutines[half:]); after > before+16 {
		t.Errorf("%.0f goroutines became %.0f", before, after)
	}
	g.kill(t)
	if proof, err := check.Verify(t.Context(), ledger.Path(g.dir)); err != nil {
		t.Errorf("%+v, %v", proof, err)
	}
	t.Logf("the answers are %v", answers)
}
