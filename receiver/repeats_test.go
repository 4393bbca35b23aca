package receiver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/receiver/stripe"
)

// bbolt shows a commit to readers before its second sync returns. On a disk that takes 300 ms a
// sync, a repeat must not be told 200 in that time: the first delivery has not been told either.
func TestARepeatWaitsForTheSync(t *testing.T) {
	needsRoot(t, "strace")
	_, fresh := ownEvent(sample(t, "payment_intent.succeeded"), 1)
	_, usable := ownEvent(sample(t, "payment_intent.succeeded"), 2)
	for what, c := range map[string]struct{ before, body []byte }{
		"a new event":                   {nil, fresh},
		"one that was of no use before": {bytes.Replace(usable, []byte(`"amount": 6480`), []byte(`"amount": "?"`), 1), usable},
	} {
		t.Run(what, func(t *testing.T) {
			p := build(t)
			p.start(t)
			client := &http.Client{}
			if c.before != nil {
				if status, outcome, err := p.post(client, c.before); status != 200 || outcome != "quarantined" || err != nil {
					t.Fatal(status, outcome, err)
				}
			}
			defer tampered("fdatasync", "delay_enter=300000")(t, p)()
			var first atomic.Int64 // when the first delivery had its answer, Unix milliseconds
			var mu sync.Mutex      // guards repeats
			var repeats []int64    // when they had theirs
			var group sync.WaitGroup
			group.Go(func() {
				status, outcome, err := p.post(client, c.body)
				first.Store(time.Now().UnixMilli())
				if status != 200 || outcome != "applied" || err != nil {
					t.Error(status, outcome, err)
				}
			})
			// One repeat after the other, all through the commit of 600 ms.
			for pause := 100 * time.Millisecond; first.Load() == 0; pause = 20 * time.Millisecond {
				time.Sleep(pause)
				group.Go(func() {
					status, outcome, err := p.post(client, c.body)
					mu.Lock()
					repeats = append(repeats, time.Now().UnixMilli())
					mu.Unlock()
					if status != 200 || outcome != "already_processed" && outcome != "applied" || err != nil {
						t.Error(status, outcome, err)
					}
				})
			}
			group.Wait()
			early := 0
			for _, at := range repeats {
				if at < first.Load()-100 { // what is answered at the same time can be read in any order
					early++
				}
			}
			if early > 0 || len(repeats) < 10 {
				t.Errorf("%d of %d repeats were answered before the first delivery", early, len(repeats))
			}
		})
	}
}

// post delivers an event and returns the status and the outcome, or the code of an error.
func (p *program) post(client *http.Client, body []byte) (status int, word string, err error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+p.public+hook, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, time.Now()))
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	return outcome(resp)
}

// outcome reads an answer: its status and the word in it.
func outcome(resp *http.Response) (status int, word string, err error) {
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, "", err
	}
	var answer struct {
		Result struct{ Status string }
		Error  struct{ Code string }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "5" {
		return 0, "", errors.New("a 503 without Retry-After")
	}
	return resp.StatusCode, answer.Result.Status + answer.Error.Code, nil
}
