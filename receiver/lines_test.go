package receiver_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"tillhook/receiver"
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

// Lines that come while others are being written go together, and none is lost or torn, before, during and after a run.
func TestLinesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{take: make(chan struct{}, 1000)}
		log.take <- struct{}{}
		lines := receiver.NewLines(log)
		fmt.Fprintln(lines, "before")
		if log.writes != 1 {
			t.Errorf("%d writes before it runs", log.writes)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- lines.Run(ctx) }()
		synctest.Wait()
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() { fmt.Fprintf(lines, "line %02d\n", i) })
		}
		group.Wait() // nobody waits for the log
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

// Behind a log that nobody takes, whoever logs waits before it takes all memory.
func TestLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &slowLog{take: make(chan struct{})}
		lines := receiver.NewLines(log)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- lines.Run(ctx) }()
		synctest.Wait()
		line, sent := strings.Repeat("x", 1023)+"\n", 0
		logged := make(chan struct{})
		go func() {
			defer close(logged)
			for range 4096 {
				fmt.Fprint(lines, line)
				sent++
			}
		}()
		synctest.Wait()
		if sent < 1000 || sent > 2100 {
			t.Errorf("%d kB wait for a log that takes nothing", sent)
		}
		close(log.take)
		<-logged
		cancel()
		if err := <-ended; err != nil || log.Len() != 4096*1024 {
			t.Errorf("%d bytes were written, %v", log.Len(), err)
		}
	})
}
