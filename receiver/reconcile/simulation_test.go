package reconcile_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe/stripetest"
)

var long = flag.Bool("long", false, "simulate many months")

// Months of a shop whose receiver stops for hours and days, whose endpoint is disabled at times,
// whose API fails, and whose event list is late. In the end the ledger has every event once.
func TestMonthsOfAShop(t *testing.T) {
	t.Parallel()
	seeds := 3
	if *long {
		seeds = 100
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { liveThrough(t, rand.New(rand.NewPCG(seed, 6))) })
	}
}

func liveThrough(t *testing.T, rng *rand.Rand) {
	s := newShop(t)
	begin := time.Now().Add(-60 * 24 * time.Hour)
	now := begin
	s.account.SetNow(func() time.Time { return now })
	made := 0
	type late struct {
		at   time.Time
		body []byte
	}
	var unseen []late // made, and not in the list yet
	var retries [][]byte
	rounds, failed := 0, 0
	for day := 0; now.Before(begin.Add(45 * 24 * time.Hour)); day++ {
		delivering := rng.IntN(3) > 0
		pause := time.Duration(15+rng.IntN(600)) * time.Minute
		if rng.IntN(12) == 0 {
			pause = time.Duration(1+rng.IntN(9)) * 24 * time.Hour
			delivering = false
		}
		for range rng.IntN(40) {
			at := now.Add(time.Duration(rng.Int64N(int64(pause))))
			body := payment(made, "payment_intent.succeeded", at.Unix())
			made++
			unseen = append(unseen, late{at.Add(time.Duration(rng.IntN(540)) * time.Second), body})
			switch {
			case delivering && rng.IntN(4) > 0:
				s.deliver(body)
			case rng.IntN(3) == 0:
				retries = append(retries, body)
			}
		}
		now = now.Add(pause)
		unseen = slices.DeleteFunc(unseen, func(l late) bool {
			if l.at.After(now) {
				return false
			}
			s.account.AddEvent(l.body, "")
			return true
		})
		for len(retries) > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(len(retries))
			s.deliver(retries[i])
			retries = slices.Delete(retries, i, i+1)
		}
		for range rng.IntN(4) {
			s.account.Fail([]stripetest.Fault{{Status: 429, RetryAfter: "0"}, {Status: 500}, {Cut: true}, {HTML: true}, {Status: 402}, {Path: "/v1/events", Status: 402}}[rng.IntN(6)])
		}
		if rng.IntN(5) == 0 { // a restart, which forgets what is not in the ledger
			s.Reconciler = reconcile.New(s.options)
		}
		rounds++
		if _, err := s.Round(t.Context(), reconcile.Request{}); err != nil {
			failed++
		}
	}
	now = now.Add(time.Hour)
	for _, l := range unseen {
		s.account.AddEvent(l.body, "")
	}
	s.account.ClearFaults()
	s.round(reconcile.Request{})
	for _, body := range retries {
		s.deliver(body)
	}
	if n := s.events(); n != uint64(made) {
		t.Errorf("%d events are in the ledger, %d were made", n, made)
	}
	missing := 0
	for i := range made {
		p, err := s.books.Payment(fmt.Sprintf("pi_3QbMissed%07d", i))
		if err != nil {
			if missing++; missing < 5 {
				t.Errorf("payment %d: %v", i, err)
			}
			continue
		}
		if p.Events != 1 || *p.AmountReceived != 4900 {
			t.Errorf("payment %d is booked as %+v", i, p)
		}
	}
	recovered := 0
	page, err := s.books.Events(t.Context(), ledger.EventQuery{Limit: made})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Data {
		if e.Source == ledger.Reconcile {
			recovered++
		}
	}
	if recovered == 0 || failed == 0 || failed == rounds {
		t.Errorf("%d of %d events were recovered, %d of %d rounds failed: that shows nothing", recovered, made, failed, rounds)
	}
	t.Logf("%d events in %d rounds, of which %d failed; %d events recovered", made, rounds, failed, recovered)
}
