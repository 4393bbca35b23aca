package receiver_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Go does not say whether "return n, f()" reads n before or after the call, so no statement may
// read a variable beside a call that changes it: by a closure of the same function, or through a
// pointer that is handed to the call.
// https://go.dev/ref/spec#Order_of_evaluation
func TestNothingReliesOnTheOrderOfEvaluation(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return err
		}
		for _, at := range unordered(file) {
			t.Errorf("%s reads a variable beside a call that changes it: write two statements", set.Position(at))
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, %v", files, err)
	}
	const broken = "package p\nfunc f() (n int, err error) { return n, g(func() { n++ }) }\n" +
		"func f2() (n int, err error) { visit := func() { n++ }; return n, g(visit) }\nfunc f3() (n int, err error) { return n, h(&n) }\n" +
		"func fine() (n int, err error) { err = h(&n); return n, err }\n"
	file, err := parser.ParseFile(token.NewFileSet(), "broken.go", broken, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := unordered(file); len(found) != 3 {
		t.Errorf("%d of 3 were found", len(found))
	}
}

// unordered returns the places of operands that a call beside them changes. Within a function it
// goes by names.
func unordered(file *ast.File) (found []token.Pos) {
	for _, function := range file.Decls {
		closures := map[string]*ast.FuncLit{} // by the variable that holds them
		ast.Inspect(function, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
				for i := range a.Lhs {
					if f, ok := a.Rhs[i].(*ast.FuncLit); ok {
						closures[nameOf(a.Lhs[i])] = f
					}
				}
			}
			return true
		})
		ast.Inspect(function, func(n ast.Node) bool {
			operands := operandsOf(n)
			for i, operand := range operands {
				for j, other := range operands {
					if name := nameOf(operand); i != j && name != "" && changes(other, name, closures) {
						found = append(found, operand.Pos())
					}
				}
			}
			return true
		})
	}
	return found
}

// operandsOf returns the expressions that a statement or an expression evaluates beside each other.
func operandsOf(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.ReturnStmt:
		return n.Results
	case *ast.AssignStmt:
		return n.Rhs
	case *ast.CallExpr:
		return n.Args
	case *ast.CompositeLit:
		values := slices.Clone(n.Elts)
		for i, e := range values {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				values[i] = kv.Value
			}
		}
		return values
	}
	return nil
}

// nameOf returns the name of a variable, empty for any other expression.
func nameOf(e ast.Expr) string {
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// changes reports whether an operand holds a call to which a way to change a variable is handed.
func changes(operand ast.Expr, name string, closures map[string]*ast.FuncLit) (yes bool) {
	is := func(e ast.Expr) bool { return nameOf(e) == name }
	assigns := func(f *ast.FuncLit) (yes bool) {
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				yes = yes || n.Tok != token.DEFINE && slices.ContainsFunc(n.Lhs, is)
			case *ast.IncDecStmt:
				yes = yes || is(n.X)
			case *ast.UnaryExpr:
				yes = yes || n.Op == token.AND && is(n.X)
			}
			return !yes
		})
		return yes
	}
	ast.Inspect(operand, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return !yes
		}
		for _, part := range append([]ast.Expr{call.Fun}, call.Args...) {
			switch e := part.(type) {
			case *ast.FuncLit:
				yes = yes || assigns(e)
			case *ast.UnaryExpr:
				yes = yes || e.Op == token.AND && is(e.X)
			case *ast.Ident:
				yes = yes || closures[e.Name] != nil && assigns(closures[e.Name])
			}
		}
		return !yes
	})
	return yes
}
