package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillhook/receiver/config"
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
			return d.verdict()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the checks as JSON")
	c.Flags().BoolVar(&offline, "offline", false, "leave out what needs the network: Stripe's API, DNS, TLS, the way from outside")
	return c
}

// check is one thing that was looked at.
type check struct {
	Name     string `json:"name"`
	Verdict  string `json:"verdict"` // ok, warn, fail, unknown
	Sentence string `json:"sentence"`
	Next     string `json:"next,omitempty"`
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
	waiting bool
	api     *stripe.API // nil without a key, or offline
	checks  []check
}

func (d *doctor) say(name, verdict, next, format string, args ...any) {
	sentence := fmt.Sprintf(format, args...)
	if rest, ok := strings.CutSuffix(sentence, ".."); ok && !strings.HasSuffix(rest, ".") { // an error's text can end in one, too
		sentence = rest + "."
	}
	d.checks = append(d.checks, check{name, verdict, clean(sentence), d.forInstance(next)})
}

func (d *doctor) ok(name, format string, args ...any) { d.say(name, stripe.OK, "", format, args...) }

func (d *doctor) warn(name, next, format string, args ...any) {
	d.say(name, stripe.Warn, next, format, args...)
}

func (d *doctor) fail(name, next, format string, args ...any) {
	d.say(name, stripe.Fail, next, format, args...)
}

func (d *doctor) unknown(name, next, format string, args ...any) {
	d.say(name, stripe.Unknown, next, format, args...)
}

// found takes over what another room found.
func (d *doctor) found(list ...stripe.Finding) {
	for _, f := range list {
		d.say(f.Name, f.Verdict, f.Next, "%s", f.Sentence)
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

// verdict is how the command ends.
func (d *doctor) verdict() error {
	failed := 0
	for _, c := range d.checks {
		if c.Verdict == stripe.Fail {
			failed++
		}
	}
	switch {
	case failed == 0:
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
		worst := stripe.OK
		for _, verdict := range []string{stripe.Warn, stripe.Fail} {
			if slices.ContainsFunc(d.checks, func(c check) bool { return c.Verdict == verdict }) {
				worst = verdict
			}
		}
		enc := json.NewEncoder(d.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Object  string  `json:"object"`
			Verdict string  `json:"verdict"`
			Checks  []check `json:"checks"`
		}{"examination", worst, d.checks})
	}
	width := 0
	for _, c := range d.checks {
		width = max(width, len(c.Name))
	}
	counts := map[string]int{}
	columns, indent := terminalWidth(d.raw.stdout), len("unknown")+columnGap+width+columnGap
	var errs []error
	for i, c := range d.checks {
		counts[c.Verdict]++
		if i > 0 && c.Next != "" && c == (check{c.Name, d.checks[i-1].Verdict, d.checks[i-1].Sentence, d.checks[i-1].Next}) {
			continue // it stands there
		}
		var also []string
		for _, next := range d.checks[i+1:] {
			if next.Next == "" || next != (check{next.Name, c.Verdict, c.Sentence, c.Next}) {
				break
			}
			also = append(also, next.Name)
		}
		if len(also) > 0 {
			c.Sentence += " The same goes for " + strings.Join(also, ", ") + "."
		}
		_, err := fmt.Fprintf(d.Stdout, "%-7s  %-*s  %s\n", c.Verdict, width, c.Name, hang(c.Sentence, indent, columns))
		if c.Next != "" && err == nil {
			_, err = fmt.Fprintf(d.Stdout, "%-7s  %-*s  -> %s\n", "", width, "", hang(c.Next, indent+len("-> "), columns))
		}
		errs = append(errs, err)
	}
	var parts []string
	for _, verdict := range []string{stripe.OK, stripe.Warn, stripe.Fail, stripe.Unknown} {
		if n := counts[verdict]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, verdict))
		}
	}
	_, err := fmt.Fprintf(d.Stdout, "\n%s\n", strings.Join(parts, ", "))
	return errors.Join(append(errs, err)...)
}
