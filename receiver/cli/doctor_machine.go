package cli

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
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

const (
	// lowSpace and noSpace are how much room the ledger's file system should have, in bytes.
	lowSpace = 1 << 30
	noSpace  = 64 << 20
)

// readEnvironment reads the configuration as serve would.
func (d *doctor) readEnvironment() {
	var err error
	d.config, err = d.settings.Load()
	var faults config.Faults
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.unknown(health.Environment, "run this as root", "The settings of the receiver cannot be read: %v.", err)
		return
	case errors.As(err, &faults):
		d.faulty = true
		for _, f := range faults {
			d.fail(health.Environment, f.Mend, "%s %s.", f.Name, f.Problem)
		}
		return
	case err != nil:
		d.faulty = true
		d.fail(health.Environment, "correct the unit (systemctl edit "+unitName(d.unit())+")", "%v.", err)
		return
	}
	for _, warning := range d.config.Warnings {
		d.warn(health.Environment, "see the manual: man tillhook", "%s.", strings.TrimSuffix(warning, "."))
	}
	for _, secret := range d.settings.Exposed() {
		d.warn(health.Environment, fmt.Sprintf("move it to %s/%s (chmod 600), without the name before it, and restart the service; then roll it at Stripe if others use this machine",
			filepath.Dir(secret.File), strings.ToLower(secret.Variable)), "%s stands in %s, which everybody on this machine can read.", secret.Variable, secret.File)
	}
	if len(d.config.Warnings)+len(d.settings.Exposed()) == 0 {
		d.ok(health.Environment, "%s is complete, for %s mode.", d.settings.From(), ledger.ModeName(d.config.Livemode))
	}
}

// readSecrets tells what kind of secrets there are.
func (d *doctor) readSecrets() {
	c := d.config
	if c == nil {
		return
	}
	listens := 0
	for _, s := range c.WebhookSecrets {
		if stripe.SecretFromCLI(s) {
			listens++
		}
	}
	const next = "use the secret of the endpoint: Dashboard, Workbench, Webhooks, your endpoint, Reveal"
	switch {
	case listens > 0 && c.Livemode:
		d.fail(health.SigningSecret, next, "A signing secret is that of stripe listen, which signs nothing in live mode.")
	case listens == len(c.WebhookSecrets):
		d.warn(health.SigningSecret, next, "The signing secret is that of stripe listen: good for a test at a desk, not for an endpoint.")
	default:
		d.ok(health.SigningSecret, "%s, from %s.", ledger.Plural(len(c.WebhookSecrets), "signing secret"), c.WebhookSecretFrom)
	}
	switch key := c.SecretKey; {
	case key == "":
		how := "set STRIPE_SECRET_KEY to a restricted key"
		if d.settings.Service != nil {
			how = "put a restricted key into " + filepath.Join("/etc/tillhook", d.instance, "stripe_secret_key") + ", of mode 600, and restart the service; one"
		}
		d.unknown(health.APIKey, how+" that reads Events, Webhook Endpoints, PaymentIntents, Charges and Refunds, Disputes",
			"There is no API key: Stripe's side cannot be looked at, and what Stripe cannot deliver stays missing.")
	case strings.HasPrefix(key, "sk_live_"):
		d.warn(health.APIKey, "use a restricted key (Dashboard, Developers, API keys) that reads Events, Webhook Endpoints, PaymentIntents, Charges and Refunds, Disputes",
			"The API key is a whole secret key of live mode: whoever reads it can move money.")
	default:
		d.ok(health.APIKey, "The API key is a %s key of %s mode.", map[bool]string{true: "restricted", false: "secret"}[strings.HasPrefix(key, "rk_")], ledger.ModeName(c.Livemode))
	}
}

// findReceiver asks the running receiver how it is.
func (d *doctor) findReceiver(ctx context.Context) {
	client, looked, err := d.receiver(ctx)
	var silent *operator.Silent
	switch {
	case errors.As(err, &silent), d.waits(err):
		d.silent(err)
		return
	case err != nil:
		d.unknown(health.Receiver, "run this as root, or join the group that owns the socket", "%v.", err)
		return
	case client == nil && d.waiter(ctx):
		return
	case client == nil:
		d.fail(health.Receiver, startIt(d.settings), "No receiver answers at %s.", strings.Join(looked, " or "))
		return
	}
	d.client = client
	var status operator.DoorStatus
	answer, err := client.Get(ctx, "/api/receiver", nil)
	if err == nil {
		err = json.Unmarshal(answer, &status)
	}
	if err != nil {
		d.silent(err)
		return
	}
	d.status = &status
	if status.Version != d.Version {
		d.warn(health.Receiver, "restart it: systemctl restart tillhook", "The receiver runs version %s, this is %s.", status.Version, d.Version)
	} else {
		d.ok(health.Receiver, "The receiver (%s) is up since %s, in %s mode.", status.Version, moment(ledger.OrNullTime(status.Started)), status.Mode)
	}
	if d.config != nil && status.Mode != ledger.ModeName(d.config.Livemode) {
		d.fail(health.ReceiverMode, "restart it, or look for another receiver on this machine", "The receiver that answers is of %s mode, the configuration says %s.", status.Mode, ledger.ModeName(d.config.Livemode))
	}
	d.takeSummary(ctx)
	var refused []string
	for _, r := range status.Refused {
		refused = append(refused, fmt.Sprintf("%d %s (the last at %s)", r.Count, r.Code, moment(ledger.OrNullTime(r.Last))))
	}
	if len(refused) > 0 {
		d.ok(health.Refusals, "Refused since the start: %s.", strings.Join(refused, ", "))
	}
}

// waiter looks for a receiver that waits for its ledger where a receiver counts only while it holds
// the ledger in the data folder.
func (d *doctor) waiter(ctx context.Context) bool {
	for _, at := range d.settings.SocketPaths() {
		if !at.Ask {
			continue
		}
		if _, err := operator.Dial(at.Path).Get(ctx, "/api/receiver", nil); d.waits(err) {
			d.silent(err)
			return true
		}
	}
	return false
}

// waits reports whether an error is the answer of a receiver that waits for its ledger.
func (d *doctor) waits(err error) bool {
	var refused *operator.Error
	return errors.As(err, &refused) && refused.Code == "storage_unavailable"
}

// silent reports a receiver that does not answer as it should. Nothing else is asked of it.
func (d *doctor) silent(err error) {
	unit := unitName(d.unit())
	d.client = nil
	if d.waiting = d.waits(err); d.waiting {
		what, next, _ := strings.Cut(strings.TrimPrefix(err.Error(), "FAULT: "), ". Next step: ")
		d.fail(health.Receiver, cmp.Or(next, "see why: journalctl -u "+unit), "The receiver runs and waits for its ledger: %s. It goes on by itself once it can open it.", what)
		return
	}
	d.fail(health.Receiver, "see why: systemctl status "+unit+", journalctl -u "+unit, "The receiver cannot be asked how it is: %v.", err)
}

// unit returns the name of the service whose settings these are.
func (d *doctor) unit() string {
	if s := d.settings.Keeper(); s != nil {
		return s.Unit
	}
	return "tillhook.service"
}

// takeSummary takes over what the receiver says of itself. Stripe's side is looked at anew, and the clock.
func (d *doctor) takeSummary(ctx context.Context) {
	var summary operator.Summary
	answer, err := patiently(ctx, d.client, "/api/summary", url.Values{"limit": {"1"}})
	if err == nil {
		err = json.Unmarshal(answer, &summary)
	}
	if err != nil {
		d.fail(health.Storage, "look at the log: journalctl -u tillhook", "The receiver cannot read its ledger: %v.", err)
		return
	}
	for _, f := range summary.Health.Findings {
		if !strings.HasPrefix(string(f.Code), string(health.Endpoint)) && f.Code != health.Clock {
			d.found(f)
		}
	}
}

// lookAtLedger looks at where the ledger lies, and into it where no receiver holds it.
func (d *doctor) lookAtLedger() {
	dir := d.settings.DataDir()
	p, err := ledger.InspectDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		d.unknown(health.DataDir, "run this as root to see it", "The data folder %s cannot be looked at by this user.", dir)
		return
	}
	if err != nil {
		d.fail(health.DataDir, "name another folder in TILLHOOK_DATA_DIR, or mend this one", "%v.", err)
		return
	}
	me := fmt.Sprint(os.Getuid())
	switch {
	case !p.File && !p.Writable && (d.client != nil || d.settings.Keeper() != nil && os.Geteuid() != 0):
		d.unknown(health.DataDir, "run this as root to see it", "The data folder %s cannot be looked at by this user.", dir)
	case !p.There && p.Writable:
		d.ok(health.DataDir, "The data folder %s does not exist yet, and can be made.", dir)
	case !p.There:
		d.fail(health.DataDir, "make it, or name another one in TILLHOOK_DATA_DIR", "The data folder %s does not exist, and this user (%s) cannot make it.", dir, me)
	case !p.Writable && d.client == nil:
		d.fail(health.DataDir, "chown -R it to the user that the receiver runs as, or run this as that user", "The data folder %s belongs to %s, and this user (%s) cannot write to it.", dir, p.Owner, me)
	case p.Mode&0o077 != 0:
		d.warn(health.DataDir, "chmod 700 "+dir, "The data folder %s is open to others (mode %o): the ledger holds customers' data.", dir, p.Mode)
	case p.File && p.FileMode&0o077 != 0:
		d.warn(health.DataDir, "chmod 600 "+ledger.Path(dir), "The ledger is open to others (mode %o): it holds customers' data.", p.FileMode)
	default:
		d.ok(health.DataDir, "The data folder %s belongs to %s, and to nobody else.", dir, p.Owner)
	}
	free := fmt.Sprintf("%d MB of %d MB are free for %s", p.FreeBytes>>20, p.TotalBytes>>20, dir)
	switch {
	case p.FreeBytes < noSpace:
		d.fail(health.Disk, "make room: events are answered 503 once it is full", "The disk is full: %s.", free)
	case p.FreeBytes < lowSpace:
		d.warn(health.Disk, "make room, or shorten TILLHOOK_RETENTION", "The disk is nearly full: %s.", free)
	default:
		d.ok(health.Disk, "%s.", free)
	}
	d.leftOver(dir, p)
	if d.client == nil && !d.waiting && p.File {
		d.openLedger(dir, p)
	}
}

// leftOver reports what a receiver left whose ledger was lost while it ran.
func (d *doctor) leftOver(dir string, p ledger.DirState) {
	if p.Missing != "" && !p.File {
		d.fail(health.Ledger, fmt.Sprintf("put it back, or restore a backup (tillhook restore FILE); to begin with an empty ledger delete %s", p.Missing),
			"The ledger %s was lost while a receiver ran: no receiver starts without it.", ledger.Path(dir))
	}
	for _, file := range p.Deleted {
		d.warn(health.DeletedLedger, fmt.Sprintf("prove it sound: tillhook verify %s. If the present ledger lacks events of that time, fetch them (tillhook reconcile --since 30d) or put the file in its place (tillhook restore %[1]s); then move it away", file),
			"%s is a ledger that was deleted while a receiver ran, which saved it: what it had acknowledged until then may be nowhere else.", file)
	}
}

func (d *doctor) openLedger(dir string, p ledger.DirState) {
	l, err := ledger.OpenReadOnly(dir)
	if errors.Is(err, ledger.ErrLocked) {
		who := "another process"
		if p.Holder != 0 {
			who = fmt.Sprintf("process %d", p.Holder)
		}
		d.fail(health.Ledger, "end that process if it is a second receiver, or name its socket in TILLHOOK_OPERATOR_SOCKET", "%s holds the ledger and answers at no socket that was looked at: no receiver can start beside it.", who)
		return
	}
	if err != nil {
		d.fail(health.Ledger, "tillhook verify tells more; restore a copy, or try tillhook rebuild", "The ledger cannot be opened: %v.", err)
		return
	}
	defer l.Close() // it was only read
	if d.config != nil && l.Livemode() != d.config.Livemode {
		d.faulty = true
		d.fail(health.Ledger, "set TILLHOOK_DATA_DIR to another folder, or use a key and a secret of the ledger's mode", "The ledger holds %s mode payments, the configuration says %s.", ledger.ModeName(l.Livemode()), ledger.ModeName(d.config.Livemode))
		return
	}
	stats, err := l.Stats()
	if err != nil {
		d.fail(health.Ledger, "tillhook verify tells more", "The ledger cannot be read: %v.", err)
		return
	}
	d.ok(health.Ledger, "The ledger opens: %s (tillhook verify looks through all of it).", ledger.Plural(stats.Events, "event"))
	if at, ok := l.LastEvent(); ok && time.Since(at) > 3*24*time.Hour {
		d.warn(health.Deliveries, "see whether the endpoint is enabled and reached", "No event has come since %s.", moment(ledger.OrNullTime(at.Unix())))
	}
}

// lookAtPorts sees whether the doors can be opened, or answer.
func (d *doctor) lookAtPorts(ctx context.Context) {
	if d.config == nil {
		return
	}
	if d.status != nil {
		d.lookAtDoor(ctx)
		return
	}
	if d.waiting { // it is the one that listens there
		return
	}
	d.lookAtSocketUnits(ctx)
	for _, door := range []struct {
		code                       health.Code
		variable, instead, address string
	}{
		{health.PublicPort, "TILLHOOK_LISTEN", "; of the packaged service ListenStream= of tillhook.socket (systemctl edit tillhook.socket)", d.config.Listen},
		{health.OperatorPort, "TILLHOOK_OPERATOR_LISTEN", " and restart", d.config.OperatorListen},
	} {
		if _, passed := d.settings.Listens(); door.address == "" || passed != "" && door.variable == "TILLHOOK_LISTEN" {
			continue
		}
		l, err := net.Listen("tcp", door.address)
		switch {
		case err == nil:
			_ = l.Close() // it was only tried
			d.ok(door.code, "%s is free for %s.", door.address, door.variable)
		case errors.Is(err, syscall.EADDRINUSE):
			d.fail(door.code, "see which: ss -ltnp; end it, or change "+door.variable+door.instead, "Another program listens on %s.", door.address)
		default:
			d.fail(door.code, "change "+door.variable+"; a port below 1024 needs the socket unit", "%s cannot be listened on: %v.", door.address, stripe.Plainly(err))
		}
	}
}

// nearDoor returns what asks a door on this machine, by the address that the receiver tells: with
// which client, at which URL, and where that is.
func nearDoor(webhooks string) (client *http.Client, address, place string) {
	scheme, rest, _ := strings.Cut(webhooks, "://")
	if socket, ok := strings.CutPrefix(rest, "unix:"); ok {
		socket, path, _ := strings.Cut(socket, ":")
		transport := near.Transport.(*http.Transport).Clone()
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
		return &http.Client{Transport: transport, CheckRedirect: near.CheckRedirect}, scheme + "://localhost" + path, socket
	}
	place, _, _ = strings.Cut(rest, "/")
	return near, webhooks, place
}

// lookAtDoor asks the public door for its liveness, on this machine.
func (d *doctor) lookAtDoor(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, webhooks, base := nearDoor(d.status.Webhooks)
	u, err := url.Parse(webhooks)
	if err != nil {
		d.unknown(health.PublicPort, "", "%v.", err)
		return
	}
	u.Path = "/healthz"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		d.unknown(health.PublicPort, "", "%v.", err)
		return
	}
	resp, err := client.Do(r)
	if err != nil {
		d.fail(health.PublicPort, "restart the receiver and look at its log", "The public door at %s does not answer: %v.", base, stripe.Plainly(err))
		return
	}
	_ = resp.Body.Close() // nothing of it is wanted
	if resp.StatusCode != http.StatusOK {
		d.fail(health.PublicPort, "restart the receiver and look at its log", "The public door at %s answers %d when it is asked for its health.", base, resp.StatusCode)
		return
	}
	d.ok(health.PublicPort, "The public door answers at %s.", base)
}
