package receiver_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// retiredWords are words of a private dialect, for which the field has a name. They are retired in
// comments and texts, and as a part of an identifier or a file's name.
var retiredWords = strings.Fields(`
	acquaintance acquainted door doors doubts heed heeds mend mended mends nobody room rooms somebody
	story stranger strangers tells terminality tidied tidy whoever
`)

// retiredNames are retired as a whole identifier, whatever the case of its first letter. In a
// sentence they are good words.
var retiredNames = strings.Fields(`
	absorb beyondEvents cameRound certify chargeLoses comparer doubtKind errUnreachable freshEntry
	freshness goesOn heldFor lastWord lieStill loses readUnder recognise recognize setMarks
	settledFill standBack tend told tryToMend turnAway unsettled wary waveTime
`)

// retiredPhrases are retired in comments and texts.
var retiredPhrases = []string{
	"alone", "are none", "as yet", "came round", "for good", "in peace", "is none", "is worth",
	"of late", "word to",
}

const maxComment = 100 // columns, a tab counts 4

func TestCommentsFitTheirWidth(t *testing.T) {
	checkLanguage(t, func(f *languageFile) { f.checkWidth() })
}

func TestRetiredWords(t *testing.T) {
	checkLanguage(t, func(f *languageFile) { f.checkWords() })
}

// languageFile is a file under test.
type languageFile struct {
	path   string // relative to the repository
	lines  []string
	script bool // neither Go nor Markdown
	set    *token.FileSet
	source *ast.File // nil for Markdown and scripts
	faults []string
}

// checkLanguage runs check for every file and reports its faults.
func checkLanguage(t *testing.T, check func(*languageFile)) {
	t.Helper()
	for _, f := range languageFiles(t) {
		check(f)
		for _, fault := range f.faults {
			t.Error(fault)
		}
	}
}

// scripts matches the scripts and units of the repository.
var scripts = regexp.MustCompile(`\.(txtar|sh|service|socket|env)$|^\.ci/[a-z]+$|^systemd/deb/[^/]+$`)

// languageFiles returns the Go and Markdown files and the scripts of the repository.
func languageFiles(t *testing.T) (files []*languageFile) {
	t.Helper()
	const root = ".."
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		script, code := scripts.MatchString(rel), strings.HasSuffix(rel, ".go")
		if entry.IsDir() || !script && !code && !strings.HasSuffix(rel, ".md") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f := &languageFile{path: rel, lines: strings.Split(string(text), "\n"), script: script}
		files = append(files, f)
		if !code {
			return nil
		}
		f.set = token.NewFileSet()
		f.source, err = parser.ParseFile(f.set, file, text, parser.ParseComments|parser.SkipObjectResolution)
		return err
	})
	if err != nil || len(files) < 300 {
		t.Fatalf("%d files were found: %v", len(files), err)
	}
	return files
}

func (f *languageFile) fault(line int, format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf("%s:%d: ", f.path, line)+fmt.Sprintf(format, args...))
}

// checkWidth finds lines of comments and of Markdown that are too long. Tables and lines that hold
// an address may be; so may code with a comment behind it, directives, and scripts.
func (f *languageFile) checkWidth() {
	if f.script {
		return
	}
	code := false
	check := func(line int) {
		text := strings.ReplaceAll(strings.TrimRight(f.lines[line-1], "\r"), "\t", "    ")
		if n := len([]rune(text)); n > maxComment && !strings.Contains(text, "://") {
			f.fault(line, "%d columns: %.60s…", n, strings.TrimSpace(text))
		}
	}
	if f.source == nil {
		for i, text := range f.lines {
			if strings.HasPrefix(strings.TrimSpace(text), "```") {
				code = !code
			}
			if !code && !strings.HasPrefix(strings.TrimSpace(text), "|") && !strings.Contains(text, "](") {
				check(i + 1)
			}
		}
		return
	}
	for _, group := range f.source.Comments {
		for _, c := range group.List {
			from, to := f.set.Position(c.Pos()), f.set.Position(c.End())
			behind := strings.TrimSpace(f.lines[from.Line-1][:from.Column-1]) != ""
			if behind || strings.HasPrefix(c.Text, "//go:") {
				continue
			}
			for line := from.Line; line <= to.Line; line++ {
				check(line)
			}
		}
	}
}

// Whole words and phrases, whatever their case. A line break may divide a phrase.
var retiredText = regexp.MustCompile(`(?i)\b(` +
	strings.ReplaceAll(strings.Join(append(slices.Clone(retiredWords), retiredPhrases...), "|"), " ", `[\s/]+`) + `)\b`)

// checkWords finds retired words. This file is exempt: it has to name them.
func (f *languageFile) checkWords() {
	text := func(line int, s string) {
		for _, at := range retiredText.FindAllStringIndex(s, -1) {
			f.fault(line+strings.Count(s[:at[0]], "\n"), "%q", s[at[0]:at[1]])
		}
	}
	if filepath.Base(f.path) == "language_test.go" {
		return
	}
	if f.source == nil {
		text(1, strings.ReplaceAll(strings.Join(f.lines, "\n"), "go mod tidy", ""))
		return
	}
	f.checkName(1, strings.TrimSuffix(filepath.Base(f.path), ".go"))
	for _, group := range f.source.Comments {
		var lines []string
		for _, c := range group.List {
			lines = append(lines, c.Text)
		}
		text(f.set.Position(group.Pos()).Line, strings.Join(lines, "\n"))
	}
	var tag *ast.BasicLit // names in JSON are a contract
	ast.Inspect(f.source, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field:
			tag = n.Tag
		case *ast.BasicLit:
			if n.Kind == token.STRING && n != tag {
				text(f.set.Position(n.Pos()).Line, n.Value)
			}
		case *ast.Ident:
			f.checkName(f.set.Position(n.Pos()).Line, n.Name)
		}
		return true
	})
}

// checkName finds retired names and retired words that are a part of a name.
func (f *languageFile) checkName(line int, name string) {
	lower := func(s string) string { return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):] }
	if slices.Contains(retiredNames, lower(name)) {
		f.fault(line, "the name %s", name)
		return
	}
	for _, part := range nameParts.FindAllString(name, -1) {
		if slices.Contains(retiredWords, strings.ToLower(part)) {
			f.fault(line, "the name %s", name)
			return
		}
	}
}

// The words of a name in camel case or with underscores.
var nameParts = regexp.MustCompile(`\p{Lu}\p{Ll}+|\p{Ll}+|\p{Lu}`)
