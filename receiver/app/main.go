package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/cli"
	"tillhook/receiver/config"
	"tillhook/receiver/server"
	"tillhook/systemd"
)

// process is the program while it runs a command.
type process struct {
	version string
	sockets *systemd.Listeners
	stderr  io.Writer
	journal bool                // stderr is the journal
	running atomic.Pointer[App] // nil while no receiver runs
}

// Main runs the command line of this process and returns its exit status. Samples are the bodies of
// events for commands that send or show some. The units of the installed service are below root.
func Main(version string, samples fs.FS, root string) int {
	tuneCollector()
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		signaled := cli.Signaled{Signal: (<-signals).(syscall.Signal)}
		stop(signaled)
		// A second signal ends the process at once, unless it arrives together with the first.
		time.AfterFunc(time.Second, func() { signal.Stop(signals) })
		// Stopping takes 10 s at most. Something else hangs then, such as writing an error to a
		// pipe that is not read.
		time.AfterFunc(12*time.Second, func() {
			time.AfterFunc(time.Second, func() { os.Exit(1) }) // if even this cannot be written
			fmt.Fprintf(os.Stderr, "tillhook: %v, but it hangs, probably in the disk; no longer waiting\n", signaled)
			os.Exit(1)
		})
	}()
	signal.Ignore(syscall.SIGPIPE) // "| head" is then an error of writing and does not end the process at any moment
	args := os.Args[1:]
	p := &process{version: version, stderr: os.Stderr}
	if p.journal = systemd.ToJournal(os.Stderr) && (len(args) == 0 || args[0] == "serve"); p.journal {
		p.stderr = systemd.JournalErrors(os.Stderr)
	}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		go p.handleHangups(ctx, hangups, func() { stop(cli.Signaled{Signal: syscall.SIGHUP}) })
	}
	p.sockets = systemd.NewListeners(systemd.Sockets())
	program := &cli.Program{Version: version, Samples: samples, Root: root, Serve: p.serve, Refused: p.reject,
		Ledger:  func(c *config.Config) ledger.Options { return LedgerOptions(c) },
		Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: p.stderr}
	return program.Run(ctx, args)
}

// handleHangups reloads the receiver for each SIGHUP, or stops any other command.
func (p *process) handleHangups(ctx context.Context, hangups <-chan os.Signal, stop func()) {
	for range hangups {
		if a := p.running.Load(); a != nil {
			a.Reload(ctx)
		} else {
			stop()
		}
	}
}

// serve runs a receiver until ctx ends.
func (p *process) serve(ctx context.Context, c *config.Config, log io.Writer, ready func(cli.Addresses)) error {
	a, err := New(Options{Config: c, Version: p.version, Log: log, Journal: p.journal, Sockets: p.sockets})
	if err != nil {
		return err
	}
	p.running.Store(a)
	defer p.running.Store(nil)
	return a.Run(ctx, ready)
}

// reject reports to the service manager, and to the callers that wait in its sockets, that the
// receiver cannot start with its configuration.
func (p *process) reject(ctx context.Context, fault error) {
	log := slog.New(slog.NewTextHandler(p.stderr, nil))
	all := p.sockets.All()
	waiting, report := server.CallersWait(all), systemd.Status
	if waiting { // a caller made systemd start this process
		report = systemd.Failing
	}
	if err := report("Not configured: " + fault.Error()); err != nil {
		log.Warn("could not notify the service manager of the fault", "error", err)
	}
	if !waiting {
		return
	}
	plain, secure, over := all, []net.Listener(nil), p.publicTLS(log)
	if over != nil {
		plain, secure = all[len(p.sockets.Public):], p.sockets.Public // All begins with them
	}
	if err := server.RejectAll(ctx, plain, secure, over, "The receiver is not configured; its log says what is wrong.",
		log); err != nil {
		log.Warn("some waiting callers got no answer that the receiver is not configured", "error", err)
	}
}

// publicTLS returns what the webhook listener of a receiver with a faulty configuration needs for
// TLS, or nil without TLS.
func (p *process) publicTLS(log *slog.Logger) *tls.Config {
	e, err := config.Read(os.Environ())
	if err != nil {
		return nil
	}
	settings := e.WebhookTLS()
	if !settings.On() {
		return nil
	}
	return newCertificates(&settings, e.DataDir(), log, func(time.Time) {}).Config()
}
