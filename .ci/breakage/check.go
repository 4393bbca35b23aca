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

// tablePath is the path of the table in the repository.
const tablePath = ".ci/breakage/table.go"

// checkTable returns the faults of a table, joined: texts to replace that do not occur exactly once
// in their file, tests that do not exist, and names that two mutations have.
func checkTable(table []mutation) error {
	var faults []error
	names, tests := map[string]bool{}, map[string][]string{}
	for _, m := range table {
		if names[m.name] {
			faults = append(faults, fmt.Errorf("%s: two mutations have this name", m.name))
		}
		names[m.name] = true
		if _, err := m.mutated(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", m.name, err))
		}
		if _, known := tests[m.pkg]; !known {
			var err error
			if tests[m.pkg], err = testsOf(m.pkg); err != nil {
				return err
			}
		}
		if err := m.checkTests(tests[m.pkg]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	return errors.Join(faults...)
}

// checkTests returns an error unless each of the alternatives in m.run matches one of the tests of
// m.pkg.
func (m mutation) checkTests(tests []string) error {
	for alternative := range strings.SplitSeq(m.run, "|") {
		top, _, _ := strings.Cut(alternative, "/")
		name, err := regexp.Compile(top)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tests, name.MatchString) {
			return fmt.Errorf("%s has no test %s", m.pkg, top)
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
