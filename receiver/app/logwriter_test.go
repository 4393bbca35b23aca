package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver/app"
)

// slowLog takes one write when it is told to.
type slowLog struct {
	bytes.Buffer
	take   chan struct{}
	writes int
}

func (s *slowLog) Write(p []byte) (int, error) {
	<-s.take
	s.writes++
	return s.Buffer.Write(p)
}

// Lines that come while others are being written go together, and none is lost or torn, before,
// during and after a run.
func TestLinesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{take: make(chan struct{}, 1000)}
		log.take <- struct{}{}
		lines := app.NewLogWriter(log)
		fmt.Fprintln(lines, "before")
		if log.writes != 1 {
			t.Errorf("%d writes before it runs", log.writes)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- lines.Run(ctx, noDrops(t)) }()
		synctest.Wait()
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() { fmt.Fprintf(lines, "line %02d\n", i) })
		}
		group.Wait() // no writer waits for the log
		synctest.Wait()
		for range 10 {
			log.take <- struct{}{}
		}
		synctest.Wait()
		if log.writes > 4 {
			t.Errorf("100 lines took %d writes", log.writes-1)
		}
		for len(log.take) > 0 {
			<-log.take
		}
		fmt.Fprintln(lines, "late")
		synctest.Wait() // that is being written
		fmt.Fprintln(lines, "at the end")
		cancel()
		for range 10 {
			log.take <- struct{}{}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		fmt.Fprintln(lines, "after")
		want := []string{"after", "at the end", "before", "late"}
		for i := range 100 {
			want = append(want, fmt.Sprintf("line %02d", i))
		}
		slices.Sort(want)
		got := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if got[0] != "before" || got[len(got)-1] != "after" {
			t.Errorf("it begins with %q and ends with %q", got[0], got[len(got)-1])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("the log holds %q", got)
		}
	})
}

// noDrops fails the test when lines were dropped.
func noDrops(t *testing.T) func(uint64) {
	return func(n uint64) { t.Errorf("%d lines were dropped", n) }
}

// A log that is not read makes writing wait for a tenth of a second in total; then lines are
// dropped, and counted where they are missing once the log is read again.
func TestALogThatIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{take: make(chan struct{})}
		lines := app.NewLogWriter(log)
		end := lines.Start(func(n uint64) { fmt.Fprintf(lines, "%d dropped\n", n) })
		line := strings.Repeat("x", 1023) + "\n"
		begun := time.Now()
		const count = 4096
		var senders sync.WaitGroup
		for range 8 {
			senders.Go(func() {
				for range count / 8 {
					fmt.Fprint(lines, line)
				}
			})
		}
		senders.Wait()
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("writing to a log that is not read took %s", took)
		}
		dropped := lines.Dropped()
		if dropped < count/4 || dropped > count-1000 || len(lines.Findings()) != 1 {
			t.Errorf("%d lines were dropped", dropped)
		}
		close(log.take)
		synctest.Wait()
		fmt.Fprint(lines, "after\n")
		time.Sleep(time.Minute)
		if len(lines.Findings()) != 0 || lines.Dropped() != dropped {
			t.Errorf("a minute later it finds %v, and %d were dropped", lines.Findings(), lines.Dropped())
		}
		end()
		want := strings.Repeat(line, count-int(dropped)) + fmt.Sprintf("%d dropped\n", dropped) + "after\n"
		if got := log.String(); got != want {
			t.Errorf("the log has %d bytes, want %d, and ends in %q", len(got), len(want), got[max(0, len(got)-40):])
		}
	})
}

// brokenLog fails while it is broken, as a file on a full disk or a pipe without a reader.
type brokenLog struct {
	bytes.Buffer
	broken bool
}

func (b *brokenLog) Write(p []byte) (int, error) {
	if b.broken {
		return 0, errors.New("no space")
	}
	return b.Buffer.Write(p)
}

// Lines that cannot be written count as dropped, and what is logged about that waits until lines
// can be written again.
func TestALogThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &brokenLog{broken: true}
		lines := app.NewLogWriter(log)
		end := lines.Start(func(n uint64) { fmt.Fprintf(lines, "%d dropped\n", n) })
		for i := range 3 {
			fmt.Fprintf(lines, "line %d\n", i)
			synctest.Wait()
		}
		log.broken = false
		fmt.Fprint(lines, "written\n")
		synctest.Wait()
		end()
		if got := log.String(); got != "written\n3 dropped\n" || lines.Dropped() != 3 {
			t.Errorf("the log is %q, %d were dropped", got, lines.Dropped())
		}
		log.broken = true
		end = lines.Start(noDrops(t))
		fmt.Fprint(lines, "lost\n")
		synctest.Wait()
		end() // it ends though nothing can be written
	})
}
