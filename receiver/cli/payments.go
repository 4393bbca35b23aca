package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) paymentsCommand() *cobra.Command {
	var f pageFlags
	var status, currency, customer, account, flag string
	var days period
	var metadata map[string]string
	c := &cobra.Command{
		Use:   "payments",
		Short: "List payments, or show one",
		Long: `List the ledger's payments, newest first, from the running receiver or, if none runs, from the file.

Customers, metadata and the like are not indexed: a search with few results reads the whole ledger,
about 100,000 payments per second. --from makes it shorter; Ctrl-C stops it and shows what it has
found.

Amounts have the decimals of their currency; with --json they are in the minor unit, as at Stripe.`,
		Example: `  tillhook payments --status succeeded --from 2026-04-01 --to 2026-05-01
  tillhook payments --metadata order_id=2417
  tillhook payments show pi_3wBTwEKvHadernBl4gdrfNcd`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			params, err := f.params()
			if err != nil {
				return err
			}
			if err := oneOf("flag", flag, ledger.Flags[:]); err != nil {
				return err
			}
			set(params, "status", status)
			set(params, "currency", strings.ToLower(currency))
			set(params, "customer", customer)
			set(params, "account", account)
			set(params, "flag", flag)
			zone, err := days.set(params, "created_gte", "created_lt")
			if err != nil {
				return err
			}
			for k, v := range metadata {
				params.Set("metadata["+k+"]", v)
			}
			return p.list(c, &f, "/api/payments", params, func(answer []byte) error { return p.showPayments(answer, zone) })
		},
	}
	f.register(c)
	c.Flags().StringVar(&status, "status", "", "only payments in this `status`, as Stripe names it; none for those without a PaymentIntent")
	c.Flags().StringVar(&currency, "currency", "", "only payments in this `currency`")
	c.Flags().StringVar(&customer, "customer", "", "only payments of this customer `id`")
	c.Flags().StringVar(&account, "account", "", "only payments of this connected account `id`")
	c.Flags().StringVar(&flag, "flag", "", "only payments with this `flag`, such as conflict")
	completeBy(c, "currency", noFiles)
	complete(c, "status", append(ledger.Statuses[:], ledger.StatusNone))
	complete(c, "flag", ledger.Flags[:])
	days.register(c, "payments created")
	c.Flags().StringToStringVar(&metadata, "metadata", nil, "only payments with this metadata, as `key=value`")
	c.Flags().Lookup("metadata").DefValue = "" // not "[]"
	c.AddCommand(p.paymentCommand())
	return c
}

func (p *Program) showPayments(answer []byte, zone *time.Location) error {
	var list operator.List[ledger.Payment]
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if len(list.Data) == 0 {
		if !list.HasMore {
			fmt.Fprintln(p.Stderr, "No payments.")
		}
		return nil
	}
	var rows [][]string
	for _, pay := range list.Data {
		amount := "-"
		if pay.Amount != nil {
			amount = terminal.Money(*pay.Amount, pay.Currency)
		}
		rows = append(rows, []string{terminal.TimeIn(pay.Created, zone), pay.ID, statusOf(&pay), amount, terminal.KnownMoney(pay.AmountNet, pay.Currency),
			strings.Join(pay.Flags, " ")})
	}
	columns := []terminal.Column{{Head: "CREATED (" + zone.String() + ")"}, {Head: "PAYMENT"}, {Head: "STATUS", Cut: true},
		{Head: "AMOUNT", Right: true, Spare: true}, {Head: "NET", Right: true}, {Head: "FLAGS", Spare: true}}
	return p.table(columns, rows)
}

func (p *Program) paymentCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one payment and its timeline, by any of its ids",
		Args:  oneArgument, ValidArgsFunction: noFiles,
		RunE: func(c *cobra.Command, args []string) error {
			var timeline []byte
			return p.ask(c, func(ctx context.Context, client *operator.Client) (answer []byte, err error) {
				path := operator.PaymentPath(args[0])
				if answer, err = client.Get(ctx, path, nil); err == nil && !asJSON {
					timeline, err = client.Get(ctx, path+"/timeline", nil)
				}
				return answer, err
			}, asJSON, func(answer []byte) error { return p.showPayment(answer, timeline) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's answer")
	return c
}

func (p *Program) showPayment(answer, timelineAnswer []byte) error {
	var pay ledger.Payment
	var timeline operator.List[ledger.TimelineEntry]
	if err := json.Unmarshal(answer, &pay); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if err := json.Unmarshal(timelineAnswer, &timeline); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	pairs := [][2]string{
		{"Payment", pay.ID}, {"Mode", ledger.ModeName(pay.Livemode)}, {"Account", wording.Escape(string(pay.Account))}, {"Status", statusOf(&pay)},
	}
	if pay.Amount != nil {
		pairs = append(pairs, [2]string{"Amount", terminal.Money(*pay.Amount, pay.Currency)})
	}
	fee := ""
	if pay.Fee != nil {
		fee = terminal.Money(*pay.Fee, pay.Currency)
	}
	pairs = append(pairs, [][2]string{
		{"Capturable", terminal.SomeMoney(pay.AmountCapturable, pay.Currency)}, {"Received", terminal.KnownMoney(pay.AmountReceived, pay.Currency)},
		{"Refunded", terminal.SomeMoney(pay.AmountRefunded, pay.Currency)}, {"Disputed", terminal.SomeMoney(pay.DisputeWithdrawn, pay.Currency)},
		{"Reinstated", terminal.SomeMoney(pay.DisputeReinstated, pay.Currency)}, {"Fee", fee}, {"Net", terminal.KnownMoney(pay.AmountNet, pay.Currency)},
		{"Customer", wording.Escape(string(pay.Customer))}, {"Description", wording.Escape(string(pay.Description))}, {"Charge", wording.Escape(string(pay.LatestCharge))},
	}...)
	for _, k := range slices.Sorted(maps.Keys(pay.Metadata)) {
		pairs = append(pairs, [2]string{"Metadata", wording.Escape(k) + " = " + wording.Escape(pay.Metadata[k])})
	}
	if e := pay.LastPaymentError; e != nil {
		pairs = append(pairs, [2]string{"Last error", wording.Escape(strings.TrimSpace(fmt.Sprintf("%s %s: %s", e.Code, e.DeclineCode, e.Message)))})
	}
	pairs = append(pairs, [][2]string{{"Flags", strings.Join(pay.Flags, " ")}, {"Created", terminal.TimeUTC(pay.Created)}, {"Updated", terminal.TimeUTC(pay.Updated)}}...)
	if err := terminal.Fields(p.Stdout, pairs); err != nil {
		return err
	}
	fmt.Fprintln(p.Stdout)
	if timeline.HasMore {
		fmt.Fprintf(p.Stdout, "The last %d of %d events:\n", len(timeline.Data), pay.Events)
	}
	var rows [][]string
	for _, m := range timeline.Data {
		rows = append(rows, []string{terminal.Time(m.Happened), wording.Escape(m.What), terminal.OrDash(m.Type), m.Event, remarks(m)})
	}
	return p.table([]terminal.Column{{Head: "HAPPENED (UTC)"}, {Head: "WHAT"}, {Head: "FROM", Spare: true}, {Head: "EVENT", Spare: true},
		{Head: "REMARKS", Cut: true}}, rows)
}

// statusOf returns the status of a payment: that of its PaymentIntent or, as long as only a charge
// is known, that of the charge.
func statusOf(pay *ledger.Payment) string {
	if pay.Status == "" && pay.ChargeStatus != "" {
		return "charge " + wording.Escape(string(pay.ChargeStatus))
	}
	return terminal.OrDash(pay.Status)
}

// remarks describes what was unusual about an entry's event: late, out of order, repeated.
func remarks(m ledger.TimelineEntry) string {
	var list []string
	if delay := time.Duration(m.Received-m.Happened) * time.Second; m.Happened != 0 && delay > lateAfter {
		list = append(list, "arrived "+roughly(delay)+" later")
	}
	switch {
	case m.After == 1:
		list = append(list, "after one that happened later")
	case m.After > 1:
		list = append(list, fmt.Sprintf("after %d that happened later", m.After))
	}
	switch {
	case m.Repeats == 1:
		list = append(list, "arrived twice")
	case m.Repeats > 1:
		list = append(list, fmt.Sprintf("arrived %d times", m.Repeats+1))
	}
	if m.Source != ledger.Webhook {
		list = append(list, "by "+string(m.Source))
	}
	return strings.Join(list, ", ")
}

// lateAfter is when a delivery counts as late. Stripe usually delivers within seconds.
const lateAfter = 5 * time.Minute

// roughly returns a duration in words.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}
