// Package doctor examines everything between Stripe and the ledger: the configuration, the running
// receiver, the files and ports of this machine, the account at Stripe, and the way from outside.
//
// An examination first looks up what several checks need (lookUp), and then runs the table of
// [checks] in order. A check is a function from the examination to findings; the table says what it
// needs, and what is reported where that is missing. To add a check, add its code to package
// health, a function, and a row.
//
// Nothing is changed: at Stripe it only reads, and the requests to the webhook listener are probes,
// which are no events.
package doctor

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
)

// Options are what an examination works with. All functions are required.
type Options struct {
	Settings *config.Environment
	Instance string // of the service; empty for the one without a name
	Version  string // of this program
	Offline  bool   // leaves out whatever needs the network
	// FindReceiver returns a client of the running receiver that holds the ledger, or nil and the
	// sockets that were tried.
	FindReceiver func(ctx context.Context) (client *operator.Client, tried []string, err error)
	// Get asks a receiver, again if it is busy.
	Get func(ctx context.Context, client *operator.Client, path string, params url.Values) ([]byte, error)
	// UnitStates returns the states of systemd units, such as active or failed.
	UnitStates func(ctx context.Context, units ...string) (map[string]string, error)
	// StartAdvice says how to start a receiver.
	StartAdvice string
	// Waiting is called with what the examination waits for.
	Waiting func(what string)
}

// Result is the outcome of an examination.
type Result struct {
	Findings      []health.Finding
	Misconfigured bool // a failure is one of the configuration
}

// check is a row of the table.
type check struct {
	codes []health.Code // reported as unknown where needs are not met and say so
	needs need
	run   func(ctx context.Context, x *examination) []health.Finding
}

// need is a requirement of a check. If it is not met, the check is not run; with a message, its
// codes are reported as unknown, and without one another finding says why.
type need func(x *examination) (met bool, message, next string)

// name returns the code by which progress names a check.
func (c *check) name() health.Code {
	if len(c.codes) == 0 {
		return "summary" // the codes of the receiver itself
	}
	return c.codes[0]
}

// checks are all checks, in the order of the report: the nearest things first.
var checks = []check{
	{[]health.Code{health.Environment}, nothing, checkEnvironment},
	{[]health.Code{health.SigningSecret}, aConfiguration, checkSigningSecret},
	{[]health.Code{health.APIKey}, aConfiguration, checkAPIKey},
	{[]health.Code{health.Receiver, health.ReceiverMode}, nothing, checkReceiver},
	{nil, aReceiver, checkSummary}, // the codes of the receiver itself
	{[]health.Code{health.Refusals}, aReceiver, checkRefusals},
	{[]health.Code{health.DataDir}, nothing, checkDataDir},
	{[]health.Code{health.Disk}, aDataDir, checkDisk},
	{[]health.Code{health.Ledger, health.DeletedLedger}, aDataDir, checkLeftovers},
	{[]health.Code{health.Ledger, health.Deliveries}, anIdleLedger, checkLedger},
	{[]health.Code{health.PublicPort, health.OperatorPort}, aConfiguration, checkPorts},
	{[]health.Code{health.API}, stripeAPI, checkAPI},
	{[]health.Code{health.Clock}, stripeAPI, checkClock},
	{[]health.Code{health.APIPermissions}, stripeAPI, accepted(checkPermissions)},
	{[]health.Code{health.APIConnect}, aReceiver, accepted(checkConnect)},
	{[]health.Code{health.APIAccount}, aReceiver, accepted(checkAccount)},
	{[]health.Code{health.Endpoint}, stripeAPI, checkEndpoint},
	{[]health.Code{health.EndpointPayload}, stripeAPI, accepted(checkPayload)},
	{[]health.Code{health.Inside}, aReceiver, checkInside},
	{[]health.Code{health.PublicURL}, aConfiguration, checkPublicURL},
	{[]health.Code{health.DNS}, online, checkDNS},
	{[]health.Code{health.TLS}, reachable, checkTLS},
	{[]health.Code{health.OutsideIn}, aWayOut, checkOutside},
}

// Examine runs all checks.
func Examine(ctx context.Context, o Options) Result {
	x := &examination{Options: o}
	x.lookUp(ctx)
	var list []health.Finding
	for _, c := range checks {
		met, message, next := c.needs(x)
		if met {
			x.Waiting("the check of " + strings.ReplaceAll(string(c.name()), "_", " "))
			list = append(list, c.run(ctx, x)...)
			continue
		}
		for _, code := range c.codes {
			if message != "" {
				list = append(list, unknown(code, next, "%s", message)...)
			}
		}
	}
	list = withoutRepeats(list, x.reported)
	for i := range list {
		// An error's text can end in a full stop or a question mark, too.
		if rest, ok := strings.CutSuffix(list[i].Message, ".."); ok && !strings.HasSuffix(rest, ".") {
			list[i].Message = rest + "."
		} else if rest, ok := strings.CutSuffix(list[i].Message, "?."); ok {
			list[i].Message = rest + "?"
		}
	}
	return Result{Findings: list, Misconfigured: x.misconfigured}
}

// withoutRepeats removes those of the receiver's findings that a check found again.
func withoutRepeats(list, reported []health.Finding) []health.Finding {
	found := slices.DeleteFunc(slices.Clone(list), func(f health.Finding) bool { return slices.Contains(reported, f) })
	return slices.DeleteFunc(list, func(f health.Finding) bool {
		return slices.Contains(reported, f) && slices.ContainsFunc(found, func(other health.Finding) bool {
			return other.Code == f.Code && other.Severity == f.Severity
		})
	})
}

func nothing(*examination) (met bool, message, next string) { return true, "", "" }

func aConfiguration(x *examination) (met bool, message, next string) { return x.config != nil, "", "" }

func aReceiver(x *examination) (met bool, message, next string) { return x.status != nil, "", "" }

func aDataDir(x *examination) (met bool, message, next string) { return x.dirErr == nil, "", "" }

// anIdleLedger is a ledger that no receiver holds.
func anIdleLedger(x *examination) (met bool, message, next string) {
	return x.dirErr == nil && x.client == nil && !x.waiting && x.dir.File, "", ""
}

func stripeAPI(x *examination) (met bool, message, next string) {
	switch {
	case x.api != nil:
		return true, "", ""
	case x.Offline:
		return false, "Stripe was not asked: --offline was given.", "leave out --offline to ask it"
	case x.config == nil:
		return false, "Stripe was not asked: the configuration is wrong, or cannot be read.", "see the finding on " +
			"the environment"
	}
	return false, "Stripe was not asked: there is no API key.", "see the finding on the API key"
}

// online is met where the public URL is known and may be tried.
func online(x *examination) (met bool, message, next string) {
	return x.publicURL != nil && !x.Offline, "", ""
}

func reachable(x *examination) (met bool, message, next string) { return x.reachable, "", "" }

func aWayOut(x *examination) (met bool, message, next string) {
	if x.publicURL != nil && x.Offline {
		return false, "Whether that way is open was not tried.", "run it without --offline"
	}
	return x.reachable, "", ""
}

// accepted limits a check to a key that Stripe accepts.
func accepted(run func(context.Context, *examination) []health.Finding) func(context.Context,
	*examination) []health.Finding {
	return func(ctx context.Context, x *examination) []health.Finding {
		if x.api == nil || !x.keyAccepted() {
			return nil
		}
		ctx, cancel := context.WithDeadline(ctx, x.stripeUntil)
		defer cancel()
		return run(ctx, x)
	}
}

func find(code health.Code, severity health.Severity, next, format string, args ...any) []health.Finding {
	return []health.Finding{{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Next: next}}
}

func ok(code health.Code, format string, args ...any) []health.Finding {
	return find(code, health.OK, "", format, args...)
}

func warn(code health.Code, next, format string, args ...any) []health.Finding {
	return find(code, health.Warn, next, format, args...)
}

func fail(code health.Code, next, format string, args ...any) []health.Finding {
	return find(code, health.Fail, next, format, args...)
}

func unknown(code health.Code, next, format string, args ...any) []health.Finding {
	return find(code, health.Unknown, next, format, args...)
}
