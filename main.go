// Command tillhook receives Stripe's webhooks on one's own machine: verified, written down exactly
// once, and folded into a ledger of payments that is right whatever order they came in.
//
// This file introduces the rooms to each other. Each is built in one place, what runs runs in one
// group, and what was opened is closed in the reverse order, by name.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver"
	"tillhook/receiver/cli"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
	"tillhook/systemd"
)

//go:embed testdata/events/*.json
var samples embed.FS

// version is set by the linker for a release: -ldflags "-X main.version=v1.2.3".
var version string

// Stopping is bounded as a whole; the doors get less of it, so that the ledger always has time of its own.
const (
	stopTime  = 9 * time.Second
	doorsTime = 7 * time.Second
)

// heapGrowth is how much the heap may grow before it is collected, in percent of what is in use: that is a few
// megabytes, and collecting at twice as much, as Go does, would take a tenth of the time under load. GOMEMLIMIT bounds it.
const heapGrowth = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	os.Exit(run())
}

// run is main with an exit status, for tests that are this program.
func run() int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// A second signal ends the process at once, unless it comes so soon that the first is meant.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	signal.Ignore(syscall.SIGPIPE) // "| head" is an error of writing, not the end in the middle of something
	events, err := fs.Sub(samples, "testdata/events")
	if err != nil {
		fmt.Fprintln(os.Stderr, "tillhook:", err)
		return 1
	}
	program := &cli.Program{Version: versionName(), Samples: events, Serve: serve,
		Ledger:  func(c *config.Config) ledger.Options { return ledgerOptions(c) },
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	return program.Run(ctx, os.Args[1:])
}

// versionName is the release, or what the build knows of its source.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// serve runs a receiver until ctx ends, then stops it: doors first, the ledger last.
func serve(ctx context.Context, c *config.Config, logTo io.Writer, ready func(cli.Doors)) (err error) {
	lines := receiver.NewLines(logTo)
	log := newLog(c, lines)
	// A core would hold bodies and secrets. setrlimit(2)
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		log.Warn("cores cannot be switched off: should this process crash, one may be written that holds secrets", "error", err)
	}
	for _, warning := range c.Warnings {
		log.Warn(warning)
	}
	defer logged(lines)()
	g := &group{log: log, ended: make(chan error, 8)}
	defer func() {
		begun := time.Now()
		if err = errors.Join(err, g.stop()); err == nil {
			log.Info("stopped", "ms", time.Since(begun).Milliseconds())
		}
	}()

	m := newMetrics()
	options := ledgerOptions(c)
	options.Observe = observer(m, log)
	options.Expired = func(bodies int) {
		m.Expired(bodies)
		log.Info("bodies older than TILLHOOK_RETENTION were deleted", "bodies", bodies)
	}
	options.Released = func(e *ledger.Event, res ledger.Result) { m.Event(e.Type, string(res.Status), "", -1) }
	books, err := ledger.Open(options)
	if err != nil {
		return err
	}
	if done := books.Migrated; done != nil {
		log.Info("the ledger was brought up to date", "from_schema", done.Schema, "events", done.Events, "payments", done.Payments,
			"decoded", done.Decoded, "bodies_gone", done.Gone, "old_file", done.Kept, "backup", done.Backup)
	}
	g.closes("ledger", func(ctx context.Context) error {
		closed := make(chan error, 1)
		go func() { closed <- books.Close() }() // it waits for readers, and a reader can wait for a disk
		select {
		case err := <-closed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("it takes too long: %w", ctx.Err())
		}
	})
	if at, ok := books.LastEvent(); ok {
		m.Seen(at)
	}
	m.WatchLedger(func() (metrics.Ledger, error) {
		s, err := books.Stats()
		return metrics.Ledger{SizeBytes: s.FileBytes, FreeBytes: s.FreeBytes, Events: s.Events, Conflicts: s.Conflicts, Payments: s.Payments}, err
	})
	g.runs("ledger's committer", books.Run)
	watch := &watch{}
	tend(g, c, books, m, watch, log)

	doors, err := openDoors(ctx, g, c, books, m, watch, log)
	if err != nil {
		return err
	}
	log.Info("ready", "version", versionName(), "mode", ledger.ModeName(c.Livemode), "webhooks", "http://"+doors.Public+c.WebhookPath,
		"operator", doors.Operator, "socket", doors.Socket, "ledger", books.Path(), "secrets", len(c.WebhookSecrets))
	if err := systemd.Ready("Receiving " + ledger.ModeName(c.Livemode) + " mode events on " + doors.Public); err != nil {
		log.Warn("the service manager was not told that the receiver is ready", "error", err)
	}
	ready(doors)

	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err = <-g.ended:
		log.Error("stopping", "error", err)
	}
	if notifyErr := systemd.Stopping(); notifyErr != nil {
		log.Warn("the service manager was not told that the receiver is stopping", "error", notifyErr)
	}
	return err
}

// logTime is what the last lines of a log get, whatever was slow before.
const logTime = time.Second

// logged has lines written together until the returned function is called, which sees to the last ones.
func logged(lines *receiver.Lines) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- lines.Run(ctx) }()
	return func() {
		cancel()
		select {
		case <-ended: // it has no error
		case <-time.After(logTime):
		}
	}
}

// ledgerOptions are those of serve and of whatever opens its ledger in its place.
func ledgerOptions(c *config.Config) ledger.Options {
	return ledger.Options{
		Dir: c.DataDir, Livemode: c.Livemode, Decoder: stripe.Decoder, Retention: c.Retention, BackupDir: c.BackupDir,
		Decode: func(raw []byte) *ledger.Event { return stripe.Decode(raw, c.Livemode) },
	}
}

// tend starts what looks after the ledger while it serves.
func tend(g *group, c *config.Config, books *ledger.Ledger, m *metrics.Metrics, watch *watch, log *slog.Logger) {
	g.runs("release of the quarantine", func(ctx context.Context) error {
		sum, err := books.ReleaseOnce(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.Error("what lies in quarantine was not decoded again as a whole; the next start tries again", "error", err)
		case sum != ledger.Released{}:
			log.Info("what lies in quarantine was decoded again", "booked", sum.Booked, "left", sum.Left)
		}
		<-ctx.Done()
		return nil
	})
	g.runs("dictionaries for bodies", books.LearnBodies)
	g.runs("retention", func(ctx context.Context) error { return books.KeepBodies(ctx, c.Retention) })
	if c.BackupDir == "" {
		return
	}
	backups := ledger.Backups{
		Ledger: books, Dir: c.BackupDir, Every: c.BackupEvery, Keep: c.BackupKeep,
		Verify: func(ctx context.Context, path string) error { _, err := watch.verify(ctx, path); return err },
		Tell: func(path string, took time.Duration, err error) {
			watch.backedUp(err)
			if err != nil {
				m.NoBackup()
				log.Error("no backup was made; trying again. Look at the folder TILLHOOK_BACKUP_DIR; if the copy is not sound, the ledger is probably not either (tillhook verify)",
					"folder", c.BackupDir, "error", err)
				return
			}
			m.Backup(time.Now())
			log.Info("backup made and verified", "file", path, "ms", took.Milliseconds())
		},
	}
	if at, ok := backups.Newest(); ok {
		m.Backup(at)
	}
	g.runs("scheduled backups", backups.Run)
}

func newLog(c *config.Config, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// observer measures commits, and logs when they begin to fail and when they work again. The ledger's
// committer is its only caller.
func observer(m *metrics.Metrics, log *slog.Logger) func(ledger.Commit) {
	failing := false
	return func(c ledger.Commit) {
		m.Commit(c.Duration, c.Events)
		if c.Err != nil && !failing {
			log.Error("the ledger cannot be written: every event is answered 503 until it can; look at the disk (space, mount, dmesg)", "error", c.Err)
		}
		if c.Err == nil && failing {
			log.Info("the ledger can be written again")
		}
		failing = c.Err != nil
	}
}

// newMetrics tells the metrics the words that the other rooms use.
func newMetrics() *metrics.Metrics {
	outcomes := texts(ledger.Outcomes[:])
	return metrics.New(metrics.Names{
		Types: stripe.Types[:], Outcomes: outcomes,
		Answers: append(slices.Clone(outcomes), string(ledger.AlreadyProcessed), receiver.Rejected, receiver.Failed),
		Reasons: texts(ledger.Reasons[:]), Failures: texts(stripe.Codes[:]), Version: versionName(),
	})
}

func texts[T ~string](words []T) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return list
}

// openDoors opens the operator's doors and then the public one, so that stopping closes that one first.
func openDoors(ctx context.Context, g *group, c *config.Config, books *ledger.Ledger, m *metrics.Metrics, watch *watch, log *slog.Logger) (doors cli.Doors, err error) {
	private := operator.New(operator.Options{Ledger: books, Metrics: m.Handler(), Names: ownNames(c.OperatorListen), Log: log,
		Stopping: ctx, Verify: watch.verify, Watch: watch.sentences})
	public, err := receiver.New(receiver.Options{
		Path: c.WebhookPath, Livemode: c.Livemode, MaxBody: c.MaxBody, Ledger: books, Metrics: m, Log: log,
		Verifier: stripe.NewVerifier(c.WebhookSecrets, c.Tolerance),
	})
	if err != nil {
		return doors, err
	}

	socket, err := receiver.ListenUnix(c.OperatorSocket)
	if err != nil {
		return doors, fmt.Errorf("open the operator's socket: %w", err)
	}
	doors.Socket = c.OperatorSocket
	g.serves("operator's socket", receiver.NewDoor(socket, private.Socket(), log))
	if c.OperatorListen != "" {
		l, err := receiver.Listen(c.OperatorListen)
		if err != nil {
			return doors, fmt.Errorf("open the operator's door (TILLHOOK_OPERATOR_LISTEN): %w", err)
		}
		doors.Operator = l.Addr().String()
		g.serves("operator's door", receiver.NewDoor(l, private.TCP(), log))
	}
	l, err := receiver.Listen(c.Listen)
	if err != nil {
		return doors, fmt.Errorf("open the public door (TILLHOOK_LISTEN): %w", err)
	}
	doors.Public = l.Addr().String()
	g.serves("public door", receiver.NewDoor(l, public, log))
	return doors, nil
}

// ownNames are the host names by which the operator's door may be called: the one it was told to listen on.
func ownNames(listen string) []string {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return nil
	}
	return []string{host}
}

// watch remembers what went wrong with the ledger's upkeep, for the summary.
type watch struct {
	mu      sync.Mutex // guards both
	backup  error      // of the last try; nil if it was made, or none was
	unsound error      // what the last proof found
}

// verify proves a copy of the ledger.
func (w *watch) verify(ctx context.Context, path string) (*ledger.Proof, error) {
	proof, err := cli.Verify(ctx, path)
	if proof != nil {
		w.mu.Lock()
		w.unsound = err
		w.mu.Unlock()
	}
	return proof, err
}

func (w *watch) backedUp(err error) {
	w.mu.Lock()
	w.backup = err
	w.mu.Unlock()
}

func (w *watch) sentences() []operator.Sentence {
	w.mu.Lock()
	defer w.mu.Unlock()
	backups := operator.Sentence{Name: "backups", Verdict: "ok", Sentence: "No scheduled backup has failed."}
	if w.backup != nil {
		backups = operator.Sentence{Name: "backups", Verdict: "warn", Sentence: fmt.Sprintf("The last scheduled backup failed: %v", w.backup),
			Next: "look at the folder TILLHOOK_BACKUP_DIR"}
	}
	proof := operator.Sentence{Name: "proof", Verdict: "ok", Sentence: "No copy of the ledger was found unsound."}
	if w.unsound != nil {
		proof = operator.Sentence{Name: "proof", Verdict: "fail", Sentence: fmt.Sprintf("The last copy of the ledger that was looked through had faults, so the ledger probably has them: %v", w.unsound),
			Next: "stop the receiver, keep the file, and run tillhook rebuild or restore a copy that verifies"}
	}
	return []operator.Sentence{backups, proof}
}

// group runs what runs, and stops it in the reverse order of starting.
type group struct {
	log   *slog.Logger
	ended chan error // what ended without being told to
	steps []step
}

type step struct {
	name string
	stop func(ctx context.Context) error
	door bool
}

// closes registers what is to be done at the end.
func (g *group) closes(name string, stop func(ctx context.Context) error) {
	g.steps = append(g.steps, step{name: name, stop: stop})
}

// runs starts what goes on until its context ends, and waits for it at the end.
func (g *group) runs(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			g.ended <- fmt.Errorf("the %s ended: %w", name, err)
			err = nil // told once is enough
		}
		done <- err
	}()
	g.closes(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-stopCtx.Done():
			return fmt.Errorf("it takes too long: %w", stopCtx.Err())
		}
	})
}

// serves starts a door, and shuts it at the end.
func (g *group) serves(name string, door *receiver.Door) {
	go func() {
		if err := door.Serve(); err != nil {
			g.ended <- fmt.Errorf("the %s ended: %w", name, err)
		}
	}()
	g.steps = append(g.steps, step{name: name, stop: door.Shutdown, door: true})
}

// stop undoes every step, the last first, whatever becomes of the others.
func (g *group) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	doors, cancelDoors := context.WithTimeout(ctx, doorsTime)
	defer cancelDoors()
	var errs []error
	for _, s := range slices.Backward(g.steps) {
		start := time.Now()
		bound := ctx
		if s.door {
			bound = doors
		}
		if err := s.stop(bound); err != nil {
			errs = append(errs, fmt.Errorf("stop the %s: %w", s.name, err))
		}
		g.log.Debug("stopped", "what", s.name, "ms", time.Since(start).Milliseconds())
	}
	for len(g.ended) > 0 { // what ended meanwhile
		errs = append(errs, <-g.ended)
	}
	return errors.Join(errs...)
}
