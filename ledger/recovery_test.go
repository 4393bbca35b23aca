package ledger_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// A backup that found no room is made within a minute after there is some.
func TestABackupOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := ledgertest.Start(t, ledger.Options{Dir: dir, CheckEvery: time.Hour})
		info, err := os.Stat(l.Path())
		if err != nil {
			t.Fatal(err)
		}
		ledgertest.FillDisk(t, l)
		stop := backing(t, &ledger.Backups{Ledger: l, Dir: filepath.Join(dir, "backups"), Every: 24 * time.Hour, Keep: 2})
		time.Sleep(12 * time.Minute)
		if err := os.Truncate(l.Path(), info.Size()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		tries := stop()
		last := tries[len(tries)-1]
		if !errors.Is(tries[0].err, ledger.ErrNoSpace) || last.err != nil || len(tries) > 40 {
			t.Errorf("the tries were %+v", tries)
		}
	})
}

// A try that fills a disk, which takes its time, is not made again at once.
func TestABackupThatFillsTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fill := func(context.Context, string) error { time.Sleep(12 * time.Second); return syscall.ENOSPC }
		b := &ledger.Backups{Ledger: ledgertest.Open(t, false), Dir: t.TempDir(), Every: 24 * time.Hour, Keep: 2, Verify: fill}
		stop := backing(t, b)
		time.Sleep(time.Hour)
		if n := len(stop()); n < 6 || n > 20 {
			t.Errorf("%d tries were made in an hour", n)
		}
	})
}

// The lag of a clock that was ahead ends with the fault, not with the next look for bodies.
func TestTheLagOfAClockThatIsRightAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wrongClock{}
		l, end := w.open(t, t.TempDir(), 10*aDay)
		defer end()
		w.came(t, l, "evt_1")
		w.by.Store(int64(100 * aDay))
		time.Sleep(90 * time.Second)
		if lag := l.RetentionLag(); lag < 99*aDay {
			t.Errorf("while it is ahead the lag is %s", lag)
		}
		w.by.Store(0)
		if lag := l.RetentionLag(); lag > time.Hour {
			t.Errorf("when it is right again the lag is %s", lag)
		}
	})
}
