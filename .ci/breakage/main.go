// Command breakage takes the protections out, one at a time, and demands that the tests notice.
//
// A test proves a rule only if it fails when that rule alone is broken. Each entry below is such a
// break: a text in a source file, what it becomes, and the test that must fail then. The sources stay
// as they are: the go command compiles the broken file in place of the real one (-overlay).
//
//	go run ./.ci/breakage [-seventh N] [NAME…]
//
// A seventh of them, 0 to 6, takes a few minutes.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// broken is one protection taken out.
type broken struct {
	name     string
	file     string
	old, new string // old stands exactly once in the file
	pkg, run string // the tests that must fail
}

func main() {
	seventh := flag.Int("seventh", -1, "take out every seventh protection, from this `number` on")
	flag.Parse()
	var chosen []broken
	for i, b := range table {
		if names := flag.Args(); (len(names) == 0 || slices.Contains(names, b.name)) && (*seventh < 0 || i%7 == *seventh) {
			chosen = append(chosen, b)
		}
	}
	stale := 0
	for _, b := range chosen {
		if _, err := b.replaced(); err != nil {
			stale++
			fmt.Printf("STALE        %s: %v\n", b.name, err)
		}
	}
	if stale > 0 {
		os.Exit(1)
	}
	// The tests of the whole program look at the clock, and have the machine for themselves.
	alone := func(b broken) bool { return b.pkg == "." }
	failed := tryAll(slices.DeleteFunc(slices.Clone(chosen), alone), workers) +
		tryAll(slices.DeleteFunc(slices.Clone(chosen), func(b broken) bool { return !alone(b) }), 1)
	fmt.Printf("%d protections taken out, %d noticed\n", len(chosen), len(chosen)-failed)
	if failed > 0 || len(chosen) == 0 {
		os.Exit(1)
	}
}

// workers try at once: one compiles while another's tests wait for a disk.
const workers = 3

// tryAll tells of each and counts those that nothing noticed.
func tryAll(list []broken, workers int) (failed int) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed, and lines from each other
	queue := make(chan broken)
	for range workers {
		wg.Go(func() {
			for b := range queue {
				start := time.Now()
				err := b.try()
				mu.Lock()
				if err != nil {
					failed++
					fmt.Printf("NOT NOTICED  %s: %v\n", b.name, err)
				} else {
					fmt.Printf("noticed      %-42s %s %s (%.1fs)\n", b.name, b.pkg, b.run, time.Since(start).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	for _, b := range list {
		queue <- b
	}
	close(queue)
	wg.Wait()
	return failed
}

// replaced is the source file with the protection taken out.
func (b broken) replaced() ([]byte, error) {
	source, err := os.ReadFile(b.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(source, []byte(b.old)); n != 1 {
		return nil, fmt.Errorf("%s holds the text %d times, not once: %q", b.file, n, b.old)
	}
	return bytes.Replace(source, []byte(b.old), []byte(b.new), 1), nil
}

// try runs the tests with the protection taken out, and fails if they pass or do not even run.
func (b broken) try() error {
	source, err := b.replaced()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "breakage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	replaced := filepath.Join(dir, filepath.Base(b.file))
	if err := os.WriteFile(replaced, source, 0o600); err != nil {
		return err
	}
	test := exec.Command("go", "test", "-vet=off", "-count=1", "-timeout="+b.timeout(), "-run", b.run, b.pkg)
	if filepath.Ext(b.file) != ".go" { // a unit: the packages are built with those of that folder
		if err := others(dir, b.file); err != nil {
			return err
		}
		test.Env = append(os.Environ(), "UNITS="+dir)
	} else if test.Env, err = overlaid(dir, b.file, replaced); err != nil {
		return err
	}
	out, err := test.CombinedOutput()
	switch text := string(out); {
	case err == nil:
		return fmt.Errorf("%s %s passes all the same", b.pkg, b.run)
	case !strings.Contains(text, "--- FAIL") && !strings.Contains(text, "panic: ") && !strings.Contains(text, "fatal error: "):
		return fmt.Errorf("the tests did not run:\n%s", text[:min(len(text), 2000)])
	}
	return nil
}

// timeout is more than its tests take: those that boot a machine take a minute.
func (b broken) timeout() string {
	if filepath.Ext(b.file) != ".go" {
		return "4m"
	}
	return "60s"
}

// overlaid is an environment in which go compiles one file in another's place, in what the tests build, too.
func overlaid(dir, file, replaced string) ([]string, error) {
	original, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: replaced}})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return nil, err
	}
	return append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+path), nil
}

// others copies the units beside one.
func others(dir, file string) error {
	units, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.socket"))
	if err != nil {
		return err
	}
	for _, unit := range append(units, filepath.Join(filepath.Dir(file), "tillhook.service")) {
		if filepath.Base(unit) == filepath.Base(file) {
			continue
		}
		text, err := os.ReadFile(unit)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(unit)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
