package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running receiver",
		Long: `Show the state of the running receiver: since when it runs, where it listens, what it accepted and
refused, and what needs attention. To check everything around it use tillhook doctor.

The exit status is 1 if no receiver runs or a check fails.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			client, looked, err := p.receiver(c.Context())
			if s, _ := p.settings(); err == nil && client == nil && isHeld(s) {
				err = heldElsewhere(looked, s)
			} else if err == nil && client == nil {
				err = fmt.Errorf("no receiver answers at %s: start one (tillhook serve, or systemctl start tillhook)", strings.Join(looked, " or "))
			}
			if err != nil {
				return err
			}
			var s statusAnswer
			if s.Receiver, err = getInto[operator.ReceiverStatus](c.Context(), client, "/api/receiver", nil); err != nil {
				return err
			}
			today := url.Values{"from": {strconv.FormatInt(time.Now().Unix(), 10)}}
			summary, err := getInto[operator.Summary](c.Context(), client, "/api/summary", today)
			if err != nil {
				return err
			}
			s.Health = summary.Health
			if asJSON {
				err = json.NewEncoder(p.Stdout).Encode(s)
			} else {
				err = p.showStatus(&s)
			}
			if err == nil && s.Health.Status == health.Fail {
				return ended{exitFailed}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// statusAnswer is the JSON output of status.
type statusAnswer struct {
	Receiver operator.ReceiverStatus `json:"receiver"`
	Health   health.Report           `json:"health"`
}

// getInto requests an answer and decodes it.
func getInto[T any](ctx context.Context, client *operator.Client, path string, params url.Values) (v T, err error) {
	answer, err := client.Get(ctx, path, params)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		return v, fmt.Errorf("read the receiver's answer: %w", err)
	}
	return v, nil
}

func (p *Program) showStatus(s *statusAnswer) error {
	r := &s.Receiver
	refused := uint64(0)
	for _, of := range r.Refused {
		refused += of.Count
	}
	pairs := [][2]string{
		{"Version", r.Version}, {"Mode", r.Mode}, {"Running since", terminal.TimeUTC(ledger.OrNullTime(r.Started))}, {"Webhooks", r.Webhooks},
		{"Endpoint", string(r.Endpoint)}, {"Last event", terminal.TimeUTC(r.LastEvent)},
		{"Verified", wording.Plural(r.Verified, "delivery") + ", repeats included"}, {"Refused", wording.Plural(refused, "request")},
	}
	for _, of := range r.Refused {
		text := fmt.Sprintf("%d %s, last %s", of.Count, of.Code, terminal.TimeUTC(ledger.OrNullTime(of.Last)))
		if of.Cause != "" {
			text += ": " + wording.Escape(string(of.Cause))
		}
		pairs = append(pairs, [2]string{"", text})
	}
	for _, secret := range r.Secrets {
		pairs = append(pairs, [2]string{fmt.Sprintf("Secret %d", secret.Position), "last verified a delivery: " + terminal.TimeUTC(secret.LastUsed)})
	}
	if err := terminal.FieldsWithin(p.Stdout, terminal.Width(p.raw.stdout), pairs); err != nil {
		return err
	}
	return p.showHealth(s.Health)
}
