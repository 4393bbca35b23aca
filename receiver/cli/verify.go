package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/wording"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Errors of a verification that found faults.
var (
	errUnsound          = errors.New("the copy is damaged: make another one")
	errLedgerUnreadable = errors.New("the ledger is damaged: stop the receiver, keep the file, and restore a copy that verifies (tillhook restore FILE)")
	errLedgerUnsound    = errors.New("the ledger is damaged: stop the receiver, keep the file, and restore a copy that verifies, or try tillhook rebuild")
)

func (p *Program) verifyCommand() *cobra.Command {
	var asJSON, here bool
	c := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Verify a backup or the ledger itself",
		Long: `Check a whole ledger: its pages, every checksum, sequences without gaps, every index against its
rows, each payment against its events, and the totals against their sums. Without a file it checks
the ledger itself; a running receiver makes a copy for that and goes on.

The exit status is 1 if there is any fault.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !here {
				return nil
			}
			return oneFile(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if here {
				return p.verifyHere(c.Context(), args[0])
			}
			end := p.progress(c.Context(), p.verifying(args), nil)
			proof, err := p.proof(c.Context(), args)
			end()
			if proof == nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(p.Stdout)
				enc.SetEscapeHTML(false)
				return errors.Join(enc.Encode(proof), err)
			}
			return errors.Join(p.showProof(proof), err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.Flags().BoolVar(&here, "here", false, "check the file in this process, which damage can crash")
	if err := c.Flags().MarkHidden("here"); err != nil {
		c.Long += "\n" + err.Error()
	}
	return c
}

// verifying names what is verified, with its size, for a line of progress. A ledger that this user
// cannot look at is named without its size.
func (p *Program) verifying(args []string) string {
	name, path := "the ledger", ""
	if len(args) == 1 {
		name, path = args[0], args[0]
	} else if s, err := p.settings(); err == nil {
		path = ledger.Path(s.DataDir())
	}
	text := "Verifying " + name
	if info, err := os.Stat(path); err == nil {
		text += fmt.Sprintf(" (%.1f MB)", float64(info.Size())/terminal.Mega)
	}
	return text
}

// proof verifies the file that is named, or the ledger.
func (p *Program) proof(ctx context.Context, args []string) (*check.Report, error) {
	if len(args) == 1 {
		return Verify(ctx, args[0])
	}
	proof, err := p.proofOfLedger(ctx)
	if errors.Is(err, errUnsound) {
		err = errLedgerUnsound
	}
	return proof, err
}

// proofOfLedger asks the receiver that holds the ledger to verify it. If none does, it verifies the
// file here.
func (p *Program) proofOfLedger(ctx context.Context) (*check.Report, error) {
	client, looked, err := p.receiver(ctx)
	if err != nil {
		return nil, err
	}
	if client != nil {
		answer, err := client.Post(ctx, "/api/verify", nil)
		if err != nil {
			return nil, err
		}
		return readProof(answer)
	}
	s, err := p.settings()
	if err != nil {
		return nil, err
	}
	path := ledger.Path(s.DataDir())
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, p.noLedger(looked, s)
	case errors.Is(err, fs.ErrPermission):
		return nil, inaccessible(looked, s)
	}
	if isHeld(s) {
		return nil, heldElsewhere(looked, s)
	}
	problem := ledger.Inspect(s.DataDir())
	if info, err := os.Stat(path); problem != nil && (err != nil || !info.Mode().IsRegular() || info.Size() == 0) {
		return nil, problem // there is nothing to report on
	}
	proof, err := Verify(ctx, path)
	if problem != nil && errors.Is(err, errUnsound) {
		err = errLedgerUnreadable // rebuild would refuse it
	}
	return proof, err
}

func readProof(answer []byte) (*check.Report, error) {
	var proof check.Report
	if err := json.Unmarshal(answer, &proof); err != nil {
		return nil, fmt.Errorf("the answer is not a report of a verification: %w", err)
	}
	if proof.Object != "proof" {
		return nil, fmt.Errorf("the answer is not a report of a verification: its object is %.40q", proof.Object)
	}
	if !proof.Sound {
		return &proof, fmt.Errorf("%w (%s, the first: %.300s)", errUnsound, wording.Plural(len(proof.Faults), "fault"), wording.Escape(slices.Concat(proof.Faults, []string{"none named"})[0]))
	}
	return &proof, nil
}

func (p *Program) showProof(proof *check.Report) error {
	n := func(n uint64, one, many string) string { return fmt.Sprintf("%d %s", n, wording.Verb(n, one, many)) }
	pairs := [][2]string{{"Ledger", proof.Path}, {"Mode", proof.Mode}, {"File", size(proof)}}
	if proof.Sound {
		quarantine := n(proof.Quarantined, "with its body", "with their bodies")
		if proof.Released > 0 {
			quarantine += fmt.Sprintf("; %s left it, and both rows of each agree", wording.Plural(proof.Released, "event"))
		}
		pairs = append(pairs, [][2]string{
			{"Pages", fmt.Sprintf("%d, none used twice (%d free)", proof.Pages, proof.FreePages)},
			{"Checksums", n(proof.Values, "value, its checksum matches", "values, all checksums match")},
			{"Events", fmt.Sprintf("%d in a sequence without gaps, each id once", proof.Events)},
			{"Bodies", n(proof.Bodies, "body, decompressed to its original size", "bodies, decompressed to their original sizes")},
			{"Quarantine", quarantine},
			{"Payments", n(proof.Payments, "equal to what its events say", "equal to what their events say")},
			{"Other ids", n(proof.Links, "resolves to a payment", "resolve to payments")},
			{"Totals", n(proof.Totals, "equal to the sum of the payments", "equal to the sums of the payments")},
			{"Verdict", "sound"},
		}...)
	} else {
		pairs = append(pairs, [2]string{"Verdict", "NOT SOUND"})
	}
	err := terminal.Fields(p.Stdout, pairs)
	for _, fault := range proof.Faults {
		if _, printErr := fmt.Fprintln(p.Stdout, "Fault:", wording.Escape(fault)); err == nil {
			err = printErr
		}
	}
	return err
}

// size returns the length of the file and how much of it is in use; bbolt allocates in advance.
func size(proof *check.Report) string {
	if proof.Used == 0 {
		return fmt.Sprintf("%d bytes", proof.Bytes)
	}
	return fmt.Sprintf("%d bytes, %d of them in use, schema %d", proof.Bytes, proof.Used, proof.Schema)
}

// verifyHere prints the report as JSON, with or without faults.
func (p *Program) verifyHere(ctx context.Context, path string) error {
	proof, err := check.Verify(ctx, path)
	if errors.Is(err, ledger.ErrLocked) {
		return fmt.Errorf("%w: to verify the ledger of a running receiver, name no file; of another file, make a copy with tillhook backup", err)
	}
	if proof == nil {
		return err
	}
	return json.NewEncoder(p.Stdout).Encode(proof)
}

// Verify verifies a file in a child process, because bbolt trusts the pages, and damaged ones can
// crash the process. If there are faults it returns a report that lists them, and an error; if the
// file cannot be opened, only an error.
func Verify(ctx context.Context, path string) (*check.Report, error) {
	if errors.Is(unix.Access(path, unix.R_OK), fs.ErrPermission) { // this says nothing about its content
		return nil, fmt.Errorf("%s cannot be read by this user: run this as root, or as its owner", path)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program to run it again: %w", err)
	}
	var stdout, stderr bytes.Buffer
	child := exec.CommandContext(ctx, self, "verify", "--here", path)
	child.Args[0], child.Stdout, child.Stderr = os.Args[0], &stdout, &stderr
	err = runWatched(child, time.Second, stuckAfter)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, errNoProgress) {
		return nil, fmt.Errorf("verify %s: %w", path, err)
	}
	if err == nil {
		return readProof(stdout.Bytes())
	}
	words, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	if exited := child.ProcessState; exited != nil && (exited.ExitCode() == exitFailed || exited.ExitCode() == exitConfig) && strings.HasPrefix(words, "tillhook: ") {
		return nil, errors.New(strings.TrimPrefix(words, "tillhook: "))
	}
	return nil, fmt.Errorf("%s is damaged so badly that reading it ended the process (%w: %.200s): restore a copy", path, err, wording.Escape(words))
}

// stuckAfter is how long a verification may go without progress.
const stuckAfter = 30 * time.Second

var errNoProgress = fmt.Errorf("no progress for %s: its disk may hang", stuckAfter)

// runWatched runs a child until it ends, or has used neither the processor nor new memory for the
// duration stuck: then it waits for a disk that does not answer, and its caller would wait forever.
func runWatched(child *exec.Cmd, every, stuck time.Duration) error {
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, since := "", time.Now()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
		}
		if now := operator.Effort(fmt.Sprintf("/proc/%d/stat", child.Process.Pid)); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > stuck {
			_ = child.Process.Kill() // it ends only once the disk answers
			return errNoProgress
		}
	}
}
