package ledger_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// busy appends payments that have many refunds, each at a time of its own.
func busy(t *testing.T, l *ledger.Ledger, payments, refunds int) {
	t.Helper()
	for n := range payments {
		e := taken(fmt.Sprintf("busy_%d", n), 1760000000, int64(refunds)*100)
		for i := range refunds {
			e.Facts.Refunds = append(e.Facts.Refunds, ledger.Refund{
				ID: fmt.Sprintf("re_%d_%d", n, i), Charge: e.Facts.Charge, Status: "succeeded", Currency: "eur", Amount: 100, Created: 1760000001 + int64(i),
			})
		}
		booked(t, l, e)
	}
}

// The present view reads a payment once, not once for each of its entries: it takes about as much memory in all as
// the view as of the last row, which gives the same lines.
func TestAnExportReadsAPaymentOnce(t *testing.T) {
	const refunds = 1000
	l := ledgertest.Open(t, false)
	busy(t, l, 2, refunds)
	measure := func(q ledger.ExportQuery) (text string, bytes uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		text, _ = entriesOf(t, l, q)
		runtime.ReadMemStats(&after)
		return text, after.TotalAlloc - before.TotalAlloc
	}
	last := uint64(2)
	past, enough := measure(ledger.ExportQuery{AsOf: &last})
	present, took := measure(ledger.ExportQuery{})
	if n := strings.Count(present, "\r\n"); present != past || n != 1+2*(1+refunds) {
		t.Errorf("the present view has %d lines and is another than that of the last row", n)
	}
	if took > 4*enough {
		t.Errorf("the present view allocated %d KiB, that of the last row %d KiB", took>>10, enough>>10)
	}
}
