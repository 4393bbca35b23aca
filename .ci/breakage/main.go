// Command breakage is a mutation test: it breaks one rule of the program at a time and requires
// that a test fails.
//
// A test that passes does not show that it would notice an error. Each entry of the table is a
// mutation: a text in a source file, the text that replaces it, and the tests of which at least one
// must fail then. The sources are not modified. The go command compiles a mutated copy instead of
// the file (-overlay).
//
//	go run ./.ci/breakage                           run all mutations
//	go run ./.ci/breakage NAME…                     run these
//	go run ./.ci/breakage -changed BASE [-most N]   run those that the changes since BASE touch,
//	                                                and some of the others
//
// The last form chooses by the changed files and by the id of the commit, never by the date (see
// choose). BASE is a commit, or "recent" for the commit 20 commits ago. With -list the command
// prints the names of the chosen mutations and runs none. It first checks the whole table, whatever
// is chosen: a mutation that does not fit the sources any more is an error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	base := flag.String("changed", "", "choose by the changes since this `commit`, or \"recent\"")
	most := flag.Int("most", 90, "with -changed, choose at most this `number` of mutations")
	list := flag.Bool("list", false, "print the names of the chosen mutations and run none")
	flag.Parse()
	if err := checkTable(table); err != nil {
		fmt.Printf("STALE     %s\n", strings.ReplaceAll(err.Error(), "\n", "\nSTALE     "))
		os.Exit(1)
	}
	chosen, err := selected(*base, *most, flag.Args())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if *list {
		for _, m := range chosen {
			fmt.Println(m.name)
		}
		return
	}
	// The tests of package main measure time. No other mutation runs beside them.
	exclusive := func(m mutation) bool { return m.pkg == "." }
	survived := runAll(slices.DeleteFunc(slices.Clone(chosen), exclusive), workers) +
		runAll(slices.DeleteFunc(slices.Clone(chosen), func(m mutation) bool { return !exclusive(m) }), 1)
	fmt.Printf("%d mutations, %d killed\n", len(chosen), len(chosen)-survived)
	if survived > 0 {
		os.Exit(1)
	}
}

// selected returns the mutations that the arguments choose. With a base it prints how many there
// are for each reason.
func selected(base string, most int, names []string) (list []mutation, err error) {
	switch {
	case base != "" && len(names) > 0:
		return nil, errors.New("use either names or -changed, not both")
	case base != "":
		return selectChanged(base, most)
	case len(names) == 0:
		list = table
	}
	for _, name := range names {
		at := slices.IndexFunc(table, func(m mutation) bool { return m.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no mutation %q in the table", name)
		}
		list = append(list, table[at])
	}
	return list, nil
}

// selectChanged chooses by the changes since a base and by the id of HEAD.
func selectChanged(base string, most int) (list []mutation, err error) {
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
		return nil, fmt.Errorf("-most %d chooses no mutation", most)
	}
	var counts [len(reasons)]int
	for _, c := range chosen {
		counts[c.reason]++
		list = append(list, c.mutation)
	}
	fmt.Printf("%d of %d mutations, compared with %.12s:", len(list), len(table), from)
	for reason, count := range counts {
		fmt.Printf(" %d %s;", count, reasons[reason])
	}
	fmt.Println()
	return list, nil
}

// workers is the number of mutations that run at the same time: one compiles while the tests of
// another wait for the disk.
const workers = 3

// runAll runs the mutations, prints the result of each, and returns how many no test noticed.
func runAll(list []mutation, workers int) (survived int) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards survived and the output
	queue := make(chan mutation)
	for range workers {
		wg.Go(func() {
			for m := range queue {
				start := time.Now()
				err := m.kill()
				mu.Lock()
				if err != nil {
					survived++
					fmt.Printf("SURVIVED  %s: %v\n", m.name, err)
				} else {
					fmt.Printf("killed    %-64s %s %s (%.1fs)\n", m.name, m.pkg, m.run, time.Since(start).Seconds())
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range list {
		queue <- m
	}
	close(queue)
	wg.Wait()
	return survived
}
