package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/export"
	"tillhook/ledger/ledgertest"
)

// appendManyRefunds appends payments with many refunds, each at a different time.
func appendManyRefunds(t *testing.T, l *ledger.Ledger, payments, refunds int) {
	t.Helper()
	for n := range payments {
		e := paidCharge(fmt.Sprintf("busy_%d", n), 1760000000, int64(refunds)*100)
		for i := range refunds {
			e.Facts.Refunds = append(e.Facts.Refunds, ledger.Refund{
				ID: fmt.Sprintf("re_%d_%d", n, i), Charge: e.Facts.Charge, Status: "succeeded", Currency: "eur",
				Amount: 100, Created: 1760000001 + int64(i),
			})
		}
		appendAll(t, l, e)
	}
}

// An export reads each payment once, and not once for each of its entries. So an export of the
// present allocates about as much memory as an export as of the last sequence, and has the same
// lines.
func TestExportReadsAPaymentOnce(t *testing.T) {
	const refunds = 1000
	l := ledgertest.Open(t, false)
	appendManyRefunds(t, l, 2, refunds)
	measure := func(q export.Query) (text string, bytes uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		text, _ = entriesText(t, l, q)
		runtime.ReadMemStats(&after)
		return text, after.TotalAlloc - before.TotalAlloc
	}
	last := uint64(2)
	past, enough := measure(export.Query{AsOf: &last})
	present, took := measure(export.Query{})
	if n := strings.Count(present, "\r\n"); present != past || n != 1+2*(1+refunds) {
		t.Errorf("the export of the present has %d lines, or differs from the one as of the last sequence", n)
	}
	if took > 4*enough {
		t.Errorf("the export of the present allocated %d KiB, the one as of the last sequence %d KiB", took>>10,
			enough>>10)
	}
}

// An export ends at the first check after its context was canceled. It checks the context for each
// payment in each of its passes.
func TestExportEndsWithItsContext(t *testing.T) {
	const payments = 40
	l := ledgertest.Open(t, false)
	appendManyRefunds(t, l, payments, 1)
	none, last := uint64(0), uint64(payments)
	for _, c := range []struct {
		name  string
		query export.Query
		least int64 // checks of the context in all
	}{
		// seconds of the index, payments, lines
		{"the present", export.Query{Table: export.Entries}, 5 * payments},
		{"the past", export.Query{Table: export.Entries, AsOf: &last}, 3 * payments},
		{"differences", export.Query{Table: export.Entries, Since: &none}, 4 * payments},
		{"payments", export.Query{Table: export.Payments}, 2 * payments},
	} {
		c.query.Format = "csv"
		x, err := l.NewExport(c.query)
		if err != nil {
			t.Fatal(err)
		}
		all := &countingContext{Context: t.Context(), limit: math.MaxInt64}
		if err := x.Write(all, io.Discard); err != nil || all.calls.Load() < c.least {
			t.Errorf("%s: the export checked its context %d times, want at least %d, %v", c.name, all.calls.Load(),
				c.least, err)
		}
		for limit := int64(0); limit < all.calls.Load(); limit += 7 {
			ctx := &countingContext{Context: t.Context(), limit: limit}
			if err := x.Write(ctx, io.Discard); !errors.Is(err, context.Canceled) || ctx.calls.Load() != limit+1 {
				t.Errorf("%s: canceled after %d checks, the export checked %d times, %v", c.name, limit,
					ctx.calls.Load(), err)
			}
		}
	}
}

// The temporary files of an export leave the reserve for events free. The reserve grows with the
// ledger, and a sparse file counts with its full size.
func TestExportLeavesTheReserve(t *testing.T) {
	l := ledgertest.Open(t, false)
	e := paidCharge("1", 1760000000, 300000)
	e.Facts.Charges[0].Metadata["note"] = strings.Repeat("x", 4000)
	for i := range 2500 { // more lines than the sorter keeps in memory
		e.Facts.Refunds = append(e.Facts.Refunds, ledger.Refund{
			ID: fmt.Sprintf("re_%d", i), Charge: e.Facts.Charge, Status: "succeeded", Currency: "eur", Amount: 100,
			Created: 1760000001,
		})
	}
	appendAll(t, l, e)
	x, err := l.NewExport(export.Query{Table: export.Entries, Format: "csv", Metadata: []string{"note"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Write(t.Context(), io.Discard); err != nil {
		t.Errorf("with enough disk space: %v", err)
	}
	ledgertest.FillDisk(t, l)
	if err := x.Write(t.Context(), io.Discard); !errors.Is(err, ledger.ErrNoSpace) ||
		!strings.Contains(err.Error(), "free some space there") {
		t.Errorf("without disk space: %v", err)
	}
}
