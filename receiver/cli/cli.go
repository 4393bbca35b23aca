// Package cli is the command line, with one file for each command. Commands print text for people,
// or with --json the answers of the operator API. The package knows how to find a running receiver
// and which exit status a result has. Package app passes in what serve runs.
package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1  // or not found
	exitUsage  = 2  // an unknown command, flag or argument
	exitConfig = 78 // EX_CONFIG of sysexits.h: only a change of the configuration helps
)

// Addresses are where a running receiver listens.
type Addresses struct {
	Public   string // the URL of the webhook, with the address that it listens on
	Operator string // host:port; empty if it is off
	Socket   string // path
}

// Program is what the commands work with.
type Program struct {
	Version string
	// Samples holds event bodies, each named for its type: "payment_intent.succeeded.json".
	Samples fs.FS
	// Serve runs a receiver until ctx ends and logs to log. It calls ready once all listeners are
	// open.
	Serve func(ctx context.Context, c *config.Config, log io.Writer, ready func(Addresses)) error
	// Refused is called if serve does not start because of an error that only a change of the
	// configuration fixes.
	Refused func(ctx context.Context, fault error)
	// Ledger returns how a receiver of that configuration opens its ledger.
	Ledger func(c *config.Config) ledger.Options

	Environ []string // as os.Environ
	// Root is the folder below which the units of the installed service and their files lie; empty
	// for "/".
	Root   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	instance string              // of the service; empty for the one that is no instance
	found    *config.Environment // see settings

	// raw are Stdout and Stderr as they were given. Run escapes everything that is written to the
	// two above.
	raw struct{ stdout, stderr io.Writer }
}

// Run executes a command line without the program's name and returns the exit status.
func (p *Program) Run(ctx context.Context, args []string) int {
	escaped := *p
	escaped.raw.stdout, escaped.raw.stderr = p.Stdout, p.Stderr
	// Texts of customers must not control a terminal, whichever command prints them.
	escaped.Stdout, escaped.Stderr = wording.EscapeWriter(p.Stdout), wording.EscapeWriter(p.Stderr)
	escaped.Stdin = interruptible{ctx, p.Stdin}
	return escaped.run(ctx, args)
}

func (p *Program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var signaled Signaled
	if errors.As(context.Cause(ctx), &signaled) {
		fmt.Fprintf(p.Stderr, "tillhook: %v\n", signaled)
		return 128 + int(signaled.Signal)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("stopped before it was done")
	}
	var network *net.OpError
	if errors.Is(err, syscall.EPIPE) && !errors.As(err, &network) { // the reader of our output closed it
		return exitFailed
	}
	var over ended
	if errors.As(err, &over) {
		return over.status
	}
	fmt.Fprintf(p.Stderr, "tillhook: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(p.Stderr, "Try: %s --help\n", command.CommandPath())
		return exitUsage
	}
	var answered *operator.Error
	if errors.As(err, &answered) && answered.Code == "not_configured" {
		fmt.Fprintln(p.Stderr, "See what is wrong: "+p.forInstance("tillhook doctor"))
	}
	var refused configError
	if errors.As(err, &refused) && p.Refused != nil {
		p.Refused(ctx, refused.error)
	}
	if isConfiguration(err) {
		return exitConfig
	}
	return exitFailed
}

// Signaled is the cause of a context that a signal ended.
type Signaled struct{ Signal syscall.Signal }

func (s Signaled) Error() string {
	if s.Signal == syscall.SIGINT {
		return "interrupted"
	}
	return "stopped by a signal (" + unix.SignalName(s.Signal) + ")"
}

// interruptible is a standard input from which a read ends when a signal arrives.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	buf := make([]byte, len(p)) // p belongs to the caller again once this returns
	done := make(chan result, 1)
	go func() {
		n, err := i.r.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(p, buf[:r.n]), r.err
	case <-i.ctx.Done():
		return 0, context.Cause(i.ctx)
	}
}

// isConfiguration reports whether only a change of the configuration fixes an error.
func isConfiguration(err error) bool {
	var faults config.Faults
	return errors.As(err, &faults) || errors.Is(err, ledger.ErrOtherMode) || errors.Is(err, ledger.ErrSchema)
}

func (p *Program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tillhook",
		Short: "Receive Stripe's webhooks, each exactly once, into a ledger of payments",
		Long: `Tillhook receives Stripe's webhooks: it verifies each one, records it exactly once,
and maintains a ledger of payments that is right in whatever order they arrive.

"tillhook" without a command is "tillhook serve". To see it work without any configuration:

  tillhook demo`,
		Args:          noArguments,
		RunE:          p.serve,
		Version:       p.versionLine(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	setUp(root)
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run:"}, &cobra.Group{ID: "inspect", Title: "Inspect:"}, &cobra.Group{ID: "maintain", Title: "Maintain:"})
	for group, commands := range map[string][]*cobra.Command{
		"run":      {p.serveCommand(), p.doctorCommand(), p.sendCommand(), p.demoCommand()},
		"inspect":  {p.statusCommand(), p.configCommand(), p.summaryCommand(), p.paymentsCommand(), p.eventsCommand(), p.exportCommand(), p.reconcileCommand(), p.endpointCommand()},
		"maintain": {p.backupCommand(), p.verifyCommand(), p.restoreCommand(), p.rebuildCommand(), p.benchCommand()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error { // also where a command needs no settings
		if p.instance == "" {
			return nil
		}
		_, err := p.settings()
		return err
	}
	for _, c := range root.Commands() {
		if !slices.Contains([]string{"serve", "demo", "bench"}, c.Name()) {
			p.addInstanceFlag(c)
		}
	}
	root.AddCommand(p.versionCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	root.InitDefaultCompletionCmd("bash") // any argument makes it; Run would add it too late to be changed
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = noArguments
			c.RunE = func(c *cobra.Command, _ []string) error { return usagef("name a shell: bash, zsh, fish or powershell") }
		}
	}
	return root
}

// helpCommand is like that of cobra, but an unknown command is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, _ := c.Root().Find(args)
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			return about.Help()
		},
	}
}

// addInstanceFlag adds the flag that selects one of several services.
func (p *Program) addInstanceFlag(c *cobra.Command) {
	c.PersistentFlags().StringVar(&p.instance, "instance", "", "work with the receiver of the service tillhook@`NAME`")
	err := c.RegisterFlagCompletionFunc("instance", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return config.Instances(p.machineRoot()), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		c.Long += "\n" + err.Error()
	}
}

func (p *Program) machineRoot() string { return cmp.Or(p.Root, "/") }

// settings returns the environment of this command: that of the service, merged with the caller's.
func (p *Program) settings() (*config.Environment, error) {
	if p.found != nil {
		return p.found, nil
	}
	found, err := config.Find(p.Environ, p.machineRoot(), p.instance)
	var unknown *config.UnknownInstance
	if errors.As(err, &unknown) {
		return nil, usageError{err}
	}
	p.found = found
	return found, err
}

var (
	ownCommand = regexp.MustCompile(`\btillhook (config|payments|events|export|status|summary|reconcile|endpoint|backup|verify|rebuild|restore|doctor)( (show|release|dismiss|create|update|enable|list))?\b`)
	ownUnit    = regexp.MustCompile(`\b(systemctl [a-z-]+|journalctl -u) tillhook([^-@.\w]|$)`)
)

// forInstance adds this command's --instance to the commands that an advice names.
func (p *Program) forInstance(advice string) string {
	if p.instance == "" || strings.Contains(advice, "--instance") {
		return advice
	}
	advice = ownCommand.ReplaceAllString(advice, "$0 --instance "+strings.ReplaceAll(p.instance, "$", "$$"))
	return ownUnit.ReplaceAllString(advice, "$1 tillhook@"+strings.ReplaceAll(p.instance, "$", "$$")+"$2")
}

// confirm asks for confirmation.
func (p *Program) confirm(yes bool, format string, args ...any) error {
	if yes {
		return nil
	}
	fmt.Fprintf(p.Stderr, format+" [y/N] ", args...)
	line, err := bufio.NewReader(p.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil {
		fmt.Fprintln(p.Stderr)
		return errors.New("nothing was changed: there was no answer; with --yes the command does not ask")
	}
	return errors.New("nothing was changed")
}

// ask requests an answer of the API and prints it unchanged, or passes it to show, which prints it
// for people.
func (p *Program) ask(c *cobra.Command, request func(ctx context.Context, client *operator.Client) ([]byte, error), asJSON bool, show func(answer []byte) error) (err error) {
	client, closeClient, err := p.client(c.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeClient()) }()
	answer, err := request(c.Context(), client)
	if err != nil {
		return err
	}
	if asJSON {
		_, err := p.Stdout.Write(answer)
		return err
	}
	return show(answer)
}
