package cli

import (
	"context"
	"fmt"
)

// table prints rows under headings to standard output.
func (p *Program) table(columns []column, rows [][]string) error {
	return printTable(p.Stdout, terminalWidth(p.raw.stdout), columns, rows)
}

// hint prints a sentence to standard error.
func (p *Program) hint(text string) {
	fmt.Fprintln(p.Stderr, hang(text, 0, terminalWidth(p.raw.stderr)))
}

// progress shows a line of progress on standard error, if that is a terminal.
func (p *Program) progress(ctx context.Context, what string, status func(ctx context.Context) string) (end func()) {
	return showProgress(ctx, p.raw.stderr, what, status)
}
