package operator

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
)

// Summary holds the totals of received and refunded money, the number of payments and events, and
// the health.
type Summary struct {
	Object    string                    `json:"object"`
	Mode      string                    `json:"mode"`
	Generated int64                     `json:"generated"`
	Totals    []ledger.Total            `json:"totals"`    // by day if days were asked for, else over all days
	HasMore   bool                      `json:"has_more"`  // there are more totals
	NextPage  ledger.OrNull             `json:"next_page"` // the value of the parameter page for them
	Payments  map[string]uint64         `json:"payments"`  // by status
	Events    map[ledger.Outcome]uint64 `json:"events"`    // by outcome
	Health    health.Report             `json:"health"`
}

// maxTotals bounds the totals of a summary: 1,000 lines are about 170 kB.
const maxTotals = 1000

func (op *Operator) summary(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r)
	find := ledger.TotalsQuery{Zone: q.zone(), Page: q.text("page"), Limit: q.limit(maxTotals, maxTotals)}
	find.From, find.To = q.between("from", "to", find.Zone)
	if err := q.end(); err != nil {
		return err
	}
	totals, err := op.Ledger.Totals(r.Context(), find)
	var stats ledger.Stats
	if err == nil {
		stats, err = op.Ledger.Stats()
	}
	if err != nil {
		if op.Ledger.Health().Fault == nil {
			return err
		}
		totals, stats = ledger.Page[ledger.Total]{Data: []ledger.Total{}}, ledger.Stats{} // the health says why
	}
	op.write(w, r, http.StatusOK, Summary{
		Object: "summary", Mode: ledger.ModeName(op.Ledger.Livemode()), Generated: time.Now().Unix(),
		Totals: totals.Data, HasMore: totals.Next != "", NextPage: ledger.OrNull(totals.Next),
		Payments: stats.Payments, Events: stats.Outcomes, Health: op.health(r.Context(), stats),
	})
	return nil
}

// zone reads the time zone of days and times. The default is UTC.
func (q *query) zone() *time.Location {
	zone, err := ledger.Timezone(q.text("timezone"))
	if err != nil {
		q.fail("timezone %v", err)
		return time.UTC
	}
	return zone
}

// time reads a day (2026-11-23), which begins in the zone, an RFC 3339 time, or Unix seconds.
func (q *query) time(name string, zone *time.Location) *int64 {
	s := q.text(name)
	if s == "" {
		return nil
	}
	at, err := ledger.ParseTime(s, zone)
	if err != nil {
		q.fail("%s %v", name, err)
		return nil
	}
	return &at
}

// Health returns the findings of the moment.
func (op *Operator) Health(ctx context.Context) health.Report {
	stats, _ := op.Ledger.Stats() // if it fails, the finding of the storage says why
	return op.health(ctx, stats)
}

// health returns the findings of the ledger and of [Options.Findings].
func (op *Operator) health(ctx context.Context, stats ledger.Stats) health.Report {
	var list []health.Finding
	say := func(code health.Code, bad bool, severity health.Severity, good, message, next string) {
		f := health.Finding{Code: code, Severity: health.OK, Message: good}
		if bad {
			f = health.Finding{Code: code, Severity: severity, Message: message, Next: next}
		}
		list = append(list, f)
	}
	storage := op.Ledger.Health()
	next := "look at the disk: space, mount, dmesg"
	sentence := fmt.Sprintf("The ledger cannot be written, and every event is answered 503: %v", storage.Err)
	if fault := storage.Fault; fault != nil {
		sentence, next = fmt.Sprintf("Every event is answered 503: %s.", fault.What), fault.Next
	}
	say(health.Storage, storage.Err != nil, health.Fail, "The ledger can be written.", sentence, next)
	attention, others := quarantined(stats)
	good := "The quarantine is empty."
	if others > 0 {
		good = fmt.Sprintf("Nothing in quarantine needs attention; it holds %s that %s expected or %s dismissed.",
			wording.Plural(others, "event"),
			wording.Verb(others, "is", "are"), wording.Verb(others, "was", "were"))
	}
	say(health.Quarantine, len(attention) > 0, health.Warn, good,
		fmt.Sprintf("Events that could not be used are in quarantine: %s.", strings.Join(attention, ", ")),
		"look at them (tillhook events --outcome quarantined), then: tillhook events release ID, or tillhook events "+
			"dismiss ID")
	flagged := flaggedPayments(stats)
	say(health.Conflicts, len(flagged) > 0, health.Warn, "No payment has contradictory figures.",
		fmt.Sprintf("Payments whose figures need a look, by flag: %s.", strings.Join(flagged, ", ")),
		"find them in tillhook payments and compare them with Stripe's Dashboard")
	silent := op.silentPayments(ctx, stats)
	say(health.ReceivedUnknown, silent != "", health.Warn, "The events that state received amounts arrive.", silent,
		"add the payment_intent.* and charge.* events to the endpoint: tillhook endpoint update, or Stripe's Dashboard")
	if lag := op.Ledger.RetentionLag(); lag > 24*time.Hour {
		say(health.Retention, true, health.Warn, "",
			fmt.Sprintf("This machine's clock is %s ahead of the time that has passed while the receiver ran: "+
				"bodies past TILLHOOK_RETENTION are deleted slowly until that has caught up, at most those of a day "+
				"within an hour.", wording.Plural(int64((lag+12*time.Hour)/(24*time.Hour)), "day")),
			"nothing, if the receiver was off for that long; else set the clock: timedatectl set-ntp true")
	}
	if op.Findings != nil {
		list = append(list, op.Findings()...)
	}
	if op.Board != nil {
		op.Board.Update(list)
	}
	return health.NewReport(list)
}

// quarantined counts the events in quarantine: those that need attention by reason, and all others.
func quarantined(stats ledger.Stats) (attention []string, others uint64) {
	for _, reason := range ledger.Reasons {
		for state, n := range stats.States[reason] {
			if state != ledger.Attention {
				others += n
			} else if n > 0 {
				attention = append(attention, fmt.Sprintf("%d %s", n, reason))
			}
		}
	}
	return attention, others
}

// flaggedPayments counts payments by flag, for the flags that need attention.
func flaggedPayments(stats ledger.Stats) (list []string) {
	for _, flag := range slices.Sorted(maps.Keys(stats.Flagged)) {
		if n := stats.Flagged[flag]; n > 0 && ledger.NeedsAttention(flag) {
			list = append(list, fmt.Sprintf("%d %s", n, flag))
		}
	}
	return list
}

// The times within which the events that state received amounts must arrive.
const (
	silentTime = 10 * time.Minute // after Checkout's
	// before an invoice: a shop may sell little, and an invoice over nothing counts as paid
	silentWeek = 7 * 24 * time.Hour
)

// silentPayments returns a message if invoices or Checkout Sessions arrive without the events that
// state the received amounts, else "".
func (op *Operator) silentPayments(ctx context.Context, stats ledger.Stats) string {
	if stats.LastSilent.Sub(stats.LastMoney) > silentWeek && time.Since(stats.LastSilent) < silentWeek {
		return "Events of invoices or of Checkout arrive, and none of a PaymentIntent or a charge: they do not state " +
			"the received amount."
	}
	now := time.Now()
	n, err := op.Ledger.UnknownReceived(ctx, now.Add(-silentWeek), now.Add(-silentTime))
	if err != nil || n == 0 { // the finding of the storage reports an error
		return ""
	}
	return fmt.Sprintf("Of payments of the last days (%d) only Checkout Sessions arrived, which do not state the "+
		"received amount: it is shown as unknown.", n)
}
