package cli

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// run runs a command line and returns its exit status and output.
func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &Program{Version: "v1", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Environ: []string{"TILLHOOK_DATA_DIR=" + t.TempDir()}}
	status = p.Run(t.Context(), args)
	return status, out.String(), errs.String()
}

// Help texts fit a terminal of 80 columns, and name every command.
func TestHelp(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		path := strings.Fields(c.CommandPath())[1:]
		status, help, stderr := run(t, append(path, "--help")...)
		if status != 0 || stderr != "" {
			t.Errorf("%s: exit status %d, %s", c.CommandPath(), status, stderr)
		}
		for line := range strings.Lines(help) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > helpWidth {
				t.Errorf("%s: a line of %d columns: %s", c.CommandPath(), n, line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit((&Program{}).root())
}

// Usage errors say in words what was wrong, with names that are similar.
func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"payment"}, `unknown command "tillhook payment"; did you mean payments?`},
		{[]string{"serv"}, `did you mean send or serve?`},
		{[]string{"payments", "list"}, `unknown command "tillhook payments list"`},
		{[]string{"payments", "shw", "pi_1"}, `unknown command "tillhook payments shw"; did you mean show?`},
		{[]string{"help", "exprt"}, `did you mean export?`},
		{[]string{"payments", "show"}, `tillhook payments show needs the id as its argument`},
		{[]string{"payments", "show", "pi_1", "pi_2"}, `takes one id, but got 2: pi_1 pi_2`},
		{[]string{"backup"}, `tillhook backup needs the file name as its argument`},
		{[]string{"payments", "--limit", "abc"}, `--limit "abc" is not a whole number`},
		{[]string{"payments", "--limit", "99999999999999999999"}, `--limit "99999999999999999999" is too large or too small`},
		{[]string{"payments", "--metadata", "abc"}, `--metadata "abc" is not of the form key=value`},
		{[]string{"export", "--as-of", "-1"}, `--as-of "-1" is not a whole number from 0 up`},
		{[]string{"export", "--format", "xlsx"}, `--format "xlsx" is not csv or jsonl`},
		{[]string{"events", "--outcome", "foo"}, `--outcome "foo" is not applied, unchanged, recorded or quarantined`},
		{[]string{"events", "--json=maybe"}, `--json "maybe" is neither true nor false`},
	} {
		status, stdout, stderr := run(t, c.args...)
		if status != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "strconv") {
			t.Errorf("%q: exit status %d, %s%s\nwant %s", c.args, status, stdout, stderr, c.want)
		}
	}
}
