package cli

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"tillhook/receiver/bench"

	"github.com/spf13/cobra"
)

func (p *Program) benchCommand() *cobra.Command {
	var dir string
	var events, rounds int
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the throughput and latency on this machine",
		Long: `Run a receiver on a temporary ledger and, alternating with it, a bare net/http handler that stores
nothing; send signed events to both and compare them. The client runs on the same machine. It takes
some minutes and leaves nothing behind. The folder should be on the disk that you want to measure.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program's own file: %w", err)
			}
			work, err := os.MkdirTemp(dir, "tillhook-bench-")
			if err != nil {
				return fmt.Errorf("create a folder for the benchmark: %w", err)
			}
			defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
			secret := "whsec_" + rand.Text()
			report, err := bench.Run(c.Context(), bench.Options{
				Subject: bench.Server{Command: func(address, dir string) *exec.Cmd { return p.subject(self, secret, address, dir) }},
				Bare: bench.Server{Command: func(address, _ string) *exec.Cmd {
					cmd := exec.Command(self, "bench", "bare", address)
					cmd.Env = p.Environ
					return cmd
				}},
				Secret: secret, Dir: work, Events: events, Rounds: rounds,
				Progress: func(what string) { fmt.Fprintf(p.Stderr, "%s\n", what) },
			})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(p.Stdout).Encode(report)
			}
			return printReport(p.Stdout, report)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "create the temporary ledgers in this `folder` (default: the system's folder for temporary files)")
	c.Flags().IntVar(&events, "events", 100_000, "send this `number` of events in each run")
	c.Flags().IntVar(&rounds, "rounds", 3, "run each server this `number` of times, in turn")
	c.Flags().BoolVar(&asJSON, "json", false, "print every round as JSON")
	c.AddCommand(&cobra.Command{
		Use:    "bare ADDRESS",
		Short:  "Serve the handler to compare with",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(c *cobra.Command, args []string) error { return bench.Bare(c.Context(), args[0]) },
	})
	return c
}

// subject returns a receiver with default settings that logs to a file, as a service logs to its
// journal.
func (p *Program) subject(self, secret, address, dir string) *exec.Cmd {
	cmd := exec.Command(self, "serve")
	cmd.Env = append([]string{
		"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_LISTEN=" + address, "TILLHOOK_OPERATOR_LISTEN=off",
		"TILLHOOK_DATA_DIR=" + filepath.Join(dir, "data"), "TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(dir, "operator.sock"),
	}, withoutSettings(p.Environ)...)
	if log, err := os.Create(filepath.Join(dir, "receiver.log")); err == nil {
		cmd.Stderr = log
	} else {
		cmd.Err = err // Start returns it
	}
	return cmd
}

func printReport(w io.Writer, r *bench.Report) error {
	fmt.Fprintf(w, "One page and its fdatasync take %.2f ms here.\n\n", r.SyncSeconds*1e3)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tconnections\tevents/s\tof bare\tp50 ms\tp99 ms\tof bare\tp99.9 ms\tserver CPU s/1000\tof bare\tbytes on disk\tof body\tRSS MB\t")
	for _, c := range r.Cases {
		line := func(name string, f bench.Figures, ratio func(v float64) string, disk string) {
			fmt.Fprintf(t, "%s\t%d\t%.0f\t%s\t%.2f\t%.2f\t%s\t%.2f\t%.4f\t%s\t%s\t%.0f\t\n", name, c.Connections, f.EventsPerSecond, ratio(c.Throughput),
				f.P50*1e3, f.P99*1e3, ratio(c.P99), f.P999*1e3, f.CPU, ratio(c.CPU), disk, float64(f.RSS)/(1<<20))
		}
		disk := "\t"
		if c.Subject.Disk > 0 {
			disk = fmt.Sprintf("%.0f\t%.2f", c.Subject.Disk, c.Subject.Disk/c.BodyBytes)
		}
		line(c.Name, c.Subject, func(v float64) string { return fmt.Sprintf("%.2f", v) }, disk)
		line("bare", c.Bare, func(float64) string { return "" }, "\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	f := &r.Flood
	_, err := fmt.Fprintf(w, "\nNew events on %d connections beside forged ones on %d: %.0f of %.0f a second, p99 %.2f ms of %.2f ms, ratio %.2f.\n",
		f.Honest, f.Forged, f.UnderFlood.EventsPerSecond, f.Undisturbed.EventsPerSecond, f.UnderFlood.P99*1e3, f.Undisturbed.P99*1e3, f.P99)
	return err
}

// withoutSettings returns an environment without the variables that configure a receiver.
func withoutSettings(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		for _, prefix := range []string{"STRIPE_", "TILLHOOK_", "CREDENTIALS_DIRECTORY=", "STATE_DIRECTORY=", "RUNTIME_DIRECTORY=", "NOTIFY_SOCKET="} {
			if strings.HasPrefix(v, prefix) {
				return true
			}
		}
		return false
	})
}
