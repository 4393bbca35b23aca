package operator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	Object string `json:"object"`
	Data   []T    `json:"data"`
	ListEnd
}

// ListEnd describes what follows a page.
type ListEnd struct {
	// HasMore reports that there may be more. A search ends early when it has examined as many rows
	// as one request may: then a page can be empty although there is more.
	HasMore bool `json:"has_more"`
	// NextPage is the value of the parameter page for the next page; empty at the end, and in lists
	// that have one page.
	NextPage ledger.OrNull `json:"next_page"`
	// ScannedTo is the time up to which a search that ended early has come.
	ScannedTo ledger.OrNullTime `json:"scanned_to"`
}

func endOf[T any](page ledger.Page[T]) ListEnd {
	return ListEnd{page.Next != "", ledger.OrNull(page.Next), page.ScannedTo}
}

// writeList answers with a list. It encodes one element at a time, because a hundred payments with
// much metadata take many megabytes.
func writeList[T any](op *Operator, w http.ResponseWriter, r *http.Request, data []T, end ListEnd) {
	op.answer(w, r, http.StatusOK, func(w io.Writer) error {
		if _, err := io.WriteString(w, `{"object":"list","data":[`); err != nil {
			return err
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		for i, element := range data {
			text.Reset()
			if i > 0 {
				text.WriteByte(',')
			}
			if err := enc.Encode(element); err != nil {
				return err
			}
			if _, err := w.Write(bytes.TrimSuffix(text.Bytes(), []byte("\n"))); err != nil {
				return err
			}
		}
		text.Reset()
		if err := enc.Encode(end); err != nil {
			return err
		}
		text.Bytes()[0] = ',' // its brace
		_, err := w.Write(append([]byte("]"), text.Bytes()...))
		return err
	})
}

const (
	defaultLimit = 10
	maxLimit     = 100
)

// query reads the parameters of a request and keeps the first error. Each parameter may be given
// once. An unknown one is an error, because a misspelt filter would otherwise list everything.
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

// mustBeOneOf fails if a parameter has a value that is not one of the words.
func mustBeOneOf[T ~string](q *query, name string, value T, words []T) {
	if value != "" && !slices.Contains(words, value) {
		q.fail("%s %.80q is not %s", name, value, OrList(words))
	}
}

func (q *query) text(name string) string {
	v := q.values.Get(name)
	q.values.Del(name)
	return v
}

// limit reads the size of a page.
func (q *query) limit(usual, most int) int {
	s := q.text("limit")
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		q.fail("limit is not a number from 1 to %d", most)
		return usual
	}
	return n
}

// pageStart reads where a page begins: after an id, or at the end of the previous page.
func (q *query) pageStart() (after, page string) {
	after, page = q.text("starting_after"), q.text("page")
	if after != "" && page != "" {
		q.fail("starting_after and page exclude each other")
	}
	return after, page
}

// between reads two bounds in time.
func (q *query) between(fromName, toName string, zone *time.Location) (from, to *int64) {
	from, to = q.time(fromName, zone), q.time(toName, zone)
	if from != nil && to != nil && *from > *to {
		q.fail("%s is later than %s", fromName, toName)
	}
	return from, to
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

// end returns the first error. A parameter that was not read is one.
func (q *query) end() error {
	for name := range q.values {
		q.fail("unknown parameter %q", name)
	}
	return q.err
}

func (op *Operator) payments(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r)
	find := ledger.PaymentQuery{
		Status: q.text("status"), Currency: strings.ToLower(q.text("currency")), Customer: q.text("customer"), Account: q.text("account"),
		Flag: q.text("flag"), Metadata: q.pairs("metadata"), Limit: q.limit(defaultLimit, maxLimit),
	}
	find.CreatedGTE, find.CreatedLT = q.between("created_gte", "created_lt", time.UTC)
	find.After, find.Page = q.pageStart()
	mustBeOneOf(q, "flag", find.Flag, ledger.Flags[:])
	if err := q.end(); err != nil {
		return err
	}
	var value unverifiedValue
	if rest, ok := strings.CutPrefix(find.Page, nothingYet); ok {
		find.Page = rest
		value.error = cmp.Or(Undocumented("status", find.Status), Undocumented("currency", find.Currency))
	} else if find.Page == "" && find.After == "" { // other pages need no check
		status, err := op.checkStatus(r.Context(), find.Status)
		if err != nil {
			return err
		}
		if value, err = op.checkCurrency(r.Context(), find.Currency); err != nil {
			return err
		}
		value.error = cmp.Or(status.error, value.error)
	}
	page, err := op.Ledger.Payments(r.Context(), find)
	sole := (find.Status == "" || find.Currency == "") && find.Customer+find.Account+find.Flag+find.After == "" &&
		len(find.Metadata) == 0 && find.CreatedGTE == nil && find.CreatedLT == nil
	if err == nil && sole {
		err = finish(&page, value)
	}
	if err != nil {
		return err
	}
	writeList(op, w, r, page.Data, endOf(page))
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

// timeline answers with the history of a payment, the oldest entry first.
func (op *Operator) timeline(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	moments, whole, err := op.Ledger.Timeline(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	writeList(op, w, r, moments, ListEnd{HasMore: !whole}) // entries that are left out have no page
	return nil
}

func (op *Operator) paymentEvents(w http.ResponseWriter, r *http.Request) error {
	return op.listEvents(w, r, false, func(ctx context.Context, find ledger.EventQuery) (eventPage, error) {
		return op.Ledger.PaymentEvents(ctx, r.PathValue("id"), find)
	})
}

func (op *Operator) events(w http.ResponseWriter, r *http.Request) error {
	return op.listEvents(w, r, true, op.Ledger.Events)
}

// eventPage is a page of events.
type eventPage = ledger.Page[*ledger.EventRecord]

// listEvents answers with a page of events; all reports whether list goes through the whole ledger.
func (op *Operator) listEvents(w http.ResponseWriter, r *http.Request, all bool,
	list func(context.Context, ledger.EventQuery) (eventPage, error)) error {
	q := parseQuery(r)
	find := ledger.EventQuery{Type: q.text("type"), Outcome: ledger.Outcome(q.text("outcome")),
		Limit: q.limit(defaultLimit, maxLimit)}
	find.After, find.Page = q.pageStart()
	mustBeOneOf(q, "outcome", find.Outcome, ledger.Outcomes[:])
	if err := q.end(); err != nil {
		return err
	}
	var value unverifiedValue
	if rest, ok := strings.CutPrefix(find.Page, nothingYet); ok {
		find.Page, value.error = rest, Undocumented("type", find.Type)
	} else if find.Page == "" && find.After == "" {
		var err error
		if value, err = op.checkType(r.Context(), find.Type); err != nil {
			return err
		}
	}
	page, err := list(r.Context(), find)
	if err == nil && all && find == (ledger.EventQuery{Type: find.Type, Limit: find.Limit, Page: find.Page}) {
		err = finish(&page, value)
	}
	if err != nil {
		return err
	}
	writeList(op, w, r, page.Data, endOf(page))
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

// body answers with the bytes as they were signed. They are JSON if Stripe sent JSON.
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

// dismiss records that a person has examined an event in quarantine.
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
