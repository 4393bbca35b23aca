package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// The committer comes round where nothing is to be done, and not while it is in the middle of something.
func TestWaitIdle(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t), Observe: func(ledger.CommitStats) {
		begun <- struct{}{}
		<-goOn
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	before := l.Health().LastCommit
	if err := l.WaitIdle(t.Context()); err != nil {
		t.Errorf("an idle committer did not come round: %v", err)
	}
	if after := l.Health().LastCommit; !after.Equal(before) {
		t.Error("that cost a commit")
	}

	appended := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), succeeded("evt_1", "pi_1"))
		appended <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.WaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a committer in the middle of something came round: %v", err)
	}
	close(goOn)
	if err := <-appended; err != nil {
		t.Error(err)
	}
	if err := l.WaitIdle(t.Context()); err != nil {
		t.Errorf("the committer did not come round after a commit: %v", err)
	}
	stop()
	if err := l.WaitIdle(t.Context()); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("a committer that has returned came round: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
