package stripe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const (
	// pageSize is Stripe's maximum. https://docs.stripe.com/api/pagination
	pageSize = 100
	// maxPage bounds a page of more than one object, in bytes. A usual page of events has less
	// than 1 MB.
	maxPage = 8 << 20
	// pageStep is the factor by which the number of objects of a page changes with their size.
	pageStep = 4
	// maxListBytes bounds the memory of a list that is read completely.
	maxListBytes = 4 << 20
	// maxListedObject bounds one object of such a list, in bytes.
	maxListedObject = 64 << 10
)

// list is a page as Stripe sends it. https://docs.stripe.com/api/pagination
type list struct {
	Object  string            `json:"object"`
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
}

// page reads one page of a list. next is the id to continue after, empty on the last page. If the
// answer is too long, it asks for fewer objects, and so do the next pages of that path until they
// are short.
func (a *API) page(ctx context.Context, path string, account Account, params url.Values, after string) (
	data []json.RawMessage, next string, as answerInfo, err error) {
	asked := maps.Clone(params)
	if asked == nil {
		asked = url.Values{}
	}
	if after != "" {
		asked.Set("starting_after", after)
	}
	var l list
	limit := a.pageLimit(path)
	for ; ; limit /= pageStep {
		asked.Set("limit", strconv.Itoa(limit))
		bounded := ctx
		if limit > 1 {
			bounded = context.WithValue(ctx, pageKey{}, int64(maxPage))
		}
		if as, err = a.call(bounded, http.MethodGet, path, account, asked, &l); !errors.Is(err, ErrLong) || limit == 1 {
			break
		}
	}
	if err != nil {
		return nil, "", as, err
	}
	a.setPageLimit(path, limit, l.Data)
	if l.Object != "list" {
		return nil, "", as, fmt.Errorf("the answer to %s from Stripe is not a list: %w", path, ErrNotStripe)
	}
	if !l.HasMore {
		return l.Data, "", as, nil
	}
	// At worst an object without a usable id is read again with the next page.
	for _, raw := range slices.Backward(l.Data) {
		var o struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(raw, &o) == nil && usableID(o.ID) && o.ID != after {
			return l.Data, o.ID, as, nil
		}
	}
	return nil, "", as, fmt.Errorf("the answer to %s from Stripe announces another page but has no id to continue after: %w",
		path, ErrEndless)
}

// pageLimit returns the number of objects to ask for in a page.
func (a *API) pageLimit(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return cmp.Or(a.limits[path], pageSize)
}

// setPageLimit sets the number of objects of the next page after a page that was read with limit:
// more, if that page was so short that one with more objects would probably fit.
func (a *API) setPageLimit(path string, limit int, data []json.RawMessage) {
	size := 0
	for _, raw := range data {
		size += len(raw)
	}
	if limit < pageSize && size*pageStep < maxPage {
		limit = min(limit*pageStep, pageSize)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if delete(a.limits, path); limit < pageSize {
		if a.limits == nil {
			a.limits = map[string]int{}
		}
		a.limits[path] = limit
	}
}

// unreadable returns the error for an object of a list that cannot be read. It names the id, or the
// beginning of the object.
func unreadable(raw json.RawMessage) error {
	var o struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &o) // an id that cannot be read is replaced below
	if !usableID(o.ID) {
		o.ID = readable(string(raw[:min(len(raw), longestID)]), longestID)
	}
	return fmt.Errorf("%s: %w", o.ID, ErrNotStripe)
}

// readWholeList reads all pages of a list, at most maxPages. read returns a page and the start of
// the next one, which is empty on the last page. add adds one object, or returns an error for an
// object to skip.
func readWholeList(what string, maxPages int, read func(at string) (data []json.RawMessage, next string, err error),
	add func(raw json.RawMessage) error) (skipped []error, err error) {
	seen := map[string]bool{}
	size := 0
	at := ""
	for range maxPages {
		data, next, err := read(at)
		if err != nil {
			return nil, err
		}
		for _, raw := range data {
			if size += len(raw); size > maxListBytes {
				return nil, fmt.Errorf("the list of %s has more than %d MiB: %w", what, maxListBytes>>20, ErrNotStripe)
			}
			err := fmt.Errorf("it has %d bytes", len(raw))
			if len(raw) <= maxListedObject {
				err = add(raw)
			}
			if err != nil {
				skipped = append(skipped, fmt.Errorf("skipped an unreadable entry in the list of %s: %w", what, err))
			}
		}
		if at = next; at == "" {
			return skipped, nil
		}
		if seen[at] {
			return nil, fmt.Errorf("the list of %s returns to %.60q: %w", what, at, ErrEndless)
		}
		seen[at] = true
	}
	return nil, fmt.Errorf("the list of %s has more than %d pages: %w", what, maxPages, ErrEndless)
}

// ErrEndless is wrapped by errors about lists that return to an earlier page or have too many
// pages.
var ErrEndless = fmt.Errorf("the list does not end: %w", ErrNotStripe)

// ErrLong is wrapped by errors about answers that are too long.
var ErrLong = fmt.Errorf("the answer is longer than %d MiB: %w", maxAnswer>>20, ErrNotStripe)
