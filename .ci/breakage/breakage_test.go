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

// atRoot changes to the root of the repository, to which the paths in the table are relative.
func atRoot(t *testing.T) { t.Chdir("../..") }

// Every mutation replaces a text that exists and names a test that exists.
func TestTheTableIsCurrent(t *testing.T) {
	atRoot(t)
	if err := checkTable(table); err != nil {
		t.Error(err)
	}
	if len(table) < 250 {
		t.Errorf("the table has only %d mutations", len(table))
	}
}

func TestStaleEntriesAreReported(t *testing.T) {
	atRoot(t)
	sound := table[0]
	for want, edit := range map[string]func(m *mutation){
		"contains the text 0 times": func(m *mutation) { m.old = "no such text" },
		"not once: \"if\"":          func(m *mutation) { m.old = "if" },
		"no such file":              func(m *mutation) { m.file = "ledger/missing.go" },
		"has no test TestGone":      func(m *mutation) { m.run = "TestFailingSync|TestGone" },
		"has no test TestFirst":     func(m *mutation) { m.pkg, m.run = "./missing", "TestFirst" },
	} {
		m := sound
		edit(&m)
		m.name = "another"
		if err := checkTable([]mutation{sound, m}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "another: ") {
			t.Errorf("the stale mutation is reported as %v, want %q", err, want)
		}
	}
	if err := checkTable([]mutation{sound, sound}); err == nil {
		t.Error("two mutations with the same name are accepted")
	}
}

// commitID returns an id in the form of git's.
func commitID(n int) string { return fmt.Sprintf("%040x", uint64(n+1)*0x9e3779b97f4a7c15) }

func entryNames(chosen []choice) (names []string) {
	for _, c := range chosen {
		names = append(names, c.name)
	}
	return names
}

// The choice for a commit is the same on seven days in a row, which include the end of a month.
func TestTheChoiceIgnoresTheDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(29 * 24 * time.Hour) // the fake time begins on 2000-01-01, a Saturday
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
	// The files that choose import nothing that can read a clock.
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

// scripts are the files of .ci that run the checks.
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
				t.Errorf("%s:%d depends on the date or on a random number: %s", name, i+1, line)
			}
		}
	}
	if !clock.MatchString("go run ./.ci/breakage -seventh $(($(date +%u) - 1))") {
		t.Error("a script that asks for the date is not noticed")
	}
}

// A -run or -skip that matches no test would pass, because go test only warns.
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
			if patterns == "^$" { // only fuzzing
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
					t.Errorf(".ci/%s: -%s %s matches no test in %s", name, how, pattern, pkg)
				}
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d commands were found that name tests", found)
	}
}

// Mutations that the changes touch come first, then others. There are never more than the limit,
// and none is chosen twice.
func TestWhatChangedIsChosen(t *testing.T) {
	const file = endpointGo // of receiver/cli
	c := changes{files: []string{file, "receiver/config/config_test.go"}, entries: []string{"no such mutation", table[0].name}}
	counts := map[int]int{}
	touched := 0
	for _, m := range table {
		if m.name == table[0].name || m.file == file || m.pkg == "./receiver/cli" || m.pkg == "./receiver/config" {
			touched++
		}
	}
	chosen := choose(table, c, commitID(5), 60)
	seen := map[string]bool{}
	for _, m := range chosen {
		counts[m.reason]++
		if seen[m.name] {
			t.Errorf("%s is chosen twice", m.name)
		}
		seen[m.name] = true
	}
	if touched > 40 {
		t.Fatalf("the example touches %d mutations: use another one", touched)
	}
	if got := counts[edited] + counts[inSource] + counts[inTests]; counts[edited] != 1 || got != touched || len(chosen) != 60 {
		t.Errorf("%d mutations are chosen for the reasons %v, want 60 with 1 edited and %d touched", len(chosen), counts, touched)
	}
	for most := range 4 {
		if n := len(choose(table, c, commitID(5), most)); n != most {
			t.Errorf("%d of at most %d mutations are chosen", n, most)
		}
	}
	if n := len(choose(table, c, commitID(5), len(table)+5)); n != len(table) {
		t.Errorf("%d of all %d mutations are chosen", n, len(table))
	}
	if n := len(choose(table, changes{}, commitID(5), 60)); n != 60 {
		t.Errorf("without a change %d mutations are chosen", n)
	}
}

// Over many commits every mutation is chosen, whether nothing changed, all files, or always the
// same file.
func TestEveryMutationIsChosenEventually(t *testing.T) {
	every := changes{}
	for _, m := range table {
		every.files = append(every.files, m.file)
	}
	for name, c := range map[string]changes{"nothing": {}, "all files": every, "one file": {files: []string{"ledger/ledger.go", "ledger/new_test.go"}}} {
		left := map[string]bool{}
		for _, m := range table {
			left[m.name] = true
		}
		n := 0
		for ; len(left) > 0 && n < 200; n++ {
			for _, m := range choose(table, c, commitID(n), 60) {
				delete(left, m.name)
			}
		}
		if len(left) > 0 {
			t.Errorf("%s changed: in %d commits these were not chosen: %v", name, n, left)
		}
	}
	if a, b := choose(table, changes{}, commitID(1), 60), choose(table, changes{}, commitID(2), 60); reflect.DeepEqual(a, b) {
		t.Error("two commits have the same choice")
	}
}

func TestAddedEntries(t *testing.T) {
	diff := "--- a/x\n+++ b/x\n-\t{\"gone\", aGo, \"\", \"\", \".\", \"Test\"},\n+\t{\"new, and \\\"quoted\", aGo, \"a\", \"b\", \".\", \"Test\"},\n+\taGo = \"a.go\"\n"
	if got := addedEntries(diff); !slices.Equal(got, []string{"new, and \\\"quoted"}) {
		t.Errorf("the names are %q", got)
	}
}

// The base is found in a clone of a single branch. In a shallow clone it is the oldest commit.
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
		write(tablePath, fmt.Sprintf("package main\n\nvar table = []mutation{\n\t{\"first\", \"%d\"},\n}\n", n/30))
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
	write(tablePath, "package main\n\nvar table = []mutation{\n\t{\"first\", \"0\"},\n\t{\"second\", \"0\"},\n}\n")
	want := changes{files: []string{tablePath, "ledger/24.go", "ledger/new file.go"}, entries: []string{"second"}}
	if c, err := changesSince(base); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("the changes are %+v, %v, want %+v", c, err, want)
	}
	if _, err := baseCommit("nonsense"); err == nil {
		t.Error("a base that does not exist is accepted")
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
		t.Errorf("without arguments %d mutations are chosen, %v", len(list), err)
	}
	if list, err := selected("", 90, []string{table[5].name}); err != nil || len(list) != 1 || list[0] != table[5] {
		t.Errorf("by its name %v is chosen, %v", list, err)
	}
	if list, err := selected("", 90, []string{table[5].name, "no such mutation"}); err == nil {
		t.Errorf("for a name that no mutation has %d are chosen", len(list))
	}
	if _, err := selected("HEAD", 90, []string{table[5].name}); err == nil {
		t.Error("names are accepted together with -changed")
	}
}
