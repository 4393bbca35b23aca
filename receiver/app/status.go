package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// The phases after the start, whose phase is 0.
const (
	phaseServing  = 1 // the webhook listener serves
	phaseStopping = 2
)

// notServing returns why the webhook listener accepts no events, "" while it does.
func (a *App) notServing() string {
	switch a.phase.Load() {
	case phaseServing:
		return ""
	case phaseStopping:
		return "the receiver is stopping"
	}
	return "the receiver is starting: its webhook listener is not open yet"
}

// statusLine returns the state of the receiver in one line, for the service manager.
func (a *App) statusLine() string {
	if err := a.ledger.Health().Err; err != nil {
		return "FAULT: every event is answered 503: " + err.Error()
	}
	stats, err := a.ledger.Stats()
	if err != nil {
		return "FAULT: " + err.Error()
	}
	payments := uint64(0)
	for _, n := range stats.Payments {
		payments += n
	}
	line := ledger.ModeName(a.config.Livemode) + " mode: " + wording.Plural(stats.Events, "event") + ", " +
		wording.Plural(payments, "payment")
	if at, ok := a.ledger.LastEvent(); ok {
		line += ", last event " + at.UTC().Format("2006-01-02 15:04:05 UTC")
	} else {
		line += ", no event yet"
	}
	if problem := a.certificates.Problem(); problem != "" {
		line += ". " + problem
	}
	return line
}

// findings returns the state of everything but the ledger.
func (a *App) findings() []health.Finding {
	list := slices.Concat(a.maintenance.Findings(), a.handler.Findings(), a.lines.Findings())
	for _, p := range a.listeners.ports {
		if problem := p.Problem(); problem != "" {
			list = append(list, health.Finding{Code: p.code, Severity: health.Warn, Next: p.Advice,
				Message: fmt.Sprintf("%s cannot be opened: %s.", strings.Replace(p.Name, "the ", "The ", 1), problem)})
		}
	}
	if a.reconciler != nil {
		list = append(list, a.reconciler.Findings()...)
	}
	if why := a.reloadError.Load(); why != nil {
		list = append(list, health.Finding{Code: health.Reload, Severity: health.Warn,
			Message: fmt.Sprintf("The last reload was refused, and the configuration before it is in use: %v", *why),
			Next:    "correct it and reload again: systemctl reload tillhook, or SIGHUP"})
	}
	if f, ok := a.certificateFinding(); ok {
		list = append(list, f)
	}
	return list
}

// healthInterval is the time between two health checks without a request. They keep the metrics,
// and the times since which findings stand, current.
const healthInterval = time.Minute

func (a *App) checkHealth(ctx context.Context) error {
	for {
		a.operator.Health(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(healthInterval):
		}
	}
}

// Probe returns a nonce for a probe of the webhook listener.
func (a *App) Probe() string { return a.handler.Probe() }

// Status returns how deliveries have fared since the start.
func (a *App) Status() operator.ReceiverStatus {
	c, status := a.config, a.handler.Status()
	s := operator.ReceiverStatus{Version: a.version, Mode: ledger.ModeName(c.Livemode), Started: status.Started.Unix(),
		Webhooks: a.listeners.addresses.Public, Endpoint: ledger.OrNull(c.Endpoint()), Verified: status.Verified, Refused: []operator.Refusals{}}
	if at, ok := a.ledger.LastEvent(); ok {
		s.LastEvent = ledger.OrNullTime(at.Unix())
	}
	for _, f := range status.Refused {
		s.Refused = append(s.Refused, operator.Refusals{Code: f.Code, Count: f.Count, Last: f.Last.Unix(),
			Cause: ledger.OrNull(f.Cause)})
	}
	for i, use := range status.Secrets {
		secret := operator.SecretUse{Position: i + 1, Since: use.Since.Unix()}
		if !use.Last.IsZero() {
			secret.LastUsed = ledger.OrNullTime(use.Last.Unix())
		}
		s.Secrets = append(s.Secrets, secret)
	}
	return s
}
