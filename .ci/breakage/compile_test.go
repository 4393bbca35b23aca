package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every mutation of a Go file compiles. One that does not tests nothing, and would otherwise be
// found only when it is chosen to run.
func TestMutationsCompile(t *testing.T) {
	atRoot(t)
	c := compiler{set: token.NewFileSet(), files: map[string]*ast.File{}, outlines: map[string]*ast.File{}}
	c.packages = importer.ForCompiler(c.set, "gc", openExports(t))
	for _, m := range table {
		if m.isGo() {
			for _, err := range c.compile(t, m) {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
}

// compiler checks the types of mutated packages.
type compiler struct {
	set      *token.FileSet
	packages types.Importer
	files    map[string]*ast.File // parsed, by path
	outlines map[string]*ast.File // the same without the bodies of functions
}

// compile returns the compiler's errors in the package of a mutation. Only a mutation outside of
// functions can break other files than its own. For the others the bodies of the functions in other
// files are left out, because checking them would take most of the time.
func (c *compiler) compile(t *testing.T, m mutation) (errs []error) {
	t.Helper()
	dir := filepath.Dir(m.file)
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(original, []byte(m.old))
	source, err := m.mutated()
	if err != nil {
		t.Fatal(err)
	}
	mutated, err := parser.ParseFile(c.set, m.file, source, parser.SkipObjectResolution)
	if err != nil {
		return []error{err}
	}
	inFunction := slices.ContainsFunc(mutated.Decls, func(d ast.Decl) bool {
		f, is := d.(*ast.FuncDecl)
		return is && f.Body != nil && c.set.Position(f.Body.Lbrace).Offset < at && at+len(m.new) <= c.set.Position(f.Body.Rbrace).Offset
	})
	files := []*ast.File{mutated}
	for _, name := range names {
		if name != m.file && !strings.HasSuffix(name, "_test.go") {
			files = append(files, c.parse(t, name, inFunction))
		}
	}
	check := types.Config{Importer: c.packages, Error: func(err error) {
		var e types.Error
		if !inFunction || !errors.As(err, &e) || c.set.Position(e.Pos).Filename == m.file {
			errs = append(errs, err)
		}
	}}
	_, _ = check.Check("tillhook/"+dir, c.set, files, nil) // Error is called with each error
	return errs
}

// parse returns a file of the sources, or its outline.
func (c *compiler) parse(t *testing.T, name string, outline bool) *ast.File {
	t.Helper()
	parsed := c.files
	if outline {
		parsed = c.outlines
	}
	if parsed[name] == nil {
		f, err := parser.ParseFile(c.set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if f, is := d.(*ast.FuncDecl); is && outline {
				f.Body = nil
			}
		}
		parsed[name] = f
	}
	return parsed[name]
}

// openExports returns a function that opens the compiled form of a package.
func openExports(t *testing.T) func(path string) (io.ReadCloser, error) {
	list, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(list)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			exports[path] = file
		}
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
}
