package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// sell appends payments of one event each.
func sell(t testing.TB, l *ledger.Ledger, from, to int) {
	t.Helper()
	var sellers sync.WaitGroup
	for first := range 128 {
		sellers.Go(func() {
			for i := from + first; i < to; i += 128 {
				if _, err := l.Append(context.Background(), sale(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	sellers.Wait()
}

func sale(i int) *ledger.Event {
	id := fmt.Sprintf("%08d", i)
	e := paid(id, "2026-01-01T00:00:00Z", 4200)
	e.Created += int64(i)
	e.Facts.Intents[0].Created, e.Facts.Intents[0].Customer = e.Created, fmt.Sprintf("cus_%d", i%5000)
	e.Facts.Intents[0].Metadata = map[string]string{"order_id": id, "shop": "web"}
	return e
}

// A search that finds little stops early, reports how far it came, and continues there.
func TestASearchGoesOnWithItsNextPage(t *testing.T) {
	const n = 20_100
	l := ledgertest.Open(t, false)
	sell(t, l, 0, n)
	h := handlerOf(l)
	for _, search := range []string{"/api/payments?customer=cus_none", "/api/payments?metadata[order_id]=00000003", "/api/events?type=payout.paid", "/api/payments?flag=conflict"} {
		var list operator.List[json.RawMessage]
		found, pages := 0, 0
		for next := ""; pages == 0 || next != "" && pages < 10; pages++ {
			list = operator.List[json.RawMessage]{}
			w := get(h, search+"&page="+url.QueryEscape(next), nil)
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
				t.Fatalf("%s: %d %s", search, w.Code, w.Body)
			}
			if found += len(list.Data); pages == 0 && (!list.HasMore || list.NextPage == "" || list.ScannedTo == 0 || found > 0) {
				t.Fatalf("%s: the first answer is %s", search, w.Body)
			}
			next = string(list.NextPage)
		}
		if want := strings.Count(search, "00000003"); pages != 2 || list.HasMore || list.ScannedTo != 0 || found != want {
			t.Errorf("%s: %d found on %d pages, want %d on 2; the last is %+v", search, found, pages, want, list)
		}
	}
}

// A search ends when its client has gone and when the receiver stops.
func TestASearchEndsWithItsCaller(t *testing.T) {
	stopping, stop := context.WithCancel(t.Context())
	op := operator.New(operator.Options{Ledger: filled(t).Ledger, Log: slog.New(slog.DiscardHandler), Stopping: stopping}).Socket()
	gone, release := context.WithCancel(t.Context())
	release()
	paths := []string{"/api/payments", "/api/payments/pi_03/events", "/api/payments/pi_03/timeline", "/api/events", "/api/summary", "/api/summary?from=1970-01-01&timezone=Europe/Berlin"}
	for _, path := range paths {
		if w := get(op, path, func(r *http.Request) { *r = *r.WithContext(gone) }); w.Code != 503 || !strings.Contains(w.Body.String(), "the client canceled the request") {
			t.Errorf("%s without a client: %d %s", path, w.Code, w.Body)
		}
	}
	stop()
	for _, path := range paths {
		if w := get(op, path, nil); w.Code != 503 || !strings.Contains(w.Body.String(), "the receiver is shutting down") {
			t.Errorf("%s while the receiver stops: %d %s", path, w.Code, w.Body)
		}
	}
}

// Few searches run at once. Others wait a little and are then refused.
func TestFewSearchesRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		h := operator.New(operator.Options{Ledger: filled(t).Ledger, Log: slog.New(slog.DiscardHandler),
			Findings: func() []health.Finding { <-hold; return nil }}).Socket()
		var done sync.WaitGroup
		for range 8 {
			done.Go(func() {
				if w := get(h, "/api/summary", nil); w.Code != 200 {
					t.Errorf("a search was answered %d %s", w.Code, w.Body)
				}
			})
		}
		synctest.Wait()
		for _, path := range []string{"/api/payments", "/api/payments/pi_03/events", "/api/payments/pi_03/timeline", "/api/events", "/api/summary"} {
			w := get(h, path, nil)
			if w.Code != 503 || w.Header().Get("Retry-After") != "2" || !strings.Contains(w.Body.String(), `"overloaded","message":"8 searches are running already; try again in a moment"`) {
				t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
			}
		}
		for _, path := range []string{"/api/payments/pi_03", "/api/events/evt_03", "/readyz", "/healthz"} {
			if w := get(h, path, nil); w.Code != 200 {
				t.Errorf("%s was kept waiting: %d %s", path, w.Code, w.Body)
			}
		}
		done.Go(func() { // this one gets the place of one that ends while it waits
			if w := get(h, "/api/payments", nil); w.Code != 200 {
				t.Errorf("a search that waited was answered %d %s", w.Code, w.Body)
			}
		})
		time.Sleep(time.Second)
		close(hold)
		done.Wait()
	})
}

// The largest answers use little memory, even eight of them at once.
func TestTheLargestAnswers(t *testing.T) {
	l := ledgertest.Open(t, false)
	long := strings.Repeat("\x01", 500) // six bytes each in JSON
	var sellers sync.WaitGroup
	for i := range 110 {
		sellers.Go(func() {
			e := sale(i)
			for k := range 50 {
				e.Facts.Intents[0].Metadata[fmt.Sprintf("key_%d", k)] = long
			}
			appendEvent(t, l, e)
		})
	}
	for i := range 1100 {
		sellers.Go(func() {
			e := sale(1000 + i)
			e.Account = fmt.Sprintf("acct_%016d", i)
			appendEvent(t, l, e)
		})
	}
	sellers.Wait()
	h := handlerOf(l)
	for path, most := range map[string]int{"/api/payments?limit=100&metadata[shop]=web&created_lt=1767226000": 16 << 20, "/api/summary": 256 << 10, "/api/summary?from=2026-01-01&to=2026-02-01": 256 << 10,
		"/api/summary?from=2026-01-01&to=2026-02-01&timezone=Europe/Berlin": 256 << 10} {
		w := get(h, path, nil)
		var answer struct {
			HasMore  bool   `json:"has_more"`
			NextPage string `json:"next_page"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || !answer.HasMore || answer.NextPage == "" || w.Body.Len() > most || w.Body.Len() < most/4 {
			t.Errorf("%s: %d, %d bytes of %d at most, more: %v %v", path, w.Code, w.Body.Len(), most, answer.HasMore, err)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	var asked sync.WaitGroup
	for range 8 {
		asked.Go(func() {
			r := httptest.NewRequest("GET", "http://localhost/api/payments?limit=100&created_lt=1767226000", nil)
			h.ServeHTTP(&dropped{header: http.Header{}}, r)
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			peak.Store(max(peak.Load(), now.HeapInuse))
		})
	}
	asked.Wait()
	runtime.ReadMemStats(&after)
	if grown := int64(peak.Load()) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("eight of the largest lists at once take %d MB", grown>>20)
	}
	t.Logf("eight of the largest lists at once: the heap grew from %d to %d MB; %d MB were allocated in all", before.HeapInuse>>20, peak.Load()>>20, (after.TotalAlloc-before.TotalAlloc)>>20)
}

// dropped is a client that discards its answer.
type dropped struct{ header http.Header }

func (d *dropped) Header() http.Header         { return d.header }
func (d *dropped) WriteHeader(int)             {}
func (d *dropped) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkIntakeBesideSearches appends events without and beside searches of which many are
// abandoned, in turn.
func BenchmarkIntakeBesideSearches(b *testing.B) {
	const payments, searching, abandoned = 100_000, 8, 60
	l := ledgertest.Open(b, false)
	sell(b, l, 0, payments)
	listener, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: handlerOf(l)}
	go server.Serve(listener)
	defer server.Close()
	ask := func(ctx context.Context, path string) {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", listener.Addr().String())
		}}}
		r, err := http.NewRequestWithContext(ctx, "GET", "http://localhost"+path, nil)
		if err != nil {
			b.Error(err)
			return
		}
		if resp, err := c.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	sold := payments
	intake := func() (perSecond float64, p99 time.Duration) {
		const events, at = 3000, 16
		var mu sync.Mutex // guards took
		var took []time.Duration
		var senders sync.WaitGroup
		began := time.Now()
		for first := range at {
			senders.Go(func() {
				for i := first; i < events; i += at {
					start := time.Now()
					if _, err := l.Append(context.Background(), sale(sold+i)); err != nil {
						b.Error(err)
					}
					mu.Lock()
					took = append(took, time.Since(start))
					mu.Unlock()
				}
			})
		}
		senders.Wait()
		sold += events
		slices.Sort(took)
		return events / time.Since(began).Seconds(), took[len(took)*99/100]
	}
	var undisturbed, beside, slow, slower []float64
	intake()
	for b.Loop() {
		n, p99 := intake()
		undisturbed, slow = append(undisturbed, n), append(slow, p99.Seconds()*1000)
		ctx, stop := context.WithCancel(b.Context())
		var searches sync.WaitGroup
		for i := range searching {
			searches.Go(func() {
				for ctx.Err() == nil {
					ask(ctx, []string{"/api/payments?customer=cus_none", "/api/events?type=none", "/api/payments?metadata[order_id]=none", "/api/payments?status=canceled"}[i%4])
				}
			})
		}
		for range abandoned {
			searches.Go(func() {
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				ask(short, "/api/payments?customer=cus_none")
			})
		}
		n, p99 = intake()
		beside, slower = append(beside, n), append(slower, p99.Seconds()*1000)
		stop()
		searches.Wait()
	}
	median := func(list []float64) float64 { slices.Sort(list); return list[len(list)/2] }
	b.ReportMetric(median(undisturbed), "undisturbed/s")
	b.ReportMetric(median(beside), "beside/s")
	b.ReportMetric(median(beside)/median(undisturbed), "ratio")
	b.ReportMetric(median(slow), "p99-undisturbed-ms")
	b.ReportMetric(median(slower), "p99-beside-ms")
}
