package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

var ParseEnvFile = parseEnvFile

// Fields returns a copy of c with only its exported fields.
func Fields(c *Config) *Config {
	fields := *c
	fields.environment = nil
	return &fields
}

// Markdown returns the table of settings as the reference has it.
func Markdown() string {
	var b strings.Builder
	for _, g := range table {
		fmt.Fprintf(&b, "\n### %s\n\n| variable | default | |\n|---|---|---|\n", g.title)
		for _, s := range g.settings {
			def := s.unset
			if s.preset != "" {
				def = "`" + s.preset + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.name, def, s.help)
		}
	}
	return b.String() + "\n"
}

// Manual returns the settings as the manual page has them, in the language of man(7).
func Manual() string {
	text := func(markdown string) string {
		markdown = regexp.MustCompile("`([^`]*)`").ReplaceAllString(markdown, `\fB$1\fP`)
		markdown = regexp.MustCompile(`\[([^]]*)\]\(([^)]*)\)`).ReplaceAllString(markdown, "$1 ($2)")
		return strings.ReplaceAll(markdown, "…", "...")
	}
	var b strings.Builder
	for _, g := range table {
		fmt.Fprintf(&b, ".SS %s\n", g.title)
		for _, s := range g.settings {
			def := cmp.Or(s.preset, s.unset)
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fP (%s)\n%s.\n", s.name, text(def), text(s.help))
		}
	}
	return b.String()
}

// Names returns the variables of the table in its order, secrets without their other forms.
func Names() (names []string) {
	for s := range settings() {
		names = append(names, s.name)
	}
	return names
}
