package cli

import (
	"encoding/json"
	"errors"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) configCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Show the effective settings, and where each comes from",
		Long: `Show the value that applies for each setting, and where it comes from: the environment, a file or
unit of the installed service, a credential, or the default. Only the kind of a secret is shown.

With an invalid configuration it also reports all errors, as serve does, and the exit status is 78.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			s, err := p.settings()
			if err != nil {
				return err
			}
			values, err := s.Values()
			if values == nil {
				return err
			}
			if asJSON {
				return errors.Join(err, p.writeConfig(s, values, err))
			}
			return errors.Join(err, p.showConfig(values))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// configAnswer is what config prints as JSON.
type configAnswer struct {
	Object   string          `json:"object"`
	Unit     ledger.OrNull   `json:"unit"` // of the installed service
	Settings []configSetting `json:"settings"`
	Errors   []configFault   `json:"errors"`
}

type configSetting struct {
	Name   string        `json:"name"`
	Value  ledger.OrNull `json:"value"`
	Source config.Source `json:"source"`
	From   ledger.OrNull `json:"from"`
	Secret bool          `json:"secret"`
	Valid  bool          `json:"valid"`
}

type configFault struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Fix     string `json:"fix"`
}

// writeConfig prints the settings, and the errors among them, as JSON.
func (p *Program) writeConfig(s *config.Environment, values []config.Value, err error) error {
	answer := configAnswer{Object: "configuration", Errors: []configFault{}}
	if s.Service != nil {
		answer.Unit = ledger.OrNull(s.Service.Unit)
	}
	for _, v := range values {
		answer.Settings = append(answer.Settings, configSetting{v.Name, ledger.OrNull(v.Value), v.Source, ledger.OrNull(v.From), v.Secret, v.Valid})
	}
	var faults config.Faults
	errors.As(err, &faults)
	for _, f := range faults {
		answer.Errors = append(answer.Errors, configFault(f))
	}
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(answer)
}

func (p *Program) showConfig(values []config.Value) error {
	rows := make([][]string, 0, len(values))
	for _, v := range values {
		value, source := v.Value, string(v.Source)
		switch {
		case !v.Valid && v.Source == config.FromNowhere:
			value = "(missing)"
		case !v.Valid:
			value = "(invalid)"
		case value == "":
			value = "-"
		}
		switch v.Source {
		case config.FromNowhere:
			source = "-"
		case config.FromService, config.FromSetting:
			source = v.From
		case config.FromFile, config.FromCredential:
			source += " " + v.From
		}
		rows = append(rows, []string{v.Name, value, source})
	}
	return p.table([]terminal.Column{{Head: "SETTING"}, {Head: "VALUE", Cut: true}, {Head: "SOURCE"}}, rows)
}
