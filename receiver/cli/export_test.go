package cli

import "github.com/spf13/cobra"

// Tree returns the root command.
func (p *Program) Tree() *cobra.Command { return p.root() }
