package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tillhook/receiver/config"
	"tillhook/receiver/delivery"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"

	"github.com/spf13/cobra"
)

func (p *Program) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work, with made-up payments and no configuration",
		Long: `Run a receiver on a temporary ledger with a made-up secret, send it sample events as Stripe does on a
bad day, and print what happens. It needs no configuration and leaves nothing behind.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			dir, err := os.MkdirTemp("", "tillhook-demo-")
			if err != nil {
				return fmt.Errorf("create a folder for the demo's ledger: %w", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			ctx, stop := context.WithCancel(c.Context())
			defer stop()
			secret := "whsec_" + rand.Text()
			cfg, err := config.Load([]string{
				"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_LISTEN=127.0.0.1:0", "TILLHOOK_OPERATOR_LISTEN=127.0.0.1:0",
				"TILLHOOK_DATA_DIR=" + filepath.Join(dir, "data"), "TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(dir, "operator.sock"),
			})
			if err != nil {
				return err
			}
			var log bytes.Buffer // read only once Serve has returned
			ready := make(chan Addresses, 1)
			ended := make(chan error, 1)
			go func() { ended <- p.Serve(ctx, cfg, &log, func(d Addresses) { ready <- d }) }()
			select {
			case err := <-ended:
				if err == nil { // it was stopped meanwhile
					return ctx.Err()
				}
				return fmt.Errorf("the demo's receiver did not start: %w", err)
			case addresses := <-ready:
				d := &demo{program: p, out: p.Stdout, addresses: addresses, sender: delivery.New(&config.Target{URL: addresses.Public, Secret: secret})}
				err = d.run(ctx)
				if err == nil && keep {
					fmt.Fprintf(p.Stdout, "\nThe receiver runs until Ctrl-C. Send to it:\n  STRIPE_WEBHOOK_SECRET=%s tillhook send --type payment_intent.canceled --to %s\nQuery it:\n  TILLHOOK_OPERATOR_SOCKET=%s tillhook payments\n  curl http://%s/metrics\n",
						secret, d.sender.Target, addresses.Socket, addresses.Operator)
					<-ctx.Done()
				}
			}
			stop()
			return errors.Join(err, <-ended)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep the receiver running after the demo")
	return c
}

// demo sends events step by step and ends at an answer that is not the expected one.
type demo struct {
	program   *Program
	out       io.Writer
	addresses Addresses
	sender    *delivery.Sender
}

func (d *demo) run(ctx context.Context) error {
	fmt.Fprintf(d.out, "A receiver listens on %s, with a made-up secret and an empty ledger.\n\n", d.sender.Target)
	const created, processing, succeeded = "payment_intent.created", "payment_intent.processing", "payment_intent.succeeded"
	steps := []struct {
		says, typ, want string
		send            func(body []byte) (*delivery.Answer, error)
	}{
		{"A customer orders notebooks: Stripe sends a signed event", created, "applied", d.signed(ctx)},
		{"The bank debit succeeds", succeeded, "applied", d.signed(ctx)},
		{"Stripe is not sure it arrived, and sends it twenty times at once", succeeded, "already_processed", d.atOnce(ctx, 20)},
		{"\"The debit is processing\" arrives after its success", processing, "unchanged", d.signed(ctx)},
		{"An attacker forges a payment, with another secret", "payment_intent.amount_capturable_updated", "signature_mismatch", d.forged(ctx)},
		{"An attacker doubles an amount in transit", succeeded, "signature_mismatch", d.tampered(ctx)},
		{"An attacker replays a delivery of ten minutes ago", succeeded, "timestamp_too_old", d.aged(ctx, 10*time.Minute)},
		{"A card is declined, in dollars", "payment_intent.payment_failed", "applied", d.signed(ctx)},
		{"A workshop is booked in yen, which have no cents, and canceled", "payment_intent.canceled", "applied", d.signed(ctx)},
		{"A calligraphy set is paid in dinars, in another API version", "payment_intent.succeeded@2026-08-26.dahlia", "applied", d.signed(ctx)},
		{"A live mode event arrives at this test mode receiver", processing, "quarantined: wrong_mode", d.live(ctx)},
		{"An event names its payment but does not contain it", "v1.payment_intent.succeeded", "quarantined: thin_event", d.signed(ctx)},
		{"An event that is about no payment", "customer.created", "recorded", d.signed(ctx)},
	}
	for i, step := range steps {
		body, err := d.program.sample(step.typ)
		if err != nil {
			return err
		}
		answer, err := step.send(body)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "%3d. %-66s %d %s\n", i+1, step.says, answer.Status, answer.Outcome())
		if answer.Outcome() != step.want {
			return fmt.Errorf("the demo expected %q here: this is a bug in tillhook", step.want)
		}
	}
	return d.conclude(ctx)
}

// conclude shows the content of the ledger with the usual command.
func (d *demo) conclude(ctx context.Context) error {
	look := *d.program
	look.Environ = []string{"TILLHOOK_OPERATOR_SOCKET=" + d.addresses.Socket}
	fmt.Fprintf(d.out, "\n$ tillhook payments\n")
	if status := look.Run(ctx, []string{"payments"}); status != exitDone {
		return errors.New("the demo's ledger could not be read")
	}
	fmt.Fprintf(d.out, "\n$ curl -s http://%s/metrics | grep …\n", d.addresses.Operator)
	metrics, err := operator.Dial(d.addresses.Socket).Get(ctx, "/metrics", nil)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(metrics)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		family, _, _ := strings.Cut(name, "{")
		if value != "0" && slices.Contains([]string{"tillhook_duplicate_events_total", "tillhook_signature_failures_total", "tillhook_quarantined_events_total"}, family) {
			fmt.Fprintf(d.out, "%s %s\n", name, value)
		}
	}
	_, err = fmt.Fprintf(d.out, "\nEach payment is counted exactly once. Late and repeated events change no sum, and forged ones and those of the other mode do not count.\n")
	return err
}

func (d *demo) signed(ctx context.Context) func([]byte) (*delivery.Answer, error) {
	return d.aged(ctx, 0)
}

func (d *demo) aged(ctx context.Context, age time.Duration) func([]byte) (*delivery.Answer, error) {
	return func(body []byte) (*delivery.Answer, error) { return d.sender.Send(ctx, body, age) }
}

func (d *demo) forged(ctx context.Context) func([]byte) (*delivery.Answer, error) {
	return func(body []byte) (*delivery.Answer, error) {
		return delivery.New(&config.Target{URL: d.sender.Target, Secret: "whsec_" + rand.Text()}).Send(ctx, body, 0)
	}
}

// tampered signs the body and sends another one with that signature.
func (d *demo) tampered(ctx context.Context) func([]byte) (*delivery.Answer, error) {
	return func(body []byte) (*delivery.Answer, error) {
		changed := bytes.ReplaceAll(body, []byte(": 6480"), []byte(": 12960"))
		return d.sender.Post(ctx, changed, stripe.Sign(body, d.sender.Secret, time.Now()))
	}
}

// live turns the sample into an event of live mode.
func (d *demo) live(ctx context.Context) func([]byte) (*delivery.Answer, error) {
	return func(body []byte) (*delivery.Answer, error) {
		body = bytes.ReplaceAll(body, []byte(`"livemode": false`), []byte(`"livemode": true`))
		return d.sender.Send(ctx, body, 0)
	}
}

// atOnce sends the same delivery n times in parallel and returns the answer, which must be the same
// for all.
func (d *demo) atOnce(ctx context.Context, n int) func([]byte) (*delivery.Answer, error) {
	return func(body []byte) (*delivery.Answer, error) {
		answers := make([]*delivery.Answer, n)
		errs := make([]error, n)
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() { answers[i], errs[i] = d.sender.Send(ctx, body, 0) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for _, a := range answers {
			if a.Outcome() != answers[0].Outcome() {
				return a, fmt.Errorf("one of %d equal deliveries was answered %q, another %q", n, answers[0].Outcome(), a.Outcome())
			}
		}
		return answers[0], nil
	}
}
