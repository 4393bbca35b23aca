package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger"
)

// List is a page, newest first. https://docs.stripe.com/api/pagination
type List[T any] struct {
	Object  string `json:"object"`
	Data    []T    `json:"data"`
	HasMore bool   `json:"has_more"`
	// NextPage is what the parameter page takes for the next page; empty at the end, and in lists
	// that have one page.
	NextPage ledger.OrNull `json:"next_page"`
}

// listOf makes a list. next is the next page's cursor, of use where there is more.
func listOf[T any](page []T, more bool, next func(last T) string) List[T] {
	if page == nil {
		page = []T{}
	}
	list := List[T]{Object: "list", Data: page, HasMore: more}
	if more && len(page) > 0 && next != nil {
		list.NextPage = ledger.OrNull(next(page[len(page)-1]))
	}
	return list
}

const (
	defaultLimit = 10
	maxLimit     = 100
)

// query reads the parameters of a request. Each may come once; one that nobody asked for is an error:
// a filter that is misspelt would otherwise list everything.
type query struct {
	values url.Values
	err    error
}

func parseQuery(r *http.Request, repeated ...string) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.fail("the query cannot be read")
	}
	for name, list := range values {
		if len(list) > 1 && !slices.Contains(repeated, name) {
			q.fail("%s is given %d times", name, len(list))
		}
	}
	return q
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = &Error{http.StatusBadRequest, "invalid_request", fmt.Sprintf(format, args...)}
	}
}

func (q *query) text(name string) string {
	v := q.values.Get(name)
	q.values.Del(name)
	return v
}

func (q *query) integer(name string) *int64 {
	s := q.text(name)
	if s == "" {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		q.fail("%s is not a whole number (Unix seconds)", name)
	}
	return &n
}

func (q *query) limit() int {
	s := q.text("limit")
	if s == "" {
		return defaultLimit
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxLimit {
		q.fail("limit is not a number from 1 to %d", maxLimit)
		return defaultLimit
	}
	return n
}

// after reads the id of the payment before the page.
func (q *query) after() string {
	after, page := q.text("starting_after"), q.text("page")
	if after != "" && page != "" {
		q.fail("starting_after and page exclude each other")
	}
	return cmp.Or(after, page)
}

// pairs reads name[KEY]=value.
func (q *query) pairs(name string) map[string]string {
	var m map[string]string
	for param := range q.values {
		key, ok := strings.CutPrefix(param, name+"[")
		if key, ok2 := strings.CutSuffix(key, "]"); ok && ok2 && key != "" {
			if m == nil {
				m = map[string]string{}
			}
			m[key] = q.text(param)
		}
	}
	return m
}

// end tells the first fault, an unknown parameter included.
func (q *query) end() error {
	for name := range q.values {
		q.fail("unknown parameter %q", name)
	}
	return q.err
}

func (op *Operator) payments(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r)
	find := ledger.PaymentQuery{
		Status: q.text("status"), Currency: strings.ToLower(q.text("currency")), Customer: q.text("customer"),
		CreatedGTE: q.integer("created_gte"), CreatedLT: q.integer("created_lt"), Metadata: q.pairs("metadata"),
		After: q.after(), Limit: q.limit(),
	}
	if err := q.end(); err != nil {
		return err
	}
	page, more, err := op.Ledger.Payments(find)
	if err != nil {
		return err
	}
	op.write(w, r, http.StatusOK, listOf(page, more, func(p *ledger.Payment) string { return p.ID }))
	return nil
}

func (op *Operator) payment(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	p, err := op.Ledger.Payment(r.PathValue("id"))
	if err != nil {
		return err
	}
	op.write(w, r, http.StatusOK, p)
	return nil
}

// story tells what happened to a payment, the oldest first: a story begins at its beginning.
func (op *Operator) story(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	moments, whole, err := op.Ledger.Story(r.PathValue("id"))
	if err != nil {
		return err
	}
	op.write(w, r, http.StatusOK, listOf(moments, !whole, nil))
	return nil
}

func (op *Operator) paymentEvents(w http.ResponseWriter, r *http.Request) error {
	return op.listEvents(w, r, func(find ledger.EventQuery) ([]*ledger.EventRecord, bool, error) {
		return op.Ledger.PaymentEvents(r.PathValue("id"), find)
	})
}

func (op *Operator) events(w http.ResponseWriter, r *http.Request) error {
	return op.listEvents(w, r, op.Ledger.Events)
}

func (op *Operator) listEvents(w http.ResponseWriter, r *http.Request, list func(ledger.EventQuery) ([]*ledger.EventRecord, bool, error)) error {
	q := parseQuery(r)
	find := ledger.EventQuery{Type: q.text("type"), Outcome: ledger.Outcome(q.text("outcome")), After: q.text("starting_after"), Limit: q.limit()}
	if page := q.text("page"); page != "" {
		var err error
		if find.Below, err = strconv.ParseUint(page, 10, 64); err != nil || find.Below == 0 {
			q.fail("page is not the next_page of a list of events")
		}
		if find.After != "" {
			q.fail("starting_after and page exclude each other")
		}
	}
	if find.Outcome != "" && !slices.Contains(ledger.Outcomes[:], find.Outcome) {
		q.fail("outcome is none of %v", ledger.Outcomes)
	}
	if err := q.end(); err != nil {
		return err
	}
	page, more, err := list(find)
	if err != nil {
		return err
	}
	// By its sequence, because an event that left quarantine has two rows.
	op.write(w, r, http.StatusOK, listOf(page, more, func(e *ledger.EventRecord) string { return strconv.FormatUint(e.Sequence, 10) }))
	return nil
}

func (op *Operator) event(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	e, err := op.Ledger.Event(r.PathValue("id"))
	if err != nil {
		return err
	}
	op.write(w, r, http.StatusOK, e)
	return nil
}

// body answers with the bytes as they were signed. They are JSON as far as Stripe sent JSON.
func (op *Operator) body(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	raw, err := op.Ledger.Body(r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	if _, err := w.Write(raw); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		op.Log.Debug("the body could not be sent", "path", r.URL.Path, "error", err)
	}
	return nil
}

// dismiss notes that a person has looked at an event in quarantine.
func (op *Operator) dismiss(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	if err := op.Ledger.Dismiss(ctx, r.PathValue("id")); err != nil {
		return err
	}
	return op.event(w, r)
}
