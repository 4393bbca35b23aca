package config_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"tillhook/receiver/config"
)

var update = flag.Bool("update", false, "write the table of settings into the reference and the manual page")

// The reference and the manual page contain the table of settings as it is in the source.
func TestReference(t *testing.T) {
	for _, c := range []struct{ file, begin, end, want string }{
		{"README.md", "<!-- settings: go test ./receiver/config -run TestReference -update -->\n", "<!-- end of settings -->\n", config.Markdown()},
		{"../../systemd/deb/tillhook.8", ".\\\" settings: go test ./receiver/config -run TestReference -update\n", ".\\\" end of settings\n", config.Manual()},
	} {
		content, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, begins := strings.Cut(string(content), c.begin)
		got, after, ends := strings.Cut(rest, c.end)
		switch {
		case !begins || !ends:
			t.Errorf("%s has no place for the settings", c.file)
		case got == c.want:
		case *update:
			if err := os.WriteFile(c.file, []byte(before+c.begin+c.want+c.end+after), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s differs from the table of settings in settings.go; write it with -update. It has\n%s\nwant\n%s", c.file, got, c.want)
		}
	}
}

// Each setting has a help text that fits in a table, and a default or a note of what applies
// instead.
func TestEverySettingIsDescribed(t *testing.T) {
	names := config.Names()
	if len(names) < 25 {
		t.Errorf("the table has only %d settings", len(names))
	}
	for _, line := range strings.Split(config.Markdown(), "\n") {
		cells := strings.Split(line, "|")
		if !strings.Contains(line, "| `") {
			continue
		}
		if len(cells) != 5 || strings.TrimSpace(cells[2]) == "" || strings.TrimSpace(cells[2]) == "``" || len(strings.TrimSpace(cells[3])) < 10 {
			t.Errorf("a setting is not described: %s", line)
		}
	}
}
