package ledger_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/stripe"
)

// scenario is a directory of testdata/scenarios: the events of a payment, and the expected result
// for every order of them.
type scenario struct {
	events []*ledger.Event
	want   expected
	totals expectedTotals
}

// expected is a scenario's expected.json.
type expected struct {
	Payment           string   `json:"payment"`
	Status            *string  `json:"status"`
	Currency          *string  `json:"currency"`
	Account           *string  `json:"account"`
	Amount            *int64   `json:"amount"`
	Capturable        int64    `json:"capturable"`
	Received          *int64   `json:"received"`
	Refunded          *int64   `json:"refunded"`
	DisputeWithdrawn  *int64   `json:"dispute_withdrawn"`
	DisputeReinstated *int64   `json:"dispute_reinstated"`
	Net               *int64   `json:"net"`
	Flags             []string `json:"flags"`
}

// expectedTotals are optional parts of expected.json: the customer, and the totals by day.
type expectedTotals struct {
	Customer *string `json:"customer"` // only where the scenario is about customers
	Totals   []struct {
		Day        string         `json:"day"`
		Currency   ledger.OrNull  `json:"currency"`
		Account    *ledger.OrNull `json:"account"`
		Received   int64          `json:"received"`
		Refunded   int64          `json:"refunded"`
		Withdrawn  int64          `json:"withdrawn"`
		Reinstated int64          `json:"reinstated"`
	} `json:"totals"`
}

// check compares a trial with the expected customer and totals, if there are any.
func (x *expectedTotals) check(t *testing.T, trial *ledger.Trial) {
	t.Helper()
	if got := trial.Payments[0].Customer; x.Customer != nil && string(got) != *x.Customer {
		t.Errorf("the customer is %q, want %q", got, *x.Customer)
	}
	if x.Totals == nil {
		return
	}
	want := []ledger.Total{}
	for _, d := range x.Totals {
		line := ledger.Total{Day: ledger.OrNull(d.Day), Currency: d.Currency, Received: ledger.SumOf(d.Received),
			Refunded:  ledger.SumOf(d.Refunded),
			Withdrawn: ledger.SumOf(d.Withdrawn), Reinstated: ledger.SumOf(d.Reinstated),
			Net: ledger.SumOf(d.Received - d.Refunded - d.Withdrawn + d.Reinstated)}
		if d.Account != nil {
			line.Account = *d.Account
		}
		want = append(want, line)
	}
	if got, want := asJSON(t, trial.Totals), asJSON(t, want); got != want {
		t.Errorf("the totals are %s, want %s", got, want)
	}
}

func scenarios(t testing.TB) map[string]scenario {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(scenarioDir, "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	all := map[string]scenario{}
	for _, dir := range dirs {
		var s scenario
		read(t, filepath.Join(dir, "expected.json"), &s.want)
		read(t, filepath.Join(dir, "expected.json"), &s.totals)
		fileNames, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
		if err != nil || len(fileNames) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range fileNames {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e := stripe.Decode(body, false)
			e.Source, e.Received = ledger.Webhook, time.Unix(1793000000, 0)
			if e.Quarantine != "" || !e.Facts.AboutPayment() {
				t.Fatalf("%s decodes to %+v", file, e)
			}
			s.events = append(s.events, e)
		}
		all[filepath.Base(dir)] = s
	}
	return all
}

const scenarioDir = "../testdata/scenarios"

func read(t testing.TB, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(file, err)
	}
}

// asExpected returns a payment in the form of expected.json.
func asExpected(p *ledger.Payment) expected {
	text := func(s ledger.OrNull) *string {
		if s == "" {
			return nil
		}
		return (*string)(&s)
	}
	return expected{
		Payment: p.ID, Status: text(p.Status), Currency: text(p.Currency), Account: text(p.Account), Amount: p.Amount,
		Capturable: *p.AmountCapturable, Received: p.AmountReceived, Refunded: p.AmountRefunded,
		DisputeWithdrawn: p.DisputeWithdrawn, DisputeReinstated: p.DisputeReinstated, Net: p.AmountNet, Flags: p.Flags,
	}
}

// orders calls try with every order of up to seven events, or with a number of random orders of
// more events. Events are repeated at random.
func orders(rng *rand.Rand, events []*ledger.Event, many int, try func([]*ledger.Event)) {
	again := func(order []*ledger.Event) []*ledger.Event {
		for range rng.IntN(3) {
			order = slices.Insert(order, rng.IntN(len(order)+1), order[rng.IntN(len(order))])
		}
		return order
	}
	if len(events) > 7 {
		for range many {
			order := slices.Clone(events)
			rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			try(again(order))
		}
		return
	}
	for _, permutation := range permutations(len(events)) {
		order := make([]*ledger.Event, len(events))
		for i, at := range permutation {
			order[i] = events[at]
		}
		try(again(order))
	}
}

// Every order of the events of a scenario, with repeats, results in the same bytes and in its
// expected.json. Seven events have 5,040 orders, of which the short test tries a fifth. Of more
// events it tries 1,000 orders.
func TestScenariosInEveryOrder(t *testing.T) {
	t.Parallel()
	random, one := 1000, 5
	if *long {
		random, one = 3000, 1
	}
	l := ledgertest.Open(t, false)
	for name, s := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 5))
			want, first := asJSON(t, s.want), ""
			orders(rng, s.events, random, func(order []*ledger.Event) {
				if len(s.events) == 7 && rng.IntN(one) != 0 {
					return
				}
				trial, err := l.Try(order)
				if err != nil {
					t.Fatal(err)
				}
				if len(trial.Payments) != 1 {
					t.Fatalf("%d payments of %v", len(trial.Payments), ids(order))
				}
				if got := asJSON(t, asExpected(trial.Payments[0])); got != want {
					t.Fatalf("in the order %v\n got %s\nwant %s", ids(order), got, want)
				}
				if first == "" {
					first = trial.Folded
					s.totals.check(t, trial)
				}
				if trial.Folded != first {
					t.Fatalf("the order %v results in\n%s\nand the first order in\n%s", ids(order), trial.Folded, first)
				}
			})
		})
	}
}

func ids(events []*ledger.Event) (list []string) {
	for _, e := range events {
		list = append(list, e.Type+" "+e.ID)
	}
	return list
}

// permutations returns all permutations of 0 to n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var all [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(p), at, n-1))
		}
	}
	return all
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func asText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // all types can be encoded as JSON
	}
	return string(b)
}
