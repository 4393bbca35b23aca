package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/systemd"

	"github.com/spf13/cobra"
)

// restore is the state of one restore.
type restore struct {
	*Program
	file     string
	yes      bool
	settings *config.Environment
	dir      string
	units    []string    // of the service that keeps the ledger
	running  []string    // of them
	livemode bool        // of the backup
	before   ledgerState // of the ledger that is replaced
}

// ledgerState is how many events a ledger holds, and up to when.
type ledgerState struct {
	known  bool
	events uint64
	last   time.Time // receive time of the last event; zero if none exists
}

func (s ledgerState) String() string {
	switch {
	case !s.known:
		return "its number of events is unknown"
	case s.last.IsZero():
		return wording.Plural(s.events, "event")
	}
	return wording.Plural(s.events, "event") + ", the last received " + s.last.UTC().Format("2006-01-02 15:04:05 UTC")
}

func (p *Program) restoreCommand() *cobra.Command {
	r := &restore{Program: p}
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Replace the ledger by a backup",
		Long: `Replace the ledger by a backup, which is verified first. The units of the service are stopped during
that, and those that ran are started again; a receiver that is not a service must be stopped first.
The old ledger is kept beside the new one under another name.

Events that arrived after the backup are missing then: Stripe delivers again only what was not
acknowledged. Fetch them with tillhook reconcile.`,
		Example: `  tillhook restore /var/backups/till.db`,
		Args:    oneFile,
		RunE: func(c *cobra.Command, args []string) (err error) {
			r.file = args[0]
			return r.run(c.Context())
		},
	}
	c.Flags().BoolVar(&r.yes, "yes", false, "do not ask for confirmation")
	return c
}

func (r *restore) run(ctx context.Context) (err error) {
	if r.settings, err = r.Program.settings(); err != nil {
		return err
	}
	r.dir = r.settings.DataDir()
	if err := ledger.CheckRestore(r.dir, r.file); err != nil { // before anything is stopped for it
		return fmt.Errorf("%w; nothing was changed", err)
	}
	copied, err := r.verifyBackup(ctx)
	if err != nil {
		return err
	}
	if err := r.findRunningUnits(ctx); err != nil {
		return err
	}
	what := fmt.Sprintf("Replace %s with %s (%s)?", ledger.Path(r.dir), r.file, copied)
	if len(r.running) > 0 {
		what += " This stops " + strings.Join(r.units, ", ") + " in the meantime."
	}
	if err := r.confirm(r.yes, "%s", what); err != nil {
		return err
	}
	if len(r.running) > 0 {
		if err := systemd.ChangeUnits(ctx, "stop", r.units...); err != nil {
			return errors.Join(err, r.start(ctx))
		}
		defer func() { err = errors.Join(err, r.start(ctx)) }()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.sameMode(); err != nil { // only now it cannot change any more
		return err
	}
	r.before = readState(r.dir)
	done, err := ledger.RestoreFrom(ctx, r.dir, r.file)
	if errors.Is(err, ledger.ErrLocked) {
		return r.lockedError(err)
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return deniedError(r.dir, err)
	}
	if err != nil {
		return err
	}
	return r.report(done)
}

// verifyBackup verifies the backup, and checks that it has the mode of the ledger that it replaces.
func (r *restore) verifyBackup(ctx context.Context) (*ledgerState, error) {
	end := r.progress(ctx, r.verifying([]string{r.file}), nil)
	proof, err := Verify(ctx, r.file)
	end()
	if err != nil && (proof == nil || !proof.Older) {
		return nil, fmt.Errorf("%w; nothing was changed", err)
	}
	header, err := ledger.ReadHeader(r.file)
	if err != nil {
		return nil, err
	}
	r.livemode = header.Livemode
	if err := r.sameMode(); err != nil {
		return nil, err
	}
	if proof.Older {
		fmt.Fprintf(r.Stderr, "%s was made by an older version: its pages are intact, and the receiver upgrades it when it starts.\n", r.file)
		return &ledgerState{}, nil
	}
	return &ledgerState{known: true, events: proof.Events}, nil
}

// sameMode returns an error if the backup has another mode than the present ledger or, without one,
// than the settings.
func (r *restore) sameMode() error {
	path := ledger.Path(r.dir)
	if present, err := ledger.ReadHeader(path); err == nil {
		if present.Livemode != r.livemode {
			return fmt.Errorf("%s holds %s mode payments, and the ledger %s those of %s mode: set TILLHOOK_DATA_DIR to the folder of the other ledger, or name its instance with --instance",
				r.file, ledger.ModeName(r.livemode), path, ledger.ModeName(present.Livemode))
		}
		return nil
	}
	if cfg, err := r.settings.Receiver(); err == nil && cfg.Livemode != r.livemode {
		return fmt.Errorf("%s holds %s mode payments, and the settings say %s: no receiver could start with it",
			r.file, ledger.ModeName(r.livemode), ledger.ModeName(cfg.Livemode))
	}
	return nil
}

// findRunningUnits finds which units of the service that keeps the ledger are running.
func (r *restore) findRunningUnits(ctx context.Context) error {
	keeper := r.settings.Keeper()
	if keeper == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(r.machineRoot(), "run/systemd/system")); err != nil { // sd_booted(3)
		return nil
	}
	r.units = keeper.Units()
	states, err := systemd.UnitStates(ctx, r.units...)
	if err != nil {
		return fmt.Errorf("find out whether the service runs: %w", err)
	}
	for _, unit := range r.units {
		switch states[unit] {
		case "active", "activating", "reloading", "refreshing", "deactivating":
			r.running = append(r.running, unit)
		}
	}
	if len(r.running) > 0 && os.Geteuid() != 0 {
		return fmt.Errorf("%s must be stopped for that: run this as root", strings.Join(r.running, ", "))
	}
	return nil
}

// start starts the units that ran before, even after a signal.
func (r *restore) start(ctx context.Context) error {
	if err := systemd.ChangeUnits(context.WithoutCancel(ctx), "start", r.running...); err != nil {
		return fmt.Errorf("start the units again: %w", err)
	}
	fmt.Fprintf(r.Stderr, "Started again: %s.\n", strings.Join(r.running, ", "))
	return nil
}

func (r *restore) lockedError(err error) error {
	who := ""
	if place, err := ledger.InspectDir(r.dir); err == nil && place.Holder != 0 {
		who = fmt.Sprintf(" (process %d)", place.Holder)
	}
	return fmt.Errorf("%w%s: stop the receiver first%s; nothing was changed", err, who, howToStop(r.settings))
}

// readState reads the state of a ledger that no receiver holds.
func readState(dir string) (s ledgerState) {
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		return s
	}
	defer l.Close() // it was only read
	stats, err := l.Stats()
	if err != nil {
		return s
	}
	s.known, s.events = true, stats.Events
	if at, ok := l.LastEvent(); ok {
		s.last = at
	}
	return s
}

// longestReconcile is for how many days Stripe lists events.
// https://docs.stripe.com/api/events/list
const longestReconcile = 30

func (r *restore) report(done *ledger.RestoreResult) error {
	now := readState(r.dir)
	lines := []string{fmt.Sprintf("Restored %s from %s: %s.", done.Path, r.file, now)}
	if done.Kept != "" {
		line := "The old ledger is now " + done.Kept + ": " + r.before.String() + "."
		if r.before.known && now.known && r.before.events > now.events {
			line += fmt.Sprintf(" %s of it %s missing in the new one.", wording.Plural(r.before.events-now.events, "event"), wording.Verb(r.before.events-now.events, "is", "are"))
		}
		lines = append(lines, line)
	}
	days := longestReconcile
	if !now.last.IsZero() {
		days = int(min(longestReconcile, 1+math.Ceil(time.Since(now.last).Hours()/24)))
	}
	command := "tillhook reconcile"
	if r.instance != "" {
		command += " --instance " + quote(r.instance)
	}
	lines = append(lines, "Stripe delivers again only what was not acknowledged. With an API key, fetch the events after the backup, once the receiver runs:",
		fmt.Sprintf("  %s --since %dd", command, days))
	if time.Since(now.last) > longestReconcile*24*time.Hour && !now.last.IsZero() {
		lines = append(lines, fmt.Sprintf("Stripe lists the events of %d days; older ones are only in the old ledger.", longestReconcile))
	}
	_, err := fmt.Fprintln(r.Stdout, strings.Join(lines, "\n"))
	return err
}
