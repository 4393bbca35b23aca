package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// doctorTime bounds an examination as a whole.
const doctorTime = 3 * time.Minute

func (p *Program) doctorCommand() *cobra.Command {
	var asJSON, offline bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything between Stripe and the ledger",
		Long: `Check everything between Stripe and the ledger, and say of each thing how it stands and what to do about it.

It reads the settings of the installed service (as root), and those of the environment that it is started in, which win. It changes
nothing: at Stripe it only reads, and the requests that it sends to the public door are no events.

The exit status is 0 if nothing fails (a warning is no failure), 78 if the configuration is wrong, else 1.`,
		Example: `  tillhook doctor
  tillhook doctor --offline --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := p.settings()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), doctorTime)
			defer cancel()
			d := &doctor{Program: p, offline: offline, settings: settings}
			d.examine(ctx)
			if err := c.Context().Err(); err != nil {
				return err
			}
			if err := d.print(asJSON); err != nil {
				return err
			}
			return d.outcome()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	c.Flags().BoolVar(&offline, "offline", false, "leave out what needs the network: Stripe's API, DNS, TLS, the way from outside")
	return c
}

// doctor is one examination.
type doctor struct {
	*Program
	offline  bool
	settings *config.Settings

	config *config.Config // nil while it has faults
	faulty bool
	client *operator.Client // of the running receiver; nil if there is none
	status *operator.DoorStatus
	// waiting: a receiver runs that cannot open its ledger.
	waiting  bool
	api      *stripe.API // nil without a key, or offline
	findings []health.Finding
}

func (d *doctor) say(code health.Code, severity health.Severity, next, format string, args ...any) {
	d.found(health.Finding{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Next: next})
}

func (d *doctor) ok(code health.Code, format string, args ...any) {
	d.say(code, health.OK, "", format, args...)
}

func (d *doctor) warn(code health.Code, next, format string, args ...any) {
	d.say(code, health.Warn, next, format, args...)
}

func (d *doctor) fail(code health.Code, next, format string, args ...any) {
	d.say(code, health.Fail, next, format, args...)
}

func (d *doctor) unknown(code health.Code, next, format string, args ...any) {
	d.say(code, health.Unknown, next, format, args...)
}

// found adds findings, with texts that fit the terminal and this instance of the service.
func (d *doctor) found(list ...health.Finding) {
	for _, f := range list {
		// An error's text can end in a full stop, too.
		if rest, ok := strings.CutSuffix(f.Message, ".."); ok && !strings.HasSuffix(rest, ".") {
			f.Message = rest + "."
		}
		f.Message, f.Next = clean(f.Message), d.forInstance(f.Next)
		d.findings = append(d.findings, f)
	}
}

// examine looks at everything, what is nearest first.
func (d *doctor) examine(ctx context.Context) {
	d.readEnvironment()
	d.readSecrets()
	if d.config != nil && d.config.SecretKey != "" && !d.offline {
		d.api = stripe.NewAPI(d.config.SecretKey, d.config.StripeAPIBase, d.Version)
		d.api.Backoff = 200 * time.Millisecond // somebody waits
	}
	d.findReceiver(ctx)
	d.lookAtLedger()
	d.lookAtPorts(ctx)
	d.lookAtStripe(ctx)
	d.lookFromOutside(ctx)
}

// outcome returns the error that the command ends with.
func (d *doctor) outcome() error {
	switch {
	case health.Worst(d.findings) != health.Fail:
		return nil
	case d.faulty:
		return ended{exitConfig}
	}
	return ended{exitFailed}
}

// ended is an exit status about which everything has been said.
type ended struct{ status int }

func (e ended) Error() string { return fmt.Sprintf("exit status %d", e.status) }

func (d *doctor) print(asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(d.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Object string `json:"object"`
			health.Report
		}{"examination", health.NewReport(d.findings)})
	}
	same := func(a, b health.Finding) bool {
		return a.Next != "" && a.Severity == b.Severity && a.Message == b.Message && a.Next == b.Next
	}
	width := 0
	for _, f := range d.findings {
		width = max(width, len(f.Code))
	}
	counts := map[health.Severity]int{}
	columns, indent := terminalWidth(d.raw.stdout), len("unknown")+columnGap+width+columnGap
	var errs []error
	for i, f := range d.findings {
		counts[f.Severity]++
		if i > 0 && same(f, d.findings[i-1]) {
			continue // it is part of the line above
		}
		var also []string
		for _, next := range d.findings[i+1:] {
			if !same(f, next) {
				break
			}
			also = append(also, string(next.Code))
		}
		if len(also) > 0 {
			f.Message += " The same applies to " + strings.Join(also, ", ") + "."
		}
		_, err := fmt.Fprintf(d.Stdout, "%-7s  %-*s  %s\n", f.Severity, width, f.Code, hang(f.Message, indent, columns))
		if f.Next != "" && err == nil {
			_, err = fmt.Fprintf(d.Stdout, "%-7s  %-*s  -> %s\n", "", width, "", hang(f.Next, indent+len("-> "), columns))
		}
		errs = append(errs, err)
	}
	var parts []string
	for _, severity := range []health.Severity{health.OK, health.Warn, health.Fail, health.Unknown} {
		if n := counts[severity]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, severity))
		}
	}
	_, err := fmt.Fprintf(d.Stdout, "\n%s\n", strings.Join(parts, ", "))
	return errors.Join(append(errs, err)...)
}
