package stripe

import (
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
	// pageSize is the most Stripe gives. https://docs.stripe.com/api/pagination
	pageSize = 100
	// maxListBytes bounds what a list that is read as a whole takes in memory.
	maxListBytes = 4 << 20
	// maxListed bounds one object of such a list.
	maxListed = 64 << 10
)

// list is a page in Stripe's form. https://docs.stripe.com/api/pagination
type list struct {
	Object  string            `json:"object"`
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
}

// page reads one page of a list. next is the id to continue after; empty at the end. Where the page
// is larger than an answer may be, a smaller part of it is asked for.
func (a *API) page(ctx context.Context, path string, account Account, params url.Values, after string) (
	data []json.RawMessage, next string, as rendering, err error) {
	asked := maps.Clone(params)
	if asked == nil {
		asked = url.Values{}
	}
	if after != "" {
		asked.Set("starting_after", after)
	}
	var l list
	for limit := pageSize; ; limit /= 10 {
		asked.Set("limit", strconv.Itoa(limit))
		if as, err = a.call(ctx, http.MethodGet, path, account, asked, &l); !errors.Is(err, ErrLong) || limit == 1 {
			break
		}
	}
	if err != nil {
		return nil, "", as, err
	}
	if l.Object != "list" {
		return nil, "", as, fmt.Errorf("what Stripe answers to %s is no list: %w", path, ErrNotStripe)
	}
	if !l.HasMore {
		return l.Data, "", as, nil
	}
	// An object without a usable id is read again with the next page, at worst.
	for _, raw := range slices.Backward(l.Data) {
		var o struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(raw, &o) == nil && usableID(o.ID) && o.ID != after {
			return l.Data, o.ID, as, nil
		}
	}
	return nil, "", as, fmt.Errorf("what Stripe answers to %s says that there is more, and has no id to continue after: %w",
		path, ErrEndless)
}

// unreadable returns the error for an object of a list that cannot be read, with its id or its
// beginning.
func unreadable(raw json.RawMessage) error {
	var o struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &o) // what is read of it is enough
	if !usableID(o.ID) {
		o.ID = readable(string(raw[:min(len(raw), longestID)]), longestID)
	}
	return fmt.Errorf("%s: %w", o.ID, ErrNotStripe)
}

// whole reads a list that is short at Stripe, page by page. read returns a page and where the next
// one begins, empty at the end; take takes one object, or returns an error for one that is skipped.
func whole(what string, most int, read func(at string) (data []json.RawMessage, next string, err error),
	take func(raw json.RawMessage) error) (skipped []error, err error) {
	seen := map[string]bool{}
	size := 0
	at := ""
	for range most {
		data, next, err := read(at)
		if err != nil {
			return nil, err
		}
		for _, raw := range data {
			if size += len(raw); size > maxListBytes {
				return nil, fmt.Errorf("the list of %s has more than %d MiB: %w", what, maxListBytes>>20, ErrNotStripe)
			}
			err := fmt.Errorf("it has %d bytes", len(raw))
			if len(raw) <= maxListed {
				err = take(raw)
			}
			if err != nil {
				skipped = append(skipped, fmt.Errorf("an entry in the list of %s cannot be read and is left out: %w", what, err))
			}
		}
		if at = next; at == "" {
			return skipped, nil
		}
		if seen[at] {
			return nil, fmt.Errorf("the list of %s leads back to %.60q: %w", what, at, ErrEndless)
		}
		seen[at] = true
	}
	return nil, fmt.Errorf("the list of %s has more than %d pages: %w", what, most, ErrEndless)
}

// ErrEndless is wrapped by errors about lists that lead back to where they came from, or have more
// pages than are read.
var ErrEndless = fmt.Errorf("the list does not end: %w", ErrNotStripe)

// ErrLong is wrapped by errors about answers that are longer than they may be.
var ErrLong = fmt.Errorf("the answer is longer than %d MiB: %w", maxAnswer>>20, ErrNotStripe)
