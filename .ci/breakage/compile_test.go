package main

import (
	"bytes"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every mutation of a Go file compiles. One that does not tests nothing, and would otherwise be
// found only when it is chosen to run.
func TestMutationsCompile(t *testing.T) {
	atRoot(t)
	fset := token.NewFileSet()
	packages := importer.ForCompiler(fset, "gc", openExports(t))
	for _, m := range table {
		if !m.isGo() {
			continue
		}
		dir := filepath.Dir(m.file)
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		var parsed []*ast.File
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if file == m.file {
				source = bytes.Replace(source, []byte(m.old), []byte(m.new), 1)
			}
			f, err := parser.ParseFile(fset, file, source, 0)
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
			parsed = append(parsed, f)
		}
		check := types.Config{Importer: packages, Error: func(err error) { t.Errorf("%s: %v", m.name, err) }}
		_, _ = check.Check("tillhook/"+dir, fset, parsed, nil) // Error reports each one
	}
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
