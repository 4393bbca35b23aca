package ledger_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// refunded returns the rows of a payment that was refunded in parts, and the size of their bodies.
func refunded(b *testing.B) (rows []*ledger.Row, raw int) {
	b.Helper()
	names, err := filepath.Glob("../testdata/scenarios/refunded_in_parts/[0-9]*.json")
	if err != nil || len(names) == 0 {
		b.Fatal("no scenario: ", err)
	}
	for _, name := range names {
		e := decode(mustRead(b, name))
		e.Received = time.Unix(e.Created, 0)
		rows, raw = append(rows, ledger.RowOf(e)), raw+len(e.Raw)
	}
	return rows, raw
}

func BenchmarkFold(b *testing.B) {
	rows, _ := refunded(b)
	b.ReportAllocs()
	for b.Loop() {
		ledger.Fold("pi_1", rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/event")
}

func BenchmarkEncode(b *testing.B) {
	rows, _ := refunded(b)
	s := ledger.Fold("pi_1", rows)
	b.ReportAllocs()
	for b.Loop() {
		ledger.Encode(rows[0], s)
	}
}

// BenchmarkEncodeBody compresses the body of a webhook.
func BenchmarkEncodeBody(b *testing.B) {
	l := ledgertest.Open(b, false)
	e := decode(mustRead(b, "../testdata/events/payment_intent.succeeded.json"))
	b.SetBytes(int64(len(e.Raw)))
	b.ReportAllocs()
	for b.Loop() {
		l.EncodeBody(e)
	}
	b.ReportMetric(float64(len(l.EncodeBody(e)))/float64(len(e.Raw)), "of-body")
}

// BenchmarkCommit appends events to a ledger in the directory for temporary files: one at a time,
// and many concurrently.
func BenchmarkCommit(b *testing.B) {
	for _, at := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d at once", at), func(b *testing.B) {
			l, err := ledger.Open(ledger.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			stop := ledgertest.Run(b, l)
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(at) // for each processor
			append := func() {
				n := next.Add(1)
				if _, err := l.Append(b.Context(),
					succeeded(fmt.Sprintf("evt_%09d", n), fmt.Sprintf("pi_%09d", n/2))); err != nil {
					b.Error(err)
				}
			}
			if at == 1 {
				for b.Loop() {
					append()
				}
			} else {
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						append()
					}
				})
			}
			stop()
			if err := l.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
