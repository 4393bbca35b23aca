package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tillhook/receiver/cli"

	"github.com/spf13/cobra"
)

// commands returns the path of each command that does something, such as "events show".
func commands(c *cobra.Command, prefix string) (list []string) {
	for _, sub := range c.Commands() {
		if sub.Hidden || prefix == "completion " { // its commands are cobra's, a shell each
			continue
		}
		if path := prefix + sub.Name(); sub.Runnable() {
			list = append(list, path)
		}
		list = append(list, commands(sub, prefix+sub.Name()+" ")...)
	}
	return list
}

// Every command is in the manual page, and a script in testdata/script runs it.
func TestEveryCommandIsDocumentedAndTyped(t *testing.T) {
	manual, err := os.ReadFile("../../systemd/deb/tillhook.8")
	if err != nil {
		t.Fatal(err)
	}
	// Without fonts and quotes, so that only the words are left.
	words := regexp.MustCompile(`\\f[A-Z]|(?m:^\.[A-Z]+ )|[",\[\]]`).ReplaceAllString(strings.ReplaceAll(string(manual), `\-`, "-"), " ")
	words = strings.Join(strings.Fields(words), " ")
	files, err := filepath.Glob("../../testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	list := commands((&cli.Program{}).Tree(), "")
	if len(list) < 25 {
		t.Errorf("only %d commands are known: %q", len(list), list)
	}
	for _, path := range list {
		if pattern := `(^| )` + path + `( |$)`; !regexp.MustCompile(pattern).MatchString(words) {
			t.Errorf("the manual page does not have %q", path)
		}
		if !regexp.MustCompile(`\b(exec|;|\$\(|').*tillhook ` + path + `\b`).MatchString(scripts.String()) {
			t.Errorf("no script runs %q", path)
		}
	}
}
