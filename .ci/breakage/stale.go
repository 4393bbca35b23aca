package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tablePath is the table in the repository.
const tablePath = ".ci/breakage/table.go"

// stale returns what is wrong with the entries of a table, joined: a text to replace that does not
// stand once in its file, a test that does not exist, a name that two of them have.
func stale(table []broken) error {
	var faults []error
	names := map[string]bool{}
	for _, b := range table {
		if names[b.name] {
			faults = append(faults, fmt.Errorf("%s: another entry has that name", b.name))
		}
		names[b.name] = true
		if _, err := b.replaced(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", b.name, err))
		}
		if err := b.hasTest(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", b.name, err))
		}
	}
	return errors.Join(faults...)
}

// hasTest demands that each of the alternatives in b.run is the name of a test, or of a part of
// one.
func (b broken) hasTest() error {
	tests, err := testsOf(b.pkg)
	if err != nil {
		return err
	}
	for alternative := range strings.SplitSeq(b.run, "|") {
		top, _, _ := strings.Cut(alternative, "/")
		name, err := regexp.Compile(top)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tests, name.MatchString) {
			return fmt.Errorf("%s has no test %s", b.pkg, top)
		}
	}
	return nil
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)

// testsOf returns the names of the tests and fuzz targets of a package.
func testsOf(pkg string) (tests []string, err error) {
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, found := range testFunc.FindAllSubmatch(source, -1) {
			tests = append(tests, string(found[1]))
		}
	}
	return tests, nil
}
