package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// WaitIdle returns if the committer has nothing to do, and not while it commits.
func TestWaitIdle(t *testing.T) {
	begun, resume := make(chan struct{}), make(chan struct{})
	l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t), Observe: func(ledger.CommitStats) {
		begun <- struct{}{}
		<-resume
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	before := l.Health().LastCommit
	if err := l.WaitIdle(t.Context()); err != nil {
		t.Errorf("with an idle committer WaitIdle returned %v", err)
	}
	if after := l.Health().LastCommit; !after.Equal(before) {
		t.Error("WaitIdle caused a commit")
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
		t.Errorf("during a commit WaitIdle returned %v", err)
	}
	close(resume)
	if err := <-appended; err != nil {
		t.Error(err)
	}
	if err := l.WaitIdle(t.Context()); err != nil {
		t.Errorf("after a commit WaitIdle returned %v", err)
	}
	stop()
	if err := l.WaitIdle(t.Context()); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("after Run has ended WaitIdle returned %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
