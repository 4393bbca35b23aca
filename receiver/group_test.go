package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver"
)

// However many parts end at once, with an error or without one, stopping waits for none of them and
// reports each once.
func TestPartsThatEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := receiver.NewGroup(slog.New(slog.DiscardHandler))
		const parts = 30
		for i := range parts {
			g.Runs(fmt.Sprintf("part %02d", i), func(context.Context) error {
				if i%2 == 0 {
					return nil
				}
				return errors.New("broken")
			})
		}
		g.Runs("part that goes on", func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
		synctest.Wait()
		first := <-g.Ended()
		begun := time.Now()
		err := errors.Join(first, g.Stop())
		if took := time.Since(begun); took != 0 {
			t.Errorf("stopping took %s", took)
		}
		for i := range parts {
			words := fmt.Sprintf("the part %02d ended: broken", i)
			if i%2 == 0 {
				words = fmt.Sprintf("the part %02d ended without being told to", i)
			}
			if n := strings.Count(err.Error(), words); n != 1 {
				t.Errorf("%q is reported %d times", words, n)
			}
		}
		if strings.Contains(err.Error(), "%!") || strings.Contains(err.Error(), "goes on") {
			t.Errorf("reported: %v", err)
		}
	})
}

func TestPhases(t *testing.T) {
	var p receiver.Phase
	for _, want := range []string{"starting", "", "stopping", "stopping"} {
		if why := p.NotServing(); (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("it says %q, want %q", why, want)
		}
		switch want {
		case "starting":
			p.Serve()
		case "":
			p.Stop()
		default:
			p.Serve() // too late
		}
	}
}
