package ledger_test

import (
	"slices"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

func TestCheckpointsSurviveARestart(t *testing.T) {
	dir := ledgertest.Dir(t)
	first, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, first)
	if n, err := first.Checkpoint("a"); n != 0 || err != nil {
		t.Errorf("a checkpoint that was never set is %d, %v", n, err)
	}
	for _, checkpoints := range []map[string]int64{{"a": 7, "b": -1}, {"a": 1790000000}} {
		if err := first.SetCheckpoints(t.Context(), checkpoints); err != nil {
			t.Fatal(err)
		}
	}
	e := succeeded("evt_1", "pi_1")
	e.Account = "acct_b"
	mustAppend(t, first, e)
	e = succeeded("evt_2", "pi_2")
	e.Account = "acct_a"
	mustAppend(t, first, e)
	otherMode := succeeded("evt_3", "pi_3")
	otherMode.Account, otherMode.Livemode, otherMode.Quarantine = "acct_c", true, ledger.WrongMode
	mustAppend(t, first, otherMode)
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	for name, want := range map[string]int64{"a": 1790000000, "b": -1, "c": 0} {
		if n, err := l.Checkpoint(name); n != want || err != nil {
			t.Errorf("checkpoint %s is %d, %v; want %d", name, n, err, want)
		}
	}
	if accounts, err := l.Accounts(); err != nil ||
		!slices.Equal(accounts, []ledger.Account{{ID: "acct_a"}, {ID: "acct_b"}}) {
		t.Errorf("the accounts are %v, %v", accounts, err)
	}
}
