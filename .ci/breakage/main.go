// Command breakage takes the protections out, one at a time, and demands that the tests notice.
//
// A test proves a rule only if it fails when that rule alone is broken. Each entry of the table is
// such a break: a text in a source file, what it becomes, and the test that must fail then. The
// sources stay as they are: the go command compiles the broken file in place of the real one
// (-overlay).
//
//	go run ./.ci/breakage                                  all entries
//	go run ./.ci/breakage NAME…                            these
//	go run ./.ci/breakage -changed BASE [-most N] [-list]  what differs from a commit, and some of the others
//
// The last form chooses by what changed and by the commit's id, never by the day (see choose). BASE
// is a commit, or "recent" for the one 20 commits ago. -list prints the choice and runs nothing.
// Whatever is chosen, every entry is first compared with the sources: a stale one is an error.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
	base := flag.String("changed", "", "choose by what differs from this `commit`, or \"recent\"")
	most := flag.Int("most", 90, "with -changed, choose this `number` of entries at most")
	list := flag.Bool("list", false, "print what is chosen and run nothing")
	flag.Parse()
	if err := stale(table); err != nil {
		fmt.Printf("STALE        %s\n", strings.ReplaceAll(err.Error(), "\n", "\nSTALE        "))
		os.Exit(1)
	}
	chosen, err := selected(*base, *most, flag.Args())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if *list {
		for _, b := range chosen {
			fmt.Println(b.name)
		}
		return
	}
	// The tests of the whole program look at the clock, and have the machine to themselves.
	alone := func(b broken) bool { return b.pkg == "." }
	failed := tryAll(slices.DeleteFunc(slices.Clone(chosen), alone), workers) +
		tryAll(slices.DeleteFunc(slices.Clone(chosen), func(b broken) bool { return !alone(b) }), 1)
	fmt.Printf("%d protections taken out, %d noticed\n", len(chosen), len(chosen)-failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// selected returns the entries that the arguments choose, at least one, and prints how many there
// are for each reason.
func selected(base string, most int, names []string) (list []broken, err error) {
	switch {
	case base != "" && len(names) > 0:
		return nil, errors.New("name entries, or choose them with -changed: not both")
	case base != "":
		return selectChanged(base, most)
	case len(names) == 0:
		list = table
	}
	for _, name := range names {
		at := slices.IndexFunc(table, func(b broken) bool { return b.name == name })
		if at < 0 {
			return nil, fmt.Errorf("the table has no entry %q", name)
		}
		list = append(list, table[at])
	}
	return list, nil
}

// selectChanged chooses by what differs from a base and by the id of HEAD.
func selectChanged(base string, most int) (list []broken, err error) {
	from, err := baseCommit(base)
	if err != nil {
		return nil, err
	}
	c, err := changesSince(from)
	if err != nil {
		return nil, err
	}
	head, err := git("rev-parse", "HEAD")
	if err != nil {
		return nil, err
	}
	chosen := choose(table, c, head, most)
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-most %d chooses no entry", most)
	}
	var counts [len(reasons)]int
	for _, c := range chosen {
		counts[c.reason]++
		list = append(list, c.broken)
	}
	fmt.Printf("%d of %d entries, against %.12s:", len(list), len(table), from)
	for reason, count := range counts {
		fmt.Printf(" %d %s;", count, reasons[reason])
	}
	fmt.Println()
	return list, nil
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
	if filepath.Ext(b.file) != ".go" { // a unit or a maintainer script: the packages are built with those of that folder
		if err := others(dir, b.file); err != nil {
			return err
		}
		folder := "UNITS="
		if filepath.Ext(b.file) == "" {
			folder = "SCRIPTS="
		}
		test.Env = append(os.Environ(), folder+dir)
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

// timeout is more than its tests take: those that boot a machine take minutes.
func (b broken) timeout() string {
	if filepath.Ext(b.file) != ".go" {
		return "15m"
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

// others copies the units beside a unit, or the maintainer scripts beside one of them.
func others(dir, file string) error {
	pattern := "tillhook*.*"
	if filepath.Ext(file) == "" {
		pattern = "p[or]*" // postinst, postrm, prerm
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), pattern))
	if err != nil {
		return err
	}
	for _, other := range files {
		if filepath.Base(other) == filepath.Base(file) {
			continue
		}
		text, err := os.ReadFile(other)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(other)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
