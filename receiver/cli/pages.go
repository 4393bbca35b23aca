package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// maxListed limits the rows of a listing. tillhook export has no such limit.
const maxListed = 10_000

// perRequest is the largest number of rows in an answer of the API.
const perRequest = 100

// pageFlags are the flags of every listing command.
type pageFlags struct {
	limit  int
	after  string
	cursor string
	asJSON bool
}

func (f *pageFlags) register(c *cobra.Command) {
	c.Flags().IntVar(&f.limit, "limit", 20, fmt.Sprintf("list this `number`, 1 to %d", maxListed))
	c.Flags().StringVar(&f.after, "starting-after", "", "list what follows this `id`")
	c.Flags().StringVar(&f.cursor, "page", "", "continue where a list ended: its `next_page`")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the API's answer")
}

func (f *pageFlags) params() (url.Values, error) {
	if f.limit < 1 || f.limit > maxListed {
		return nil, usagef("--limit %d is not from 1 to %d", f.limit, maxListed)
	}
	if f.after != "" && f.cursor != "" {
		return nil, usagef("--starting-after and --page exclude each other")
	}
	v := url.Values{}
	set(v, "starting_after", f.after)
	set(v, "page", f.cursor)
	return v, nil
}

// list requests pages until it has as many rows as the user wants, passes them to show, and prints
// how to continue. A search that is stopped prints what it has found.
func (p *Program) list(c *cobra.Command, f *pageFlags, path string, params url.Values,
	show func(answer []byte) error) error {
	var list operator.List[json.RawMessage]
	var stopped bool
	err := p.ask(c, func(ctx context.Context, client *operator.Client) (answer []byte, err error) {
		list, stopped, err = p.follow(ctx, client, path, params, f.limit)
		if err = unknownValue(params, err); err != nil {
			return nil, err
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		err = enc.Encode(list)
		return text.Bytes(), err
	}, f.asJSON, show)
	switch {
	case err != nil:
		return err
	case stopped:
		found := fmt.Sprintf("%d found", len(list.Data))
		if list.ScannedTo != 0 {
			found += " back to " + terminal.Time(list.ScannedTo) + " UTC"
		}
		fmt.Fprintf(p.Stderr, "Stopped: %s. Continue with: %s\n", found, nextCommand(c, string(list.NextPage)))
		return ended{exitFailed}
	case list.HasMore && !f.asJSON:
		fmt.Fprintf(p.Stderr, "There are more: %s\n", nextCommand(c, string(list.NextPage)))
	}
	return nil
}

// unknownValue returns a usage error if a search was refused, or found nothing, and was for a value
// that Stripe does not document. Otherwise it returns err.
func unknownValue(params url.Values, err error) error {
	var refused *operator.Error
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest {
		for name := range params {
			if unknown := operator.Undocumented(name, params.Get(name)); unknown != nil {
				return usageError{unknown}
			}
		}
	}
	return err
}

// follow requests page after page and shows its progress on a terminal. stopped reports whether ctx
// ended before it was done, but after the first answer.
func (p *Program) follow(ctx context.Context, client *operator.Client, path string, params url.Values,
	limit int) (list operator.List[json.RawMessage], stopped bool, err error) {
	var found terminal.StatusText
	defer p.progress(ctx, "Searching", found.Status)()
	list = operator.List[json.RawMessage]{Object: "list", Data: []json.RawMessage{}}
	for {
		params.Set("limit", strconv.Itoa(min(perRequest, limit-len(list.Data))))
		answer, err := patiently(ctx, client, path, params)
		if err != nil && ctx.Err() != nil {
			if !list.HasMore {
				err = errors.New("stopped before it was done")
			} else {
				err = nil
			}
			return list, true, err
		}
		if err != nil {
			return list, false, err
		}
		var next operator.List[json.RawMessage]
		if err := json.Unmarshal(answer, &next); err != nil {
			return list, false, fmt.Errorf("read the receiver's answer: %w", err)
		}
		next.Data = append(list.Data, next.Data...)
		list = next
		if !list.HasMore || list.NextPage == "" || len(list.Data) >= limit {
			return list, false, nil
		}
		params.Del("starting_after")
		params.Set("page", string(list.NextPage))
		if list.ScannedTo != 0 {
			found.Set("%d found back to %s (Ctrl-C stops)", len(list.Data), terminal.TimeUTC(list.ScannedTo))
		}
	}
}

// A command repeats a request a few times while the receiver is overloaded.
const (
	tries     = 10
	tryPeriod = 2 * time.Second
)

// patiently requests an answer, and repeats the request while the receiver is overloaded.
func patiently(ctx context.Context, client *operator.Client, path string,
	params url.Values) (answer []byte, err error) {
	for n := 1; ; n++ {
		answer, err = client.Get(ctx, path, params)
		var refused *operator.Error
		if !errors.As(err, &refused) || refused.Code != "overloaded" || n == tries {
			return answer, err
		}
		timer := time.NewTimer(tryPeriod)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

// nextCommand returns the command line for the next page with the same filters.
func nextCommand(c *cobra.Command, next string) string {
	line := c.CommandPath()
	c.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if f.Value.Type() == "stringToString" { // [a=1,b=2], and read without the brackets
			value = value[1 : len(value)-1]
		}
		if f.Name != "starting-after" && f.Name != "page" {
			line += " --" + f.Name + " " + quote(value)
		}
	})
	return line + " --page " + next
}

// quote quotes a text as one word for a shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:=/") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(wording.Escape(s), "'", `'\''`) + "'"
}
