package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

const (
	// lowSpace and noSpace are the free space of the ledger's file system below which it is nearly
	// full, and full, in bytes.
	lowSpace = 1 << 30
	noSpace  = 64 << 20
	// silence is the time without an event after which a ledger without a receiver is reported.
	silence = 3 * 24 * time.Hour
)

// checkEnvironment reports the faults that serve would report.
func checkEnvironment(_ context.Context, x *examination) (list []health.Finding) {
	var faults config.Faults
	switch err := x.configErr; {
	case errors.Is(err, fs.ErrPermission):
		return unknown(health.Environment, "run this as root", "The settings of the receiver cannot be read: %v.", err)
	case errors.As(err, &faults):
		x.misconfigured = true
		for _, f := range faults {
			list = append(list, fail(health.Environment, f.Fix, "%s %s.", f.Name, f.Problem)...)
		}
		return list
	case err != nil:
		x.misconfigured = true
		return fail(health.Environment, "correct the unit (systemctl edit "+x.unit()+")", "%v.", err)
	}
	for _, warning := range x.config.Warnings {
		list = append(list, warn(health.Environment, "see the manual: man tillhook", "%s.",
			strings.TrimSuffix(warning, "."))...)
	}
	for _, secret := range x.Settings.Exposed() {
		next := fmt.Sprintf("move it to %s/%s (chmod 600), without the name before it, and restart the service; "+
			"then roll it at Stripe if others use this machine", filepath.Dir(secret.File), strings.ToLower(secret.Variable))
		list = append(list, warn(health.Environment, next,
			"%s is set in %s, which every user of this machine can read.", secret.Variable, secret.File)...)
	}
	if len(list) == 0 {
		return ok(health.Environment, "%s is complete, for %s mode.", x.Settings.From(),
			ledger.ModeName(x.config.Livemode))
	}
	return list
}

// checkSigningSecret reports the kind of the signing secrets.
func checkSigningSecret(_ context.Context, x *examination) []health.Finding {
	listens := 0
	for _, s := range x.config.WebhookSecrets {
		if stripe.SecretFromCLI(s) {
			listens++
		}
	}
	const next = "use the secret of the endpoint: Dashboard, Workbench, Webhooks, your endpoint, Reveal"
	switch {
	case listens > 0 && x.config.Livemode:
		return fail(health.SigningSecret, next,
			"A signing secret is that of stripe listen, which signs nothing in live mode.")
	case listens == len(x.config.WebhookSecrets):
		return warn(health.SigningSecret, next,
			"The signing secret is that of stripe listen: it works for tests, and not for an endpoint.")
	}
	return ok(health.SigningSecret, "%s, from %s.", wording.Plural(len(x.config.WebhookSecrets), "signing secret"),
		x.config.WebhookSecretFrom)
}

// checkAPIKey reports the kind of the API key.
func checkAPIKey(_ context.Context, x *examination) []health.Finding {
	const rights = "that reads Events, Webhook Endpoints, PaymentIntents, Charges and Refunds, Disputes"
	switch key := x.config.SecretKey; {
	case key == "":
		how := "set STRIPE_SECRET_KEY to a restricted key"
		if x.Settings.Service != nil {
			how = "put a restricted key into " + filepath.Join("/etc/tillhook", x.Instance, "stripe_secret_key") +
				", of mode 600, and restart the service; one"
		}
		return unknown(health.APIKey, how+" "+rights,
			"There is no API key: the account at Stripe cannot be examined, and missed events are not fetched.")
	case strings.HasPrefix(key, "sk_live_"):
		return warn(health.APIKey, "use a restricted key (Dashboard, Developers, API keys) "+rights,
			"The API key is an unrestricted secret key of live mode: with it anyone can move money.")
	default:
		kind := "secret"
		if strings.HasPrefix(key, "rk_") {
			kind = "restricted"
		}
		return ok(health.APIKey, "The API key is a %s key of %s mode.", kind, ledger.ModeName(x.config.Livemode))
	}
}

// checkReceiver reports whether a receiver runs and answers.
func checkReceiver(_ context.Context, x *examination) (list []health.Finding) {
	var silent *operator.Silent
	var failed *unanswered
	switch err := x.receiverErr; {
	case x.waiting:
		what, next, _ := strings.Cut(strings.TrimPrefix(err.Error(), "FAULT: "), ". Next step: ")
		return fail(health.Receiver, cmp.Or(next, "see why: journalctl -u "+x.unit()),
			"The receiver runs and waits for its ledger: %s. It continues by itself once it can open the ledger.", what)
	case errors.As(err, &silent), errors.As(err, &failed):
		return fail(health.Receiver, "see why: systemctl status "+x.unit()+", journalctl -u "+x.unit(),
			"The receiver does not report its state: %v.", err)
	case err != nil:
		return unknown(health.Receiver, "run this as root, or join the group that owns the socket", "%v.", err)
	case x.client == nil:
		return fail(health.Receiver, x.StartAdvice, "No receiver answers at %s.", strings.Join(x.tried, " or "))
	case x.status.Version != x.Version:
		list = warn(health.Receiver, "restart it: systemctl restart tillhook",
			"The receiver runs version %s, and this command is version %s.", x.status.Version, x.Version)
	default:
		list = ok(health.Receiver, "The receiver (%s) has been up since %s, in %s mode.", x.status.Version,
			utc(x.status.Started), x.status.Mode)
	}
	if x.config != nil && x.status.Mode != ledger.ModeName(x.config.Livemode) {
		list = append(list, fail(health.ReceiverMode, "restart it, or look for another receiver on this machine",
			"The receiver that answers is of %s mode, the configuration says %s.", x.status.Mode, ledger.ModeName(x.config.Livemode))...)
	}
	return list
}

// checkSummary takes over what the receiver reports of itself, except for its last look at the
// endpoint and the clock: those are examined anew.
func checkSummary(ctx context.Context, x *examination) (list []health.Finding) {
	var summary operator.Summary
	answer, err := x.Get(ctx, x.client, "/api/summary", url.Values{"limit": {"1"}})
	if err == nil {
		err = json.Unmarshal(answer, &summary)
	}
	if err != nil {
		return fail(health.Storage, "look at the log: journalctl -u tillhook",
			"The receiver cannot read its ledger: %v.", err)
	}
	for _, f := range summary.Health.Findings {
		if !strings.HasPrefix(string(f.Code), string(health.Endpoint)) && f.Code != health.Clock {
			list = append(list, f)
		}
	}
	x.reported = list
	return list
}

// checkRefusals reports what was refused since the receiver started.
func checkRefusals(_ context.Context, x *examination) []health.Finding {
	var refused []string
	for _, r := range x.status.Refused {
		refused = append(refused, fmt.Sprintf("%d %s (the last at %s)", r.Count, r.Code, utc(r.Last)))
	}
	if len(refused) == 0 {
		return nil
	}
	return ok(health.Refusals, "Refused since the start: %s.", strings.Join(refused, ", "))
}

// checkDataDir reports who may use the data directory.
func checkDataDir(_ context.Context, x *examination) []health.Finding {
	dir, state, me := x.Settings.DataDir(), x.dir, fmt.Sprint(os.Getuid())
	if errors.Is(x.dirErr, fs.ErrPermission) {
		return unknown(health.DataDir, "run this as root to see it", "This user may not examine the data folder %s.",
			dir)
	}
	if fault := new(ledger.PathFault); errors.As(x.dirErr, &fault) {
		return fail(health.DataDir, fault.Next, "%s.", fault.What())
	}
	if x.dirErr != nil {
		return fail(health.DataDir, "set another folder in TILLHOOK_DATA_DIR, or repair this one", "%v.", x.dirErr)
	}
	switch {
	case !state.File && !state.Writable && (x.client != nil || x.Settings.Keeper() != nil && os.Geteuid() != 0):
		return unknown(health.DataDir, "run this as root to see it", "This user may not examine the data folder %s.",
			dir)
	case !state.There && state.Writable:
		return ok(health.DataDir, "The data folder %s does not exist yet, and can be created.", dir)
	case !state.There:
		return fail(health.DataDir, "create it, or set another one in TILLHOOK_DATA_DIR",
			"The data folder %s does not exist, and this user (%s) cannot create it.", dir, me)
	case !state.Writable && x.client == nil:
		return fail(health.DataDir, "chown -R it to the user that the receiver runs as, or run this as that user",
			"The data folder %s belongs to %s, and this user (%s) cannot write to it.", dir, state.Owner, me)
	case state.Mode&0o077 != 0:
		return warn(health.DataDir, "chmod 700 "+dir,
			"Other users may open the data folder %s (mode %o): the ledger holds customers' data.", dir, state.Mode)
	case state.File && state.FileMode&0o077 != 0:
		return warn(health.DataDir, "chmod 600 "+ledger.Path(dir),
			"Other users may open the ledger (mode %o): it holds customers' data.", state.FileMode)
	}
	return ok(health.DataDir, "The data folder %s belongs to %s, and no other user can open it.", dir, state.Owner)
}

// checkDisk reports the free space for the ledger.
func checkDisk(_ context.Context, x *examination) []health.Finding {
	free := fmt.Sprintf("%d MB of %d MB are free for %s", x.dir.FreeBytes>>20, x.dir.TotalBytes>>20,
		x.Settings.DataDir())
	switch {
	case x.dir.FreeBytes < noSpace:
		return fail(health.Disk, "free some space: events are answered 503 once it is full", "The disk is full: %s.",
			free)
	case x.dir.FreeBytes < lowSpace:
		return warn(health.Disk, "free some space, or shorten TILLHOOK_RETENTION", "The disk is nearly full: %s.", free)
	}
	return ok(health.Disk, "%s.", free)
}

// checkLeftovers reports what a receiver left whose ledger was lost while it ran.
func checkLeftovers(_ context.Context, x *examination) (list []health.Finding) {
	if x.dir.Missing != "" && !x.dir.File {
		list = fail(health.Ledger, fmt.Sprintf("put it back, or restore a backup (tillhook restore FILE); to begin "+
			"with an empty ledger delete %s", x.dir.Missing),
			"The ledger %s was lost while a receiver ran: no receiver starts without it.", ledger.Path(x.Settings.DataDir()))
	}
	for _, file := range x.dir.Deleted {
		list = append(list, warn(health.DeletedLedger,
			fmt.Sprintf("verify it: tillhook verify %s. If the present ledger lacks events of that time, fetch them "+
				"(tillhook reconcile --since 30d) or put the file in its place (tillhook restore %[1]s); then move "+
				"it away", file),
			"%s is a ledger that was deleted while a receiver ran, which saved it: events that it had acknowledged "+
				"until then may be in no other file.", file)...)
	}
	return list
}

// checkLedger opens a ledger that no receiver holds.
func checkLedger(_ context.Context, x *examination) []health.Finding {
	l, err := ledger.OpenReadOnly(x.Settings.DataDir())
	if errors.Is(err, ledger.ErrLocked) {
		who := "another process"
		if x.dir.Holder != 0 {
			who = fmt.Sprintf("process %d", x.dir.Holder)
		}
		return fail(health.Ledger, "end that process if it is a second receiver, or name its socket in "+
			"TILLHOOK_OPERATOR_SOCKET",
			"%s holds the ledger and answers at none of the known sockets: no receiver can start beside it.", who)
	}
	if fault := new(ledger.PathFault); errors.As(err, &fault) {
		return fail(health.Ledger, fault.Next, "The ledger cannot be opened: %s.", fault.What())
	}
	if err != nil {
		return fail(health.Ledger, "tillhook verify reports more; restore a copy, or try tillhook rebuild",
			"The ledger cannot be opened: %v.", err)
	}
	defer l.Close() // it was only read
	if x.config != nil && l.Livemode() != x.config.Livemode {
		x.misconfigured = true
		return fail(health.Ledger, "set TILLHOOK_DATA_DIR to another folder, or use a key and a secret of the "+
			"ledger's mode",
			"The ledger holds %s mode payments, the configuration says %s.", ledger.ModeName(l.Livemode()), ledger.ModeName(x.config.Livemode))
	}
	stats, err := l.Stats()
	if err != nil {
		return fail(health.Ledger, "tillhook verify reports more", "The ledger cannot be read: %v.", err)
	}
	list := ok(health.Ledger, "The ledger opens: %s (tillhook verify reads all of it).",
		wording.Plural(stats.Events, "event"))
	if at, known := l.LastEvent(); known && time.Since(at) > silence {
		list = append(list, warn(health.Deliveries, "see whether the endpoint is enabled and reached",
			"No event has come since %s.", utc(at.Unix()))...)
	}
	return list
}

// checkPorts reports whether the listeners answer, or could be opened.
func checkPorts(ctx context.Context, x *examination) []health.Finding {
	if x.status != nil {
		return checkListener(ctx, x)
	}
	if x.waiting { // it listens there itself
		return nil
	}
	list := checkSocketUnits(ctx, x)
	for _, port := range []struct {
		code                       health.Code
		variable, instead, address string
	}{
		{health.PublicPort, "TILLHOOK_LISTEN",
			"; of the packaged service ListenStream= of tillhook.socket (systemctl edit tillhook.socket)", x.config.Listen},
		{health.OperatorPort, "TILLHOOK_OPERATOR_LISTEN", " and restart", x.config.OperatorListen},
	} {
		if _, passed := x.Settings.Listens(); port.address == "" || passed != "" && port.variable == "TILLHOOK_LISTEN" {
			continue
		}
		l, err := net.Listen("tcp", port.address)
		switch {
		case err == nil:
			_ = l.Close() // it was only tried
			list = append(list, ok(port.code, "%s is free for %s.", port.address, port.variable)...)
		case errors.Is(err, syscall.EADDRINUSE):
			list = append(list, fail(port.code, "see which: ss -ltnp; end it, or change "+port.variable+port.instead,
				"Another program listens on %s.", port.address)...)
		default:
			list = append(list, fail(port.code, "change "+port.variable+"; a port below 1024 needs the socket unit",
				"A receiver cannot listen on %s: %v.", port.address, stripe.PlainError(err))...)
		}
	}
	return list
}

// checkListener asks the webhook listener of the running receiver for its health, on this machine.
func checkListener(ctx context.Context, x *examination) []health.Finding {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, webhooks, place := localListener(x.status.Webhooks)
	u, err := url.Parse(webhooks)
	if err != nil {
		return unknown(health.PublicPort, "", "%v.", err)
	}
	u.Path = "/healthz"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return unknown(health.PublicPort, "", "%v.", err)
	}
	const next = "restart the receiver and look at its log"
	resp, err := client.Do(r)
	if err != nil {
		return fail(health.PublicPort, next, "The webhook listener at %s does not answer: %v.", place,
			stripe.PlainError(err))
	}
	_ = resp.Body.Close() // only the status is needed
	if resp.StatusCode != http.StatusOK {
		return fail(health.PublicPort, next, "The webhook listener at %s answers %d to /healthz.", place,
			resp.StatusCode)
	}
	return ok(health.PublicPort, "The webhook listener answers at %s.", place)
}

// checkSocketUnits reports whether the service's public socket is open, if a socket unit opens it:
// then the port is not the receiver's own, and TILLHOOK_LISTEN does not change it.
func checkSocketUnits(ctx context.Context, x *examination) []health.Finding {
	address, unit := x.Settings.Listens()
	if unit == "" {
		return nil
	}
	states, err := x.UnitStates(ctx, unit)
	if err != nil {
		return unknown(health.PublicPort, "look at it: systemctl status "+unit, "Whether %s is open is unknown: %v.",
			unit, err)
	}
	change := "systemctl edit " + unit + ", with the lines [Socket], ListenStream= and ListenStream=127.0.0.1:8081, " +
		"then systemctl restart " + unit
	switch {
	case states[unit] == "active":
		return ok(health.PublicPort, "%s listens on %s; deliveries wait there while the receiver does not run.", unit,
			address)
	case strings.HasPrefix(address, "/"), strings.HasPrefix(address, "@"):
		return fail(health.PublicPort, "systemctl start "+unit, "%s does not listen on %s.", unit, address)
	case isInUse(address):
		return fail(health.PublicPort, "see which: ss -ltnp; end it, or give the socket another port: "+change,
			"Another program listens on %s, so that %s cannot. TILLHOOK_LISTEN does not change that port.", address, unit)
	}
	return fail(health.PublicPort, "systemctl start "+unit, "%s does not listen on %s, which is free.", unit, address)
}

// isInUse reports whether another program listens on an address.
func isInUse(address string) bool {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close() // it was only tried
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
