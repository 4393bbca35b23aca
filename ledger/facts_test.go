package ledger_test

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/fold"
	"tillhook/ledger/ledgertest"
)

// The tests in this file fail if a field is added to the facts or to a payment and one of the
// places that handle every field is forgotten: the codec, the fold, the check or the timeline.

// notFolded are the fields of the facts that no payment, entry or link depends on, so that the
// check cannot notice a change of them, and why.
var notFolded = map[string]string{
	"Charge.FailureCode":    "only a sentence of the timeline states it",
	"BalanceTransaction.ID": "between two with the same fee it makes no difference which is chosen",
}

// notUsed are those of notFolded that the timeline does not use either.
var notUsed = []string{"BalanceTransaction.ID"}

// eachField calls visit for every field that is not itself a struct, of a struct and of the structs
// that its pointers and slices hold. name is that of the struct and of the field, as in Charge.ID.
func eachField(v reflect.Value, visit func(name string, field reflect.Value)) {
	for i := range v.NumField() {
		field := v.Field(i)
		switch typ := field.Type(); {
		case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
			for j := range field.Len() {
				eachField(field.Index(j), visit)
			}
		case typ.Kind() == reflect.Struct:
			eachField(field, visit)
		case typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct:
			if !field.IsNil() {
				eachField(field.Elem(), visit)
			}
		default:
			visit(v.Type().Name()+"."+v.Type().Field(i).Name, field)
		}
	}
}

// allocate gives every slice of structs one element and every pointer to a struct a zero struct.
func allocate(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Field(i)
		switch typ := field.Type(); {
		case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
			field.Set(reflect.MakeSlice(typ, 1, 1))
			allocate(field.Index(0))
		case typ.Kind() == reflect.Struct:
			allocate(field)
		case typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct:
			field.Set(reflect.New(typ.Elem()))
			allocate(field.Elem())
		}
	}
}

// others returns values of a field that differ from its present one.
func others(t *testing.T, name string, field reflect.Value) (values []reflect.Value) {
	t.Helper()
	typ := field.Type()
	switch typ.Kind() {
	case reflect.String:
		values = append(values, reflect.ValueOf(field.String()+"x").Convert(typ))
	case reflect.Int64:
		values = append(values, reflect.ValueOf(field.Int()+1).Convert(typ))
	case reflect.Uint64:
		values = append(values, reflect.ValueOf(field.Uint()+1).Convert(typ))
	case reflect.Bool:
		values = append(values, reflect.ValueOf(!field.Bool()))
	case reflect.Pointer: // to a number
		n := reflect.New(typ.Elem())
		if !field.IsNil() {
			n.Elem().SetInt(field.Elem().Int() + 1)
		}
		return []reflect.Value{n}
	case reflect.Slice: // of strings
		return []reflect.Value{reflect.ValueOf(append(slices.Clone(field.Interface().([]string)), "x"))}
	case reflect.Map:
		m := map[string]string{fmt.Sprint(field.Len()): "x"}
		maps.Copy(m, field.Interface().(map[string]string))
		return []reflect.Value{reflect.ValueOf(m)}
	default:
		t.Fatalf("%s is a %s, which this test cannot change", name, typ)
	}
	if !field.IsZero() && typ.Kind() != reflect.Bool {
		values = append(values, reflect.Zero(typ))
	}
	return values
}

// factFields returns the names of all fields of the facts.
func factFields() (names []string) {
	var f ledger.Facts
	allocate(reflect.ValueOf(&f).Elem())
	eachField(reflect.ValueOf(&f).Elem(), func(name string, _ reflect.Value) { names = append(names, name) })
	return names
}

func TestEveryFieldOfTheFactsIsStored(t *testing.T) {
	var f ledger.Facts
	allocate(reflect.ValueOf(&f).Elem())
	eachField(reflect.ValueOf(&f).Elem(), func(name string, field reflect.Value) {
		field.Set(others(t, name, field)[0])
		if got, err := ledger.StoredFacts(f); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%s: decoded as %+v, %v; want %+v", name, got, err, f)
		}
		field.SetZero()
	})
}

// derived returns what follows from the events of a payment: the payment with its entries and its
// links to other ids, and the sentences of its timeline.
func derived(t *testing.T, id string, events []fold.Event) (folded, timeline string) {
	t.Helper()
	var links []string
	for _, e := range events {
		links = append(links, e.Facts.PaymentID())
		links = append(links, e.Facts.LinkedCharges()...)
		e.Facts.EachOtherID(func(id string, charge bool) { links = append(links, fmt.Sprint(id, charge)) })
	}
	_, sentences := fold.Timeline(id, events)
	return asJSON(t, fold.Fold(id, events)) + asJSON(t, links), asJSON(t, sentences)
}

// factChange is a scenario with another value in one field of one event's facts.
type factChange struct {
	scenario string
	event    int
	field    int // as eachField counts them
	value    reflect.Value
}

// apply changes the facts of the event.
func (c *factChange) apply(f *ledger.Facts) {
	n := 0
	eachField(reflect.ValueOf(f).Elem(), func(_ string, field reflect.Value) {
		if n == c.field {
			field.Set(c.value)
		}
		n++
	})
}

// factScenarios returns all scenarios. In one of them the charge has its balance transaction, which
// only API reads have and no event of a scenario.
func factScenarios(t *testing.T) map[string]scenario {
	t.Helper()
	all := scenarios(t)
	for _, e := range all["card_paid"].events {
		for i := range e.Facts.Charges {
			c := &e.Facts.Charges[i]
			c.BalanceTransaction = &ledger.Booking{ID: "txn_1", Created: c.Created + 60, Fee: 52, Currency: c.Currency}
		}
	}
	return all
}

// usedFields changes each field in all scenarios. For each field that a payment depends on it
// returns one of the changes, and for each that a timeline depends on, true.
func usedFields(t *testing.T) (folded map[string]factChange, inTimeline map[string]bool) {
	t.Helper()
	folded, inTimeline = map[string]factChange{}, map[string]bool{}
	all := factScenarios(t)
	for _, scenario := range slices.Sorted(maps.Keys(all)) {
		s := all[scenario]
		var events []fold.Event
		for _, e := range s.events {
			events = append(events, fold.Event{ID: e.ID, Type: e.Type, Account: e.Account, APIVersion: e.APIVersion, Created: e.Created,
				Fetched: e.Source == ledger.Fetch, Facts: &e.Facts})
		}
		payment, timeline := derived(t, s.want.Payment, events)
		for i := range events {
			n := -1
			eachField(reflect.ValueOf(events[i].Facts).Elem(), func(name string, field reflect.Value) {
				n++
				if _, found := folded[name]; found && inTimeline[name] {
					return
				}
				before := reflect.New(field.Type()).Elem()
				before.Set(field)
				for _, value := range others(t, name, field) {
					field.Set(value)
					changed, sentences := derived(t, s.want.Payment, events)
					if _, found := folded[name]; !found && changed != payment {
						folded[name] = factChange{scenario, i, n, value}
					}
					inTimeline[name] = inTimeline[name] || sentences != timeline
				}
				field.Set(before)
			})
		}
	}
	return folded, inTimeline
}

func TestEveryFieldOfTheFactsIsUsed(t *testing.T) {
	folded, inTimeline := usedFields(t)
	known := map[string]bool{}
	for _, name := range factFields() {
		known[name] = true
		_, isFolded := folded[name]
		if listed := notFolded[name] != ""; isFolded == listed {
			t.Errorf("%s: a payment depends on it: %v; listed as not folded: %v", name, isFolded, listed)
		}
		if isUsed, listed := isFolded || inTimeline[name], slices.Contains(notUsed, name); isUsed == listed {
			t.Errorf("%s: used: %v; listed as not used: %v", name, isUsed, listed)
		}
	}
	for _, name := range slices.Concat(notUsed, slices.Collect(maps.Keys(notFolded))) {
		if !known[name] {
			t.Errorf("%s is listed and is not a field of the facts", name)
		}
	}
}

// A row whose facts differ in one field from those that its payment was folded from is a fault.
func TestTheCheckNoticesEveryFieldOfTheFacts(t *testing.T) {
	folded, _ := usedFields(t)
	all := factScenarios(t)
	for _, name := range factFields() {
		change, found := folded[name]
		if !found {
			continue // notFolded, see TestEveryFieldOfTheFactsIsUsed
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := ledgertest.Dir(t)
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			stop := ledgertest.Run(t, l)
			for _, e := range all[change.scenario].events {
				mustAppend(t, l, e)
			}
			stop()
			must(t, l.Close())
			file := filepath.Join(dir, "ledger.db")
			if _, err := check.Verify(t.Context(), file); err != nil {
				t.Fatal(err)
			}
			edit(t, dir, func(tx *bolt.Tx) error {
				b := tx.Bucket([]byte("events"))
				for i, at := 0, b.Cursor(); ; i++ {
					key, sealed := at.Next()
					if i == 0 {
						key, sealed = at.First()
					}
					if i < change.event {
						continue
					}
					value, err := ledger.ChangeFacts(sealed[:len(sealed)-len(ledger.Seal("events", string(key), ""))], change.apply)
					if err != nil {
						return err
					}
					return b.Put(key, ledger.Seal("events", string(key), string(value)))
				}
			})
			if _, err := check.Verify(t.Context(), file); err == nil {
				t.Errorf("another value in event %d of %s is not noticed", change.event, change.scenario)
			}
		})
	}
}

// notCompared are the fields of a payment whose change does not make an event "applied", and why.
var notCompared = map[string]string{
	"Payment.Object":    "constant",
	"Payment.ID":        "the key of the payment",
	"Payment.Livemode":  "the mode of the ledger",
	"Payment.AmountNet": "follows from the other amounts",
	"Payment.Captured":  "follows from the entries",
	"Payment.Updated":   "every event may change it",
	"Payment.Events":    "every event changes it",
}

// Every field of a payment and of its entries is stored, so that the check, which compares stored
// payments, notices it, and an event that changes it does not get the outcome "unchanged".
func TestEveryFieldOfAPaymentIsStoredAndCompared(t *testing.T) {
	type payment struct {
		Payment ledger.Payment
		Entries []ledger.Entry
	}
	whole := func() *payment { // all fields have values of their own
		var p payment
		allocate(reflect.ValueOf(&p).Elem())
		n := int64(0)
		eachField(reflect.ValueOf(&p).Elem(), func(name string, field reflect.Value) {
			n++
			switch field.Kind() {
			case reflect.String:
				field.SetString(fmt.Sprint(n))
			case reflect.Int64:
				field.SetInt(n)
			case reflect.Uint64:
				field.SetUint(uint64(n))
			case reflect.Pointer:
				field.Set(reflect.New(field.Type().Elem()))
				field.Elem().SetInt(n)
			default:
				field.Set(others(t, name, field)[0])
			}
		})
		p.Payment.Object = "payment"
		e := &p.Entries[0]
		e.ID, e.Kind = e.Object+":received", fold.Received // see encoder.entry
		return &p
	}
	p := whole()
	stored, again, entries, err := ledger.StoredPayment(&p.Payment, p.Entries)
	if err != nil || !reflect.DeepEqual(*again, p.Payment) || !slices.Equal(entries, p.Entries) {
		t.Errorf("decoded as %+v, %+v, %v; want %+v", again, entries, err, p)
	}
	if same := whole(); !ledger.SamePayment(&p.Payment, &same.Payment, p.Entries, same.Entries) {
		t.Error("two equal payments are not the same")
	}
	changed := whole()
	eachField(reflect.ValueOf(changed).Elem(), func(name string, field reflect.Value) {
		before := reflect.New(field.Type()).Elem()
		before.Set(field)
		field.Set(others(t, name, field)[0])
		if name == "Entry.Kind" {
			field.Set(reflect.ValueOf(fold.Refunded))
		}
		bytesOf, _, _, err := ledger.StoredPayment(&changed.Payment, changed.Entries)
		if constant := name == "Payment.Object" || name == "Payment.ID"; bytes.Equal(bytesOf, stored) && !constant {
			t.Errorf("%s: another value is stored in the same bytes, %v", name, err)
		}
		if same, listed := ledger.SamePayment(&p.Payment, &changed.Payment, p.Entries, changed.Entries), notCompared[name] != ""; same != listed {
			t.Errorf("%s: another value leaves the payment unchanged: %v; listed as not compared: %v", name, same, listed)
		}
		field.Set(before)
	})
}
