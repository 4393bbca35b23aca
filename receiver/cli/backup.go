package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/rebuild"
	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the ledger to a file while the receiver runs",
		Long: `Copy the ledger, as it is at one moment, to a new file. The file appears under its name once it is
complete and synced. It is a ledger itself: tillhook restore puts it back.`,
		Example: `  tillhook backup /var/backups/tillhook-$(date +%F).db
  tillhook verify /var/backups/tillhook-2026-11-23.db`,
		Args: oneFile,
		RunE: func(c *cobra.Command, args []string) (err error) {
			// Check the file name before the receiver makes a copy.
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s exists already: name another file, or move it away", args[0])
			}
			if folder, err := os.Stat(filepath.Dir(args[0])); err != nil || !folder.IsDir() {
				return fmt.Errorf("the folder %s does not exist: create it first", filepath.Dir(args[0]))
			}
			client, closeClient, err := p.client(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeClient()) }()
			var m terminal.Meter
			defer p.progress(c.Context(), "Copying the ledger", m.Status)()
			answer, err := client.Open(c.Context(), "/api/backup", nil)
			if err != nil {
				return err
			}
			m.Begin(answer)
			s, err := p.settings()
			if err != nil {
				return errors.Join(err, answer.Close())
			}
			err = ledger.Save(args[0], func(w io.Writer) error {
				_, err := io.Copy(ledger.KeepReserve(s.DataDir(), filepath.Dir(args[0]), w), &m)
				return err
			}, nil)
			if err := errors.Join(err, answer.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.Stdout, "Wrote %s: %d bytes.\n", args[0], m.Bytes())
			return err
		},
	}
}

func (p *Program) rebuildCommand() *cobra.Command {
	var decode bool
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Rebuild the ledger from its stored events (receiver stopped)",
		Long: `Compute all payments, totals and indexes again from the facts of the stored events, into a new,
compact file. The new file is checked before it replaces the ledger, and the old file is kept beside
it. The receiver must be stopped. No secret is needed; the mode is that of the ledger.

With --decode the facts are decoded again from the bodies that are still stored.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := p.settings()
			if err != nil {
				return err
			}
			cfg, err := s.Maintenance()
			if err != nil {
				return err
			}
			var written terminal.StatusText
			end := p.progress(c.Context(), "Rebuilding "+ledger.Path(cfg.DataDir), written.Status)
			done, err := p.rebuild(c.Context(), cfg, decode, func(rows, of uint64) {
				written.Set("%d of %d events%s", rows, of, map[bool]string{true: ", checking the new file"}[rows == of])
			})
			end()
			if errors.Is(err, ledger.ErrLocked) {
				return fmt.Errorf("%w: stop the receiver first%s", err, howToStop(s))
			}
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return deniedError(cfg.DataDir, err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(p.Stdout, "Rebuilt %s from %s: %s. It has %d bytes, the old one %d.\n", done.Path, wording.Plural(done.Events, "event"), wording.Plural(done.Payments, "payment"), done.NewBytes, done.OldBytes)
			if decode {
				fmt.Fprintf(p.Stdout, "Bodies decoded again: %d. No longer stored: %d. Not decodable: %d. The stored facts of the last two were kept. Released from quarantine: %d.\n",
					done.Decoded, done.Gone, done.Unusable, done.Released)
			}
			if done.Recreated > 0 {
				fmt.Fprintf(p.Stdout, "Damaged rows rebuilt from their bodies: %d. The receive times of those events are not known exactly.\n", done.Recreated)
			}
			if done.Expired > 0 {
				fmt.Fprintf(p.Stdout, "Bodies omitted because they are older than TILLHOOK_RETENTION: %d.\n", done.Expired)
			}
			_, err = fmt.Fprintf(p.Stdout, "The old file is %s. Delete it once you are satisfied: it still contains all event bodies.\n", done.Kept)
			return err
		},
	}
	c.Flags().BoolVar(&decode, "decode", false, "decode the stored bodies again")
	return c
}

// rebuild rebuilds the ledger in its own mode.
func (p *Program) rebuild(ctx context.Context, cfg *config.Config, decode bool, progress func(rows, of uint64)) (*rebuild.Result, error) {
	header, err := ledger.ReadHeader(ledger.Path(cfg.DataDir))
	if err != nil {
		return nil, err
	}
	cfg.Livemode = header.Livemode
	options := p.Ledger(cfg)
	options.Rebuilding = progress
	return ledger.Rebuild(ctx, options, decode)
}

// deniedError is the error of a command that replaces the ledger if this user may not.
func deniedError(dir string, err error) error {
	var fault *ledger.PathFault
	if errors.As(err, &fault) {
		return err
	}
	return fmt.Errorf("this user may not replace %s (%w): run this as root, or as its owner", ledger.Path(dir), fs.ErrPermission)
}

// howToStop returns how to stop the service that keeps the ledger, for the end of a sentence. Its
// sockets must be stopped too, because they would start it again.
func howToStop(s *config.Environment) string {
	if keeper := s.Keeper(); keeper != nil {
		return ": systemctl stop " + strings.Join(keeper.Units(), " ")
	}
	return ""
}
