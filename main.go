// Command tillhook receives Stripe's webhooks on one's own machine: verified, written down exactly
// once, and folded into a ledger of payments that is right whatever order they came in.
//
// This file introduces the rooms to each other. Each is built in one place, what runs runs in one
// group, and what was opened is closed in the reverse order, by name.
package main

import (
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"tillhook/ledger"
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

//go:embed testdata/events/*.json
var samples embed.FS

// version is set by the linker for a release: -ldflags "-X main.version=v1.2.3".
var version string

// portRetry is how often the port for metrics is tried again where another program has it.
const portRetry = 30 * time.Second

// portAdvice is the next step where another program uses that port.
const portAdvice = "set TILLHOOK_OPERATOR_LISTEN to another address, or to off, and restart"

func main() {
	receiver.TuneCollector()
	os.Exit(run("/"))
}

// process is what this one has from whoever started it.
type process struct {
	sockets *systemd.Listeners
	stderr  io.Writer
	journal bool                   // stderr is the journal's, whose lines have a time and a priority
	reload  atomic.Pointer[func()] // what SIGHUP is for, while a receiver runs
}

// run is main with an exit status, for tests that are this program. The units of the installed
// service lie below root.
func run(root string) int {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		stop(cli.Signaled{Signal: (<-signals).(syscall.Signal)})
		// A second signal ends the process at once, unless it comes so soon that the first is
		// meant.
		time.AfterFunc(time.Second, func() { signal.Stop(signals) })
		// Stopping takes 10 s at most. What hangs then, such as printing an error to a pipe that is
		// not read, must not go on.
		time.AfterFunc(12*time.Second, func() { os.Exit(1) })
	}()
	signal.Ignore(syscall.SIGPIPE) // "| head" is an error of writing, not the end in the middle of something
	args := os.Args[1:]
	p := &process{stderr: os.Stderr}
	if p.journal = systemd.ToJournal(os.Stderr) && (len(args) == 0 || args[0] == "serve"); p.journal {
		p.stderr = systemd.JournalErrors(os.Stderr)
	}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		go p.heed(hangups, func() { stop(cli.Signaled{Signal: syscall.SIGHUP}) })
	}
	p.sockets = systemd.NewListeners(systemd.Sockets())
	events, err := fs.Sub(samples, "testdata/events")
	if err != nil {
		fmt.Fprintln(os.Stderr, "tillhook:", err)
		return 1
	}
	program := &cli.Program{Version: versionName(), Samples: events, Serve: p.serve,
		Ledger:  func(c *config.Config) ledger.Options { return ledgerOptions(c) },
		Refused: p.turnAway,
		Root:    root,
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: p.stderr}
	return program.Run(ctx, args)
}

// heed has a receiver read its configuration again for each SIGHUP. Whatever else is running ends.
func (p *process) heed(hangups <-chan os.Signal, stop func()) {
	for range hangups {
		if reload := p.reload.Load(); reload != nil {
			(*reload)()
		} else {
			stop()
		}
	}
}

// turnAway tells the service manager, and whoever waits on its sockets, that this receiver cannot start as it is configured.
func (p *process) turnAway(ctx context.Context, fault error) {
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	all := p.sockets.All()
	waiting, tell := server.CallersWait(all), systemd.Status
	if waiting { // one of them had this process started
		tell = systemd.Failing
	}
	if err := tell("Not configured: " + fault.Error()); err != nil {
		log.Warn("the service manager was not told what is wrong", "error", err)
	}
	if !waiting {
		return
	}
	if err := server.RejectAll(ctx, all, "The receiver is not configured; its log says what is wrong.", log); err != nil {
		log.Warn("not everybody who waited could be told that the receiver is not configured", "error", err)
	}
}

// versionName is the release, or what the build knows of its source.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()") // "(devel)" of a build in the source's folder
	}
	return "devel"
}

// serve runs a receiver until ctx ends, then stops it: doors first, the ledger last.
func (p *process) serve(ctx context.Context, c *config.Config, logTo io.Writer, ready func(cli.Doors)) (err error) {
	if fault := p.sockets.Check(c.Listen); fault != nil {
		return config.Faults{{Name: fault.Name, Problem: fault.Problem, Mend: fault.Fix}}
	}
	var r *rooms
	open := make(chan struct{})
	reload := func() { // a signal that comes early waits
		select {
		case <-open:
			r.reload()
		case <-ctx.Done():
		}
	}
	p.reload.Store(&reload)
	defer p.reload.Store(nil)
	receiver.BoundMemory()
	lines := receiver.NewLines(logTo)
	log := c.Logger(lines)
	if p.journal {
		log = slog.New(systemd.JournalHandler(lines, c.UndatedHandler))
	}
	defer lines.Start(func(dropped uint64) {
		log.Warn("log lines were dropped here because the log was not read, or could not be written", "lines", dropped)
	})()
	// A core would hold bodies and secrets. setrlimit(2)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		log.Warn("cores cannot be switched off: should this process crash, one may be written that holds secrets", "error", err)
	}
	for _, warning := range c.Warnings {
		log.Warn(warning)
	}
	g := receiver.NewGroup(log)
	defer func() {
		begun := time.Now()
		if err = errors.Join(err, g.Stop()); err == nil {
			log.Info("stopped", "ms", time.Since(begun).Milliseconds())
		}
	}()

	r = &rooms{process: p, config: c, files: c, group: g, lines: lines, metrics: receiver.NewMetrics(versionName()), log: log, upkeep: &operator.Upkeep{Prove: cli.Verify}}
	r.books, err = r.openLedger(ctx)
	if p.isService() && err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrOtherMode) {
		err = r.waitForLedger(ctx, err)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		log.Info("stopped while the ledger was brought up to date; the old file is unchanged, and the next start begins again", "error", err)
		return nil
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	r.metrics.WatchLog(lines.Dropped)
	r.tend()
	doors, err := r.open(ctx)
	if err != nil {
		return err
	}
	r.phase.Serve()
	close(open)
	log.Info("ready", "version", versionName(), "mode", ledger.ModeName(c.Livemode), "webhooks", doors.Public,
		"operator", doors.Operator, "socket", doors.Socket, "ledger", r.books.Path(), "secrets", len(c.WebhookSecrets))
	if err := systemd.Ready(r.line()); err != nil {
		log.Warn("the service manager was not told that the receiver is ready", "error", err)
	}
	g.Runs("word to the service manager", func(ctx context.Context) error { return systemd.RunNotifier(ctx, r.books.WaitIdle, r.line) })
	ready(doors)

	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err = <-g.Ended():
		log.Error("stopping", "error", err)
	}
	r.phase.Stop()
	if notifyErr := systemd.Stopping(); notifyErr != nil {
		log.Warn("the service manager was not told that the receiver is stopping", "error", notifyErr)
	}
	return err
}

// ledgerOptions are those of serve and of whatever opens its ledger in its place.
func ledgerOptions(c *config.Config) ledger.Options {
	return ledger.Options{
		Dir: c.DataDir, Livemode: c.Livemode, Decoder: stripe.Decoder, Retention: c.Retention, BackupDir: c.BackupDir, BackupKeep: c.BackupKeep,
		Decode: func(raw []byte) *ledger.Event { return stripe.Decode(raw, c.Livemode) },
	}
}

// rooms are those of a receiver that runs, and what they share.
type rooms struct {
	*process
	config  *config.Config
	group   *receiver.Group
	lines   *receiver.Lines
	books   *ledger.Ledger
	metrics *metrics.Metrics
	log     *slog.Logger
	upkeep  *operator.Upkeep

	public       *receiver.Receiver
	webhooks     atomic.Pointer[string] // where it listens, once it does
	port         *server.Port           // nil where it is off
	verifier     *stripe.Verifier
	certificates *server.Certificates  // nil where the public door speaks no TLS
	api          *stripe.API           // nil where there is no API key
	reconciler   *reconcile.Reconciler // likewise
	files        *config.Config        // as a reload last read it; only reload touches it
	notReloaded  atomic.Pointer[error] // why the last reload was refused; nil if it was not
	phase        receiver.Phase
}

// openLedger opens the ledger and starts its committer.
func (r *rooms) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	m, log := r.metrics, r.log
	options := ledgerOptions(r.config)
	options.Observe = receiver.Observer(m, log)
	options.Expired = func(bodies int) {
		m.ExpiredBodies(bodies)
		log.Info("bodies older than TILLHOOK_RETENTION were deleted", "bodies", bodies)
	}
	options.ClockJumped = func(ahead time.Duration) {
		log.Warn("this machine's clock is far ahead of the time that has passed while the receiver ran: bodies are deleted slowly until that has caught up. "+
			"If the receiver was not off for that long, have the clock set (timedatectl set-ntp true)", "ahead", ahead.Round(time.Minute))
	}
	options.Released = func(e *ledger.Event, res ledger.Result) { m.Event(e.Type, string(res.Status), "", -1) }
	books, err := ledger.OpenContext(ctx, options)
	if err != nil {
		return nil, err
	}
	if books.Created {
		log.Info("there was no ledger: an empty one was made", "path", books.Path())
	}
	if done := books.Migrated; done != nil {
		log.Info("the ledger was brought up to date", "from_schema", done.Schema, "events", done.Events, "payments", done.Payments,
			"decoded", done.Decoded, "bodies_gone", done.Gone, "old_file", done.Kept, "backup", done.Backup)
	}
	r.group.Closes("ledger", func(ctx context.Context) error {
		closed := make(chan error, 1)
		go func() { closed <- books.Close() }() // it waits for readers, and a reader can wait for a disk
		select {
		case err := <-closed:
			return err
		case <-ctx.Done():
			return errors.New("it takes too long")
		}
	})
	if at, ok := books.LastEvent(); ok {
		m.LastEvent(at)
	}
	m.WatchLedger(func() (metrics.Ledger, error) {
		s, err := books.Stats()
		return metrics.Ledger{SizeBytes: s.FileBytes, FreeBytes: s.FreeBytes, Events: s.Events, Flagged: s.Flagged, Payments: s.Payments,
			Quarantine: receiver.Quarantine(s)}, err
	})
	r.group.Runs("ledger's committer", books.Run)
	return books, nil
}

// isService reports whether a service manager runs this process and keeps sockets open for it: were
// it to end, it would be started again every second, and callers would wait in the sockets.
func (p *process) isService() bool { return systemd.Managed() && len(p.sockets.All()) > 0 }

// waitForLedger answers 503 on the passed sockets until the ledger can be opened. It returns nil if
// ctx ends first.
func (r *rooms) waitForLedger(ctx context.Context, failed error) error {
	w := &receiver.Waiting{Public: slices.Concat(r.sockets.Public, r.sockets.Challenges), Operator: r.sockets.Operator, Listen: r.config.OperatorListen,
		Path: ledger.Path(r.config.DataDir), Log: r.log, Open: func() (err error) {
			r.books, err = r.openLedger(ctx)
			return err
		}}
	w.Failed(failed)
	if err := systemd.Ready(w.Status()); err != nil { // else "systemctl start" would wait for as long as this lasts
		r.log.Warn("the service manager was not told that the ledger cannot be opened", "error", err)
	}
	told := receiver.NewGroup(r.log)
	told.Runs("word to the service manager", func(ctx context.Context) error {
		return systemd.RunNotifier(ctx, func(context.Context) error { return nil }, w.Status)
	})
	err := errors.Join(w.Run(ctx), told.Stop())
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tend starts what looks after the ledger while it serves.
func (r *rooms) tend() {
	g, c, books, log := r.group, r.config, r.books, r.log
	g.Runs("release of the quarantine", func(ctx context.Context) error {
		sum, err := books.ReleaseOnce(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.Error("what lies in quarantine was not decoded again as a whole; the next start tries again", "error", err)
		case sum != ledger.ReleaseResult{}:
			log.Info("what lies in quarantine was decoded again", "booked", sum.Booked, "left", sum.Left)
		}
		<-ctx.Done()
		return nil
	})
	g.Runs("retention", func(ctx context.Context) error { return books.RunRetention(ctx, c.Retention) })
	if c.BackupDir == "" {
		return
	}
	backups := ledger.Backups{
		Ledger: books, Dir: c.BackupDir, Every: c.BackupEvery, Keep: c.BackupKeep,
		Verify: func(ctx context.Context, path string) error { _, err := r.upkeep.Verify(ctx, path); return err },
		Tell: func(path string, took time.Duration, err error) {
			r.upkeep.BackedUp(err)
			if err != nil {
				r.metrics.BackupFailure()
				log.Error("no backup was made; trying again. Look at the folder TILLHOOK_BACKUP_DIR; if the copy is not sound, the ledger is probably not either (tillhook verify)",
					"folder", c.BackupDir, "error", err)
				return
			}
			r.metrics.BackupSuccess(time.Now())
			log.Info("backup made and verified", "file", path, "ms", took.Milliseconds())
		},
	}
	if at, ok := backups.Newest(); ok {
		r.metrics.BackupSuccess(at)
	}
	if n := backups.Others(); n > 0 {
		log.Info("the folder for backups holds copies of other ledgers, too, which are left alone", "folder", c.BackupDir, "copies", n)
	}
	g.Runs("scheduled backups", backups.Run)
}

// line is how the receiver is doing, for the service manager.
func (r *rooms) line() string {
	if err := r.books.Health().Err; err != nil {
		return "FAULT: every event is answered 503: " + err.Error()
	}
	stats, err := r.books.Stats()
	if err != nil {
		return "FAULT: " + err.Error()
	}
	line := ledger.ModeName(r.config.Livemode) + " mode: " + ledger.Plural(stats.Events, "event")
	payments := uint64(0)
	for _, n := range stats.Payments {
		payments += n
	}
	line += ", " + ledger.Plural(payments, "payment")
	if at, ok := r.books.LastEvent(); ok {
		line += ", last event " + at.UTC().Format("2006-01-02 15:04:05 UTC")
	} else {
		line += ", none came yet"
	}
	if r.certificates != nil {
		if problem := r.certificates.Problem(); problem != "" {
			line += ". " + problem
		}
	}
	return line
}

// open opens the operator's doors and then the public one, so that stopping closes that one first.
// What the operator's doors show is made before any of them is open.
func (r *rooms) open(ctx context.Context) (doors cli.Doors, err error) {
	c := r.config
	certificates := r.newCertificates()
	private := operator.New(operator.Options{Ledger: r.books, Metrics: r.metrics.Handler(), Listen: c.OperatorListen, Log: r.log,
		Stopping: ctx, Verify: r.upkeep.Verify, NotServing: r.phase.NotServing, Findings: r.findings, Board: &health.Board{}, Comparer: r.comparer(), Public: r})
	r.verifier = stripe.NewVerifier(c.WebhookSecrets, c.Tolerance)
	r.public, err = receiver.New(receiver.Options{
		Path: c.WebhookPath, Livemode: c.Livemode, MaxBody: c.MaxBody, Ledger: r.books, Metrics: r.metrics, Log: r.log,
		Verifier: r.verifier, Proxies: c.TrustedProxies,
	})
	if err != nil {
		return doors, err
	}
	if err := r.allow(c); err != nil {
		return doors, err
	}
	if doors.Socket, err = r.openSocket(private); err != nil {
		return doors, err
	}
	if c.OperatorListen != "" {
		r.port = &server.Port{Address: c.OperatorListen, Handler: server.Private(private.TCP()), Every: portRetry, Advice: portAdvice, Log: r.log}
		doors.Operator = r.port.Open()
		r.group.Runs("operator's port", r.port.Run)
	}
	if every := c.ReconcileEvery; every > 0 && r.reconciler != nil {
		r.group.Runs("comparison with Stripe", func(ctx context.Context) error { return r.reconciler.Run(ctx, every) })
	}
	r.certify(certificates)
	secure := false
	listeners := r.sockets.Public
	if len(listeners) == 0 {
		l, err := server.Listen(c.Listen)
		if err != nil {
			return doors, fmt.Errorf("open the public door (TILLHOOK_LISTEN): %w", err)
		}
		listeners = []net.Listener{l}
	} else if listeners[0].Addr().String() != c.Listen {
		r.log.Info("the public door is the service manager's socket; TILLHOOK_LISTEN does not count", "address", listeners[0].Addr().String())
	}
	for _, l := range listeners {
		door := server.New(l, r.public, r.log)
		if r.certificates != nil {
			door.UseTLS(r.certificates.Config())
			secure = true
		}
		r.group.Serves("public door", door)
	}
	doors.Public = webhookURL(listeners[0].Addr(), secure, c.WebhookPath)
	r.webhooks.Store(&doors.Public)
	return doors, nil
}

// webhookURL is where senders post; at a unix socket as nginx's proxy_pass writes it.
func webhookURL(door net.Addr, secure bool, path string) string {
	scheme, at := "http://", door.String()
	if secure {
		scheme = "https://"
	}
	if door.Network() == "unix" {
		at = "unix:" + at + ":"
	}
	return scheme + at + path
}

// comparer compares with Stripe for whoever asks; nil where there is no API key.
func (r *rooms) comparer() operator.Comparer {
	c := r.config
	if c.SecretKey == "" {
		r.log.Info("there is no STRIPE_SECRET_KEY: the ledger is not compared with Stripe's list of events, and what Stripe cannot deliver stays missing")
		return nil
	}
	r.api = stripe.NewAPI(c.SecretKey, c.StripeAPIBase, versionName())
	r.api.Failed = r.metrics.APIError
	r.reconciler = reconcile.New(reconcile.Options{API: r.api, Ledger: r.books, Metrics: r.metrics, Log: r.log, Livemode: c.Livemode, URL: c.Endpoint()})
	return comparer{r.reconciler}
}

// Probe gives out what a probe of the public door needs.
func (r *rooms) Probe() string { return r.public.Probe() }

// Status tells how the public door has fared.
func (r *rooms) Status() operator.DoorStatus {
	c, d := r.config, r.public.Status()
	s := operator.DoorStatus{Version: versionName(), Mode: ledger.ModeName(c.Livemode), Started: d.Started.Unix(), Endpoint: ledger.OrNull(c.Endpoint()),
		Verified: d.Verified, Refused: []operator.DoorRefusals{}}
	if at := r.webhooks.Load(); at != nil {
		s.Webhooks = *at
	}
	if at, ok := r.books.LastEvent(); ok {
		s.LastEvent = ledger.OrNullTime(at.Unix())
	}
	for _, f := range d.Refused {
		s.Refused = append(s.Refused, operator.DoorRefusals{Code: f.Code, Count: f.Count, Last: f.Last.Unix(), Cause: ledger.OrNull(f.Cause)})
	}
	for i, use := range d.Secrets {
		secret := operator.DoorSecret{Position: i + 1, Since: use.Since.Unix()}
		if !use.Last.IsZero() {
			secret.LastUsed = ledger.OrNullTime(use.Last.Unix())
		}
		s.Secrets = append(s.Secrets, secret)
	}
	return s
}

type comparer struct{ *reconcile.Reconciler }

func (c comparer) Reconcile(ctx context.Context, since time.Duration, dryRun bool) (any, error) {
	return c.Round(ctx, reconcile.Request{Since: since, DryRun: dryRun})
}

func (c comparer) Progress() any { return c.Reconciler.Progress() }

// openSocket opens the operator's unix socket, or takes the one that the service manager opened.
func (r *rooms) openSocket(private *operator.Operator) (path string, err error) {
	if len(r.sockets.Operator) == 0 {
		l, err := server.ListenUnix(r.config.OperatorSocket)
		if err != nil {
			return "", fmt.Errorf("open the operator's socket: %w", err)
		}
		r.group.Serves("operator's socket", server.New(l, server.Private(private.Socket()), r.log))
		return r.config.OperatorSocket, nil
	}
	for _, l := range r.sockets.Operator {
		handler := private.TCP()
		if l.Addr().Network() == "unix" {
			handler = private.Socket()
		}
		r.group.Serves("operator's socket", server.New(l, server.Private(handler), r.log))
	}
	return r.sockets.Operator[0].Addr().String(), nil
}

// newCertificates makes the certificates of the public door, and starts nothing.
func (r *rooms) newCertificates() *server.Certificates {
	c := &r.config.TLS
	certificates := server.NewCertificates(r.log, r.metrics.CertificateExpiry)
	if c.On() {
		r.certificates = certificates
	}
	switch {
	case c.Certificate != nil:
		certificates.Use(c.Certificate)
	case c.On():
		certificates.Obtain(server.ACME{Domains: c.Domains, Directory: c.Directory, Roots: c.Roots,
			Dir: filepath.Join(r.config.DataDir, "acme"), Explain: stripe.Plainly})
	}
	return certificates
}

// certify keeps the certificates of the public door up to date, if it speaks TLS, and answers the
// challenges for them.
func (r *rooms) certify(certificates *server.Certificates) {
	c := &r.config.TLS
	if c.Certificate != nil {
		r.group.Runs("certificate's files", func(ctx context.Context) error {
			return certificates.Follow(ctx, []string{c.CertFile, c.KeyFile}, func() (*tls.Certificate, error) { return config.LoadPair(c.CertFile, c.KeyFile) })
		})
	}
	for _, l := range r.sockets.Challenges {
		if len(c.Domains) == 0 {
			r.log.Warn("the service manager passed a socket for ACME's challenges, and TILLHOOK_TLS_DOMAIN is not set: it answers 404", "address", l.Addr().String())
		}
		r.group.Serves("door for challenges", server.New(l, certificates.Challenges(), r.log))
	}
	if len(c.Domains) > 0 { // once challenges are answered
		r.group.Runs("certificates", certificates.Run)
	}
}

// reload reads again what configuration says by files, and has it count; or, if any of it is wrong, goes on with the old.
func (r *rooms) reload() {
	if err := systemd.Reloading(); err != nil {
		r.log.Warn("the service manager was not told of a reload", "error", err)
	}
	r.notReloaded.Store(nil)
	if err := r.readAgain(); err != nil {
		r.log.Error("not reloaded: the configuration stays as it is", "error", err)
		r.notReloaded.Store(&err)
	}
	if err := systemd.Ready(r.line()); err != nil {
		r.log.Warn("the service manager was not told that a reload has ended", "error", err)
	}
}

func (r *rooms) readAgain() error {
	c, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	if c.Livemode != r.config.Livemode {
		return fmt.Errorf("the API key is now of %s mode, and a ledger is of one mode", ledger.ModeName(c.Livemode))
	}
	if err := c.Replaces(r.files); err != nil {
		return err
	}
	if err := r.allow(c); err != nil {
		return err
	}
	r.files = c
	for _, warning := range c.Warnings {
		r.log.Warn(warning)
	}
	if c.WebhookSecretFrom == config.FromFile {
		r.verifier.Replace(c.WebhookSecrets)
	}
	if c.SecretKeyFrom == config.FromFile && r.api != nil {
		r.api.SetKey(c.SecretKey)
	}
	if c.TLS.Certificate != nil {
		r.certificates.Use(c.TLS.Certificate)
	}
	r.log.Info("reloaded what files say; what the environment and credentials say needs a restart", "secrets", len(c.WebhookSecrets),
		"signing_secrets", c.WebhookSecretFrom.Reread(), "api_key", c.SecretKeyFrom.Reread())
	return nil
}

// allow has the public door take deliveries from those addresses that configuration names.
func (r *rooms) allow(c *config.Config) error {
	if c.StripeIPs == "off" {
		return nil
	}
	list, asOf, err := stripe.Addresses(c.StripeIPs)
	if err != nil {
		return config.Faults{{Name: "TILLHOOK_ALLOW_STRIPE_IPS", Problem: "names a file that is of no use (" + err.Error() + ")",
			Mend: "make it a copy of https://stripe.com/files/ips/ips_webhooks.txt"}}
	}
	r.public.Allow(list)
	r.log.Info("deliveries are taken from Stripe's addresses alone", "addresses", len(list), "as_of", asOf)
	return nil
}

// findings returns the state of everything but the ledger.
func (r *rooms) findings() []health.Finding {
	list := slices.Concat(r.upkeep.Findings(), r.public.Findings(), r.lines.Findings())
	if r.port != nil && r.port.Problem() != "" {
		list = append(list, health.Finding{Code: health.OperatorPort, Severity: health.Warn, Next: portAdvice,
			Message: fmt.Sprintf("The port for metrics and health cannot be opened: %s.", r.port.Problem())})
	}
	if r.reconciler != nil {
		list = append(list, r.reconciler.Findings()...)
	}
	if why := r.notReloaded.Load(); why != nil {
		list = append(list, health.Finding{Code: health.Reload, Severity: health.Warn,
			Message: fmt.Sprintf("The last reload was refused, and the configuration before it is in use: %v", *why),
			Next:    "correct it and reload again: systemctl reload tillhook, or SIGHUP"})
	}
	if r.certificates != nil {
		f := health.Finding{Code: health.Certificate, Severity: health.OK, Message: "The certificate of the webhook listener is valid and not due for renewal."}
		if problem := r.certificates.Problem(); problem != "" {
			f.Severity, f.Message, f.Next = health.Warn, problem, "see the log; Stripe delivers nothing to an endpoint without a valid certificate"
		}
		list = append(list, f)
	}
	return list
}
