package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver/app"
)

// However many parts end by themselves, with an error or without one, Stop waits for none of them
// and reports each once.
func TestPartsThatEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := app.NewGroup(slog.New(slog.DiscardHandler))
		const parts = 30
		for i := range parts {
			g.Go(fmt.Sprintf("part %02d", i), func(context.Context) error {
				if i%2 == 0 {
					return nil
				}
				return errors.New("broken")
			})
		}
		g.Go("part that goes on", func(ctx context.Context) error {
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
				words = fmt.Sprintf("the part %02d ended by itself", i)
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
