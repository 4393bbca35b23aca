package cli

import (
	"testing"

	"tillhook/receiver/reconcile"
)

func TestTheBar(t *testing.T) {
	at := reconcile.Progress{From: 1790000000, To: 1790003600, At: 1790001800, Recovered: 7}
	if got, want := progressBar(at), "[===============               ] up to 2026-09-21 14:43 UTC, 7 recovered"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	at.At, at.Account = at.To, "acct_7\x1b[2J"
	if got, want := progressBar(at), "[==============================] up to 2026-09-21 15:13 UTC, 7 recovered (acct_7\\u001b[2J)"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := progressBar(reconcile.Progress{}); got != "[                              ] up to 1970-01-01 00:00 UTC, 0 recovered" {
		t.Errorf("of nothing: %s", got)
	}
}
