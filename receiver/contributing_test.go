package receiver_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every file and folder that CONTRIBUTING.md names exists. TYPE and NAME stand for a name of the
// reader's choice.
func TestContributingNamesFilesThatExist(t *testing.T) {
	page, err := os.ReadFile("../.github/CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	placeholder := regexp.MustCompile(`\b(TYPE|NAME)\b`)
	found := 0
	for _, name := range regexp.MustCompile("`([^` ]+/[^` ]*)`").FindAllStringSubmatch(string(page), -1) {
		if placeholder.MatchString(name[1]) {
			continue
		}
		found++
		if _, err := os.Stat(filepath.Join("..", strings.TrimPrefix(name[1], "./"))); err != nil {
			t.Errorf("CONTRIBUTING.md: %v", err)
		}
	}
	if found < 30 {
		t.Errorf("only %d names were found", found)
	}
}
