package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// atRoot has the test run where the table's paths begin.
func atRoot(t *testing.T) { t.Chdir("../..") }

// Every entry breaks a text that is there, for a test that is there.
func TestTheTableIsCurrent(t *testing.T) {
	atRoot(t)
	if err := stale(table); err != nil {
		t.Error(err)
	}
	if len(table) < 250 {
		t.Errorf("the table has %d entries", len(table))
	}
}

func TestStaleEntriesAreReported(t *testing.T) {
	atRoot(t)
	sound := table[0]
	for want, edit := range map[string]func(b *broken){
		"holds the text 0 times": func(b *broken) { b.old = "no such text" },
		"not once: \"if\"":       func(b *broken) { b.old = "if" },
		"no such file":           func(b *broken) { b.file = "ledger/missing.go" },
		"has no test TestGone":   func(b *broken) { b.run = "TestFailingSync|TestGone" },
		"has no test TestFirst":  func(b *broken) { b.pkg, b.run = "./missing", "TestFirst" },
	} {
		b := sound
		edit(&b)
		b.name = "another"
		if err := stale([]broken{sound, b}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "another: ") {
			t.Errorf("the stale entry is reported as %v, want %q", err, want)
		}
	}
	if err := stale([]broken{sound, sound}); err == nil {
		t.Error("two entries of one name are taken")
	}
}

// commitID returns an id as git has them.
func commitID(n int) string { return fmt.Sprintf("%040x", uint64(n+1)*0x9e3779b97f4a7c15) }

func entryNames(chosen []choice) (names []string) {
	for _, c := range chosen {
		names = append(names, c.name)
	}
	return names
}

// One commit gets one choice on seven days in a row, the last and first day of a month among them.
func TestTheChoiceIgnoresTheDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(29 * 24 * time.Hour) // a bubble begins on 2000-01-01, a Saturday
		c := changes{files: []string{"ledger/ledger.go", "receiver/operator/api_test.go"}, entries: []string{table[7].name}}
		first, days := entryNames(choose(table, c, commitID(1), 60)), map[string]bool{}
		for range 7 {
			days[time.Now().Format(time.DateOnly)] = true
			if again := entryNames(choose(table, c, commitID(1), 60)); !slices.Equal(again, first) {
				t.Errorf("on %s the choice is %v, was %v", time.Now().Format(time.DateOnly), again, first)
			}
			time.Sleep(24 * time.Hour)
		}
		if len(days) != 7 || !days["2000-01-31"] || !days["2000-02-01"] {
			t.Errorf("the days were %v", days)
		}
	})
	// Nor can it read a clock: what chooses imports nothing that has one.
	for file, allowed := range map[string][]string{
		"choose.go": {"cmp", "hash/fnv", "path", "slices", "strings"},
		"git.go":    {"errors", "fmt", "os/exec", "path", "slices", "strconv", "strings"},
	} {
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range source.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err != nil || !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", file, spec.Path.Value)
			}
		}
	}
}

// scripts are the checks as they are run.
var scripts = []string{"run", "long", "steps"}

func script(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestScriptsReadNoClock(t *testing.T) {
	clock := regexp.MustCompile(`\b(date|RANDOM|EPOCHSECONDS|EPOCHREALTIME|SRANDOM|strftime|printf +'?%\()\b`)
	for _, name := range scripts {
		for i, line := range strings.Split(script(t, name), "\n") {
			if clock.MatchString(line) {
				t.Errorf("%s:%d depends on the day or on chance: %s", name, i+1, line)
			}
		}
	}
	if !clock.MatchString("go run ./.ci/breakage -seventh $(($(date +%u) - 1))") {
		t.Error("a script that asks for the day is not noticed")
	}
}

// A -run or -skip that names no test would pass: go test only warns.
func TestScriptsNameTests(t *testing.T) {
	atRoot(t)
	packages, err := filepath.Glob("[a-z]*")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("[a-z]*/[a-z]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pkg := range append(append(packages, more...), ".") {
		tests, err := testsOf(pkg)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tests...)
	}
	named := regexp.MustCompile(`go test .*-(run|skip) '([^']+)'(?: (\./[a-z/.]*|\.))?`)
	found := 0
	for _, name := range scripts {
		text, err := os.ReadFile(filepath.Join(".ci", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range named.FindAllStringSubmatch(string(text), -1) {
			how, patterns, pkg := command[1], command[2], command[3]
			if patterns == "^$" { // fuzzing alone
				continue
			}
			found++
			tests := all
			if how == "run" {
				if tests, err = testsOf(pkg); err != nil {
					t.Fatal(err)
				}
			}
			for pattern := range strings.SplitSeq(patterns, "|") {
				if !slices.ContainsFunc(tests, regexp.MustCompile(pattern).MatchString) {
					t.Errorf(".ci/%s: -%s %s names no test in %s", name, how, pattern, pkg)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("%d commands were found that name tests", found)
	}
}

// What the changes touch comes first, then others; the bound is kept, and nothing is chosen twice.
func TestWhatChangedIsChosen(t *testing.T) {
	const file = endpointGo // of receiver/cli
	c := changes{files: []string{file, "receiver/config/config_test.go"}, entries: []string{"no such entry", table[0].name}}
	counts := map[int]int{}
	touched := 0
	for _, b := range table {
		if b.name == table[0].name || b.file == file || b.pkg == "./receiver/cli" || b.pkg == "./receiver/config" {
			touched++
		}
	}
	chosen := choose(table, c, commitID(5), 60)
	seen := map[string]bool{}
	for _, b := range chosen {
		counts[b.reason]++
		if seen[b.name] {
			t.Errorf("%s is chosen twice", b.name)
		}
		seen[b.name] = true
	}
	if touched > 40 {
		t.Fatalf("the example touches %d entries: take another", touched)
	}
	if got := counts[edited] + counts[inSource] + counts[inTests]; counts[edited] != 1 || got != touched || len(chosen) != 60 {
		t.Errorf("the choice has %d entries for the reasons %v, want 60 with 1 edited and %d touched", len(chosen), counts, touched)
	}
	for most := range 4 {
		if n := len(choose(table, c, commitID(5), most)); n != most {
			t.Errorf("%d of at most %d entries are chosen", n, most)
		}
	}
	if n := len(choose(table, c, commitID(5), len(table)+5)); n != len(table) {
		t.Errorf("%d of all %d entries are chosen", n, len(table))
	}
	if n := len(choose(table, changes{}, commitID(5), 60)); n != 60 {
		t.Errorf("without a change %d entries are chosen", n)
	}
}

// Over enough commits every entry is chosen, whether nothing changed, all files did, or always the
// same one.
func TestEveryEntryGetsItsTurn(t *testing.T) {
	every := changes{}
	for _, b := range table {
		every.files = append(every.files, b.file)
	}
	for name, c := range map[string]changes{"nothing": {}, "all files": every, "one file": {files: []string{"ledger/ledger.go", "ledger/new_test.go"}}} {
		left := map[string]bool{}
		for _, b := range table {
			left[b.name] = true
		}
		n := 0
		for ; len(left) > 0 && n < 200; n++ {
			for _, b := range choose(table, c, commitID(n), 60) {
				delete(left, b.name)
			}
		}
		if len(left) > 0 {
			t.Errorf("%s changed: in %d commits these had no turn: %v", name, n, left)
		}
	}
	if a, b := choose(table, changes{}, commitID(1), 60), choose(table, changes{}, commitID(2), 60); reflect.DeepEqual(a, b) {
		t.Error("two commits get one choice")
	}
}

func TestAddedEntries(t *testing.T) {
	diff := "--- a/x\n+++ b/x\n-\t{\"gone\", aGo, \"\", \"\", \".\", \"Test\"},\n+\t{\"new, and \\\"quoted\", aGo, \"a\", \"b\", \".\", \"Test\"},\n+\taGo = \"a.go\"\n"
	if got := addedEntries(diff); !slices.Equal(got, []string{"new, and \\\"quoted"}) {
		t.Errorf("the entries are %q", got)
	}
}

// The base is found in a clone of one branch. In a shallow clone it is the oldest commit there is.
func TestBaseCommit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("git is not installed")
	}
	origin := t.TempDir()
	for name, value := range map[string]string{"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull} {
		t.Setenv(name, value)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := git(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(origin)
	run("init", "-q", "-b", "main")
	for n := range recentCommits + 5 {
		write(fmt.Sprintf("ledger/%d.go", n), "package ledger\n")
		write(tablePath, fmt.Sprintf("package main\n\nvar table = []broken{\n\t{\"first\", \"%d\"},\n}\n", n/30))
		run("add", "-A")
		run("commit", "-q", "-m", fmt.Sprint(n))
		base, err := baseCommit(recent)
		if err != nil {
			t.Fatal(err)
		}
		c, err := changesSince(base)
		if err != nil {
			t.Fatal(err)
		}
		added := slices.DeleteFunc(c.files, func(f string) bool { return f == tablePath })
		if want := min(n+1, recentCommits); len(added) != want {
			t.Fatalf("after %d commits %d files differ from the base, want %d: %v", n+1, len(added), want, added)
		}
	}
	base, err := baseCommit("HEAD~1")
	if err != nil {
		t.Fatal(err)
	}
	write("ledger/new file.go", "package ledger\n") // not committed yet
	write(tablePath, "package main\n\nvar table = []broken{\n\t{\"first\", \"0\"},\n\t{\"second\", \"0\"},\n}\n")
	want := changes{files: []string{tablePath, "ledger/24.go", "ledger/new file.go"}, entries: []string{"second"}}
	if c, err := changesSince(base); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("the changes are %+v, %v, want %+v", c, err, want)
	}
	if _, err := baseCommit("nonsense"); err == nil {
		t.Error("a base that does not exist is taken")
	}

	clone := filepath.Join(t.TempDir(), "clone")
	run("clone", "-q", "--depth=3", "--single-branch", "file://"+origin, clone)
	t.Chdir(clone)
	oldest, err := git("rev-parse", "HEAD~2")
	if err != nil {
		t.Fatal(err)
	}
	if base, err := baseCommit(recent); err != nil || base != oldest {
		t.Errorf("in a shallow clone the base is %s, %v; want its oldest commit %s", base, err, oldest)
	}
}

func TestSelected(t *testing.T) {
	if list, err := selected("", 90, nil); err != nil || len(list) != len(table) {
		t.Errorf("without arguments %d entries are chosen, %v", len(list), err)
	}
	if list, err := selected("", 90, []string{table[5].name}); err != nil || len(list) != 1 || list[0] != table[5] {
		t.Errorf("by its name %v is chosen, %v", list, err)
	}
	if list, err := selected("", 90, []string{table[5].name, "no such entry"}); err == nil {
		t.Errorf("for a name that no entry has %d entries are chosen", len(list))
	}
	if _, err := selected("HEAD", 90, []string{table[5].name}); err == nil {
		t.Error("names are taken beside -changed")
	}
}
