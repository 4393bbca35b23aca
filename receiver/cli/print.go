package cli

import (
	"context"
	"fmt"

	"tillhook/receiver/terminal"
)

// table prints rows under headings to standard output.
func (p *Program) table(columns []terminal.Column, rows [][]string) error {
	return terminal.Table(p.Stdout, terminal.Width(p.raw.stdout), columns, rows)
}

// hint prints a sentence to standard error.
func (p *Program) hint(text string) {
	fmt.Fprintln(p.Stderr, terminal.Hang(text, 0, terminal.Width(p.raw.stderr)))
}

// progress shows a line of progress on standard error, if that is a terminal.
func (p *Program) progress(ctx context.Context, what string, status func(ctx context.Context) string) (end func()) {
	return terminal.Progress(ctx, p.raw.stderr, what, status)
}
