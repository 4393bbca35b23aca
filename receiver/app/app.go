// Package app assembles a receiver from the other packages and runs it.
//
// An [App] is one receiver: [New] checks its options and starts nothing, [App.Run] blocks until it
// has stopped. Run opens the ledger, builds every part, opens the listeners, and only then serves.
// What runs is registered in a [Group], which stops it in reverse: the listeners first, the ledger
// last. [Main] is the program around it: signals, standard streams and the command line.
package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/metrics"
	"tillhook/receiver"
	"tillhook/receiver/cli"
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
	"tillhook/systemd"
)

// Options configure a receiver. Config and Log are required.
type Options struct {
	Config  *config.Config
	Version string
	Log     io.Writer
	Journal bool               // Log is systemd's journal, whose lines have a time and a priority of their own
	Sockets *systemd.Listeners // passed by a service manager; nil for none
	// Verify checks a copy of the ledger, for backups and for the API; nil for [cli.Verify].
	Verify func(ctx context.Context, path string) (*check.Report, error)
}

// App is a receiver.
type App struct {
	config      *config.Config
	version     string
	sockets     *systemd.Listeners
	lines       *LogWriter
	log         *slog.Logger
	group       *Group
	metrics     *metrics.Metrics
	ledger      *ledger.Ledger
	maintenance *operator.Maintenance
	board       health.Board
	phase       atomic.Int32 // see phaseServing

	// Built by build, before anything serves.
	handler      *receiver.Receiver
	operator     *operator.Operator
	verifier     *stripe.Verifier
	certificates *server.Certificates  // empty if the webhook listener does not use TLS
	api          *stripe.API           // nil without an API key
	reconciler   *reconcile.Reconciler // likewise
	listeners    listeners

	serving     chan struct{}         // closed once everything serves
	reloaded    *config.Config        // as of the last reload; used by Reload only
	reloadError atomic.Pointer[error] // why the last reload was refused; nil if it was not
}

// New returns a receiver that does not run yet.
func New(o Options) (*App, error) {
	if o.Config == nil || o.Log == nil {
		return nil, errors.New("app: configuration and log are required")
	}
	if o.Sockets == nil {
		o.Sockets = &systemd.Listeners{}
	}
	if fault := o.Sockets.Check(o.Config.Listen); fault != nil {
		return nil, config.Faults{{Name: fault.Name, Problem: fault.Problem, Fix: fault.Fix}}
	}
	if o.Verify == nil {
		o.Verify = cli.Verify
	}
	a := &App{
		config: o.Config, version: o.Version, sockets: o.Sockets, lines: NewLogWriter(o.Log),
		metrics: receiver.NewMetrics(o.Version), maintenance: &operator.Maintenance{VerifyFile: o.Verify},
		serving: make(chan struct{}), reloaded: o.Config,
	}
	a.log = o.Config.Logger(a.lines)
	if o.Journal {
		a.log = slog.New(systemd.JournalHandler(a.lines, o.Config.UndatedHandler))
	}
	a.group = NewGroup(a.log)
	return a, nil
}

// Run serves until ctx ends, stops, and returns the joined errors of all parts. It calls ready with
// the addresses once everything serves. Call it once.
func (a *App) Run(ctx context.Context, ready func(cli.Addresses)) (err error) {
	defer a.lines.Start(func(dropped uint64) {
		a.log.Warn("log lines were dropped here because the log was not read, or could not be written", "lines",
			dropped)
	})()
	limitMemory()
	// A core would hold bodies and secrets. See setrlimit(2).
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		a.log.Warn("core dumps cannot be switched off: if this process crashes, one that holds secrets may be written",
			"error", err)
	}
	for _, warning := range a.config.Warnings {
		a.log.Warn(warning)
	}
	defer func() {
		begun := time.Now()
		if err = errors.Join(err, a.group.Stop()); err == nil {
			a.log.Info("stopped", "ms", time.Since(begun).Milliseconds())
		}
	}()
	err = a.openLedger(ctx)
	if a.isService() && err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrOtherMode) {
		err = a.waitForLedger(ctx, err)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		a.log.Info("stopped while the ledger was migrated; the old file is unchanged, and the next start begins again",
			"error", err)
		return nil
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	if err := a.build(ctx); err != nil {
		return err
	}
	a.startMaintenance()
	a.serve()
	at := a.listeners.addresses
	a.log.Info("ready", "version", a.version, "mode", ledger.ModeName(a.config.Livemode), "webhooks", at.Public,
		"operator", at.Operator, "socket", at.Socket, "ledger", a.ledger.Path(), "secrets", len(a.config.WebhookSecrets))
	a.warn(systemd.Ready(a.statusLine()), "the receiver is ready")
	a.group.Go("health check", a.checkHealth)
	a.group.Go("systemd notifier", func(ctx context.Context) error {
		return systemd.RunNotifier(ctx, a.ledger.WaitIdle, a.statusLine)
	})
	ready(at)

	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case err = <-a.group.Ended():
		a.log.Error("stopping", "error", err)
	}
	a.phase.Store(phaseStopping)
	a.warn(systemd.Stopping(), "the receiver is stopping")
	return err
}

// warn logs that a notification of the service manager failed.
func (a *App) warn(err error, what string) {
	if err != nil {
		a.log.Warn("could not notify the service manager that "+what, "error", err)
	}
}

// LedgerOptions returns the options with which a receiver, or a command in its place, opens the
// ledger of a configuration.
func LedgerOptions(c *config.Config) ledger.Options {
	return ledger.Options{
		Dir: c.DataDir, Livemode: c.Livemode, Decoder: stripe.Decoder, Retention: c.Retention,
		BackupDir: c.BackupDir, BackupKeep: c.BackupKeep,
		Decode: func(raw []byte) *ledger.Event { return stripe.Decode(raw, c.Livemode) },
	}
}

// openLedger opens the ledger and starts its committer.
func (a *App) openLedger(ctx context.Context) error {
	m, log := a.metrics, a.log
	options := LedgerOptions(a.config)
	options.Observe = receiver.Observer(m, log)
	options.Expired = func(bodies int) {
		m.ExpiredBodies(bodies)
		log.Info("bodies older than TILLHOOK_RETENTION were deleted", "bodies", bodies)
	}
	options.ClockJumped = func(ahead time.Duration) {
		log.Warn("this machine's clock is far ahead of the time that has passed while the receiver ran: bodies are "+
			"deleted slowly until that has caught up. "+
			"If the receiver was not off for that long, set the clock (timedatectl set-ntp true)", "ahead", ahead.Round(time.Minute))
	}
	options.Released = func(e *ledger.Event, res ledger.Result) { m.Event(e.Type, string(res.Status), "", -1) }
	l, err := ledger.OpenContext(ctx, options)
	if err != nil {
		return err
	}
	if l.Created {
		log.Info("there was no ledger; an empty one was created", "path", l.Path())
	}
	if done := l.Migrated; done != nil {
		log.Info("the ledger was brought up to date", "from_schema", done.Schema, "events", done.Events, "payments",
			done.Payments,
			"decoded", done.Decoded, "bodies_gone", done.Gone, "old_file", done.Kept, "backup", done.Backup)
	}
	a.ledger = l
	a.group.Defer("ledger", func(ctx context.Context) error {
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }() // it waits for readers, and a reader can wait for a disk
		return await(ctx, closed)
	})
	if at, ok := l.LastEvent(); ok {
		m.LastEvent(at)
	}
	m.WatchLedger(func() (metrics.Ledger, error) {
		s, err := l.Stats()
		return metrics.Ledger{SizeBytes: s.FileBytes, FreeBytes: s.FreeBytes, Events: s.Events, Flagged: s.Flagged,
			Payments:   s.Payments,
			Quarantine: receiver.Quarantine(s)}, err
	})
	m.WatchLog(a.lines.Dropped)
	m.WatchHealth(a.board.Severities)
	a.group.Go("ledger's committer", l.Run)
	return nil
}

// build makes every part that serves or is shown, and opens the listeners. It starts nothing.
func (a *App) build(ctx context.Context) (err error) {
	c := a.config
	a.verifier = stripe.NewVerifier(c.WebhookSecrets, c.Tolerance)
	a.handler, err = receiver.New(receiver.Options{
		Path: c.WebhookPath, Livemode: c.Livemode, MaxBody: c.MaxBody, Ledger: a.ledger, Metrics: a.metrics, Log: a.log,
		Verifier: a.verifier, Proxies: c.TrustedProxies,
	})
	if err == nil {
		err = a.setAllowlist(c)
	}
	if err != nil {
		return err
	}
	if c.SecretKey == "" {
		a.log.Info("there is no STRIPE_SECRET_KEY: the ledger is not compared with Stripe's list of events, and " +
			"missed events are not fetched")
	} else {
		a.api = stripe.NewAPI(c.SecretKey, c.StripeAPIBase, a.version)
		a.api.Failed = a.metrics.APIError
		a.reconciler = reconcile.New(reconcile.Options{API: a.api, Ledger: a.ledger, Metrics: a.metrics, Log: a.log,
			Livemode: c.Livemode, URL: c.Endpoint()})
	}
	a.certificates = a.newCertificates()
	options := operator.Options{Ledger: a.ledger, Metrics: a.metrics.Handler(), Listen: c.OperatorListen, Log: a.log,
		Stopping: ctx,
		Verify:   a.maintenance.Verify, NotServing: a.notServing, Findings: a.findings, Board: &a.board, Receiver: a}
	if a.reconciler != nil {
		options.Reconciler = reconcileAPI{a.reconciler}
	}
	a.operator = operator.New(options)
	return a.listen()
}

// reconcileAPI adapts a reconciler to the operator API.
type reconcileAPI struct{ *reconcile.Reconciler }

func (c reconcileAPI) Reconcile(ctx context.Context, since time.Duration, dryRun bool) (any, error) {
	return c.Round(ctx, reconcile.Request{Since: since, DryRun: dryRun})
}

func (c reconcileAPI) Progress() any { return c.Reconciler.Progress() }

// startMaintenance starts the maintenance of the ledger.
func (a *App) startMaintenance() {
	g, c, l, log := a.group, a.config, a.ledger, a.log
	g.Go("release of the quarantine", func(ctx context.Context) error {
		sum, err := l.ReleaseOnce(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.Error("not all quarantined events were decoded again; the next start tries again", "error", err)
		case sum != ledger.ReleaseResult{}:
			log.Info("the quarantined events were decoded again", "released", sum.Released, "left", sum.Left)
		}
		<-ctx.Done()
		return nil
	})
	g.Go("retention", func(ctx context.Context) error { return l.RunRetention(ctx, c.Retention) })
	if c.BackupDir == "" {
		return
	}
	backups := ledger.Backups{
		Ledger: l, Dir: c.BackupDir, Every: c.BackupEvery, Keep: c.BackupKeep,
		Verify: func(ctx context.Context, path string) error { _, err := a.maintenance.Verify(ctx, path); return err },
		OnAttempt: func(path string, took time.Duration, err error) {
			if path == "" {
				a.maintenance.BackedUp(err)
				a.metrics.BackupFailure()
				log.Error("no backup was made; trying again. Look at the folder TILLHOOK_BACKUP_DIR; if the copy is "+
					"damaged, the ledger probably is, too (tillhook verify)",
					"folder", c.BackupDir, "error", err)
				return
			}
			a.maintenance.BackedUp(nil)
			a.metrics.BackupSuccess(time.Now())
			log.Info("backup made and verified", "file", path, "ms", took.Milliseconds())
			if err != nil {
				log.Warn("older backups could not be deleted; delete them, or the disk fills", "folder", c.BackupDir,
					"error", err)
			}
		},
	}
	if at, ok := backups.Newest(); ok {
		a.metrics.BackupSuccess(at)
	}
	if n := backups.Others(); n > 0 {
		log.Info("the folder for backups also holds copies of other ledgers, which are left as they are", "folder",
			c.BackupDir, "copies", n)
	}
	g.Go("scheduled backups", backups.Run)
}

// serve starts the listeners, the webhook listener last, so that stopping closes it first.
func (a *App) serve() {
	for _, l := range a.listeners.operator {
		handler := a.operator.TCP()
		if l.Addr().Network() == "unix" {
			handler = a.operator.Socket()
		}
		a.group.Serve("operator's socket", server.New(l, server.Private(handler), a.log))
	}
	for _, p := range a.listeners.ports {
		a.group.Go(p.Name, p.Run)
	}
	if every := a.config.ReconcileEvery; every > 0 && a.reconciler != nil {
		a.group.Go("comparison with Stripe", func(ctx context.Context) error { return a.reconciler.Run(ctx, every) })
	}
	a.serveCertificates()
	for _, l := range a.listeners.public {
		s := server.New(l, a.handler, a.log)
		if a.config.TLS.On() {
			s.UseTLS(a.certificates.Config())
		}
		a.group.Serve("webhook listener", s)
	}
	a.phase.Store(phaseServing)
	close(a.serving)
}
