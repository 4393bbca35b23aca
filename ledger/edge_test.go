package ledger_test

import (
	"fmt"
	"os"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// The greatest key speaks for all others of its kind: where it, or the one behind it, is damaged, nothing else is taken for new.
func TestADamagedKeyHidesNoOther(t *testing.T) {
	for what, change := range map[string][2]string{
		"the last id": {"tevt_299", "tevt_099"}, "its kind": {"tevt_299", "pevt_299"}, "the last payment": {"pi_299\x00\x00", "pi_099\x00\x00"},
		"one in the middle": {"tevt_280", "tzvt_280"},
	} {
		t.Run(what, func(t *testing.T) {
			l, err := ledger.Open(ledger.Options{Dir: flipped(t, change[0], change[1])})
			if err != nil {
				t.Fatal(err)
			}
			stop := ledgertest.Run(t, l)
			for i := range 250 {
				res, err := l.Append(t.Context(), succeeded(fmt.Sprintf("evt_%03d", i), fmt.Sprintf("pi_%03d", i)))
				if err == nil && !res.Repeat {
					t.Fatalf("event %d is not damaged, and was booked twice", i)
				}
				_, err = l.Append(t.Context(), succeeded(fmt.Sprintf("zvt_%03d", i), fmt.Sprintf("pi_%03d", i)))
				if p, notFound := l.Payment(fmt.Sprintf("pi_%03d", i)); err == nil && (notFound != nil || p.Events != 2) {
					t.Fatalf("payment %d is not damaged, and is %+v, %v", i, p, notFound)
				}
			}
			stop()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A place is damaged, and a commit fails for a reason that passes: then events are taken again.
func TestMendingBesideDamage(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: scarred(t, `x\x00pi_150`)})
	if err != nil {
		t.Fatal(err)
	}
	l.SmallGenerations(1)
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_new", "pi_1505")) // its entry in the list by time belongs on the damaged page
	stop()
	if err := l.MendAfter(os.ErrDeadlineExceeded); err != nil {
		t.Errorf("it takes no events: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
