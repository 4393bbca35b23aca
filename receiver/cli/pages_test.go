package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/receiver/cli"
)

// answering starts a receiver that answers every request with the result of answer.
func answering(t *testing.T, answer func(r *http.Request) (status int, body string)) (environ []string) {
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		status, body := answer(r)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	})
}

// serving starts a receiver whose socket is served by answer.
func serving(t *testing.T, answer http.HandlerFunc) (environ []string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answer}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return []string{"TILLHOOK_OPERATOR_SOCKET=" + socket}
}

// A command requests page after page until it has as many rows as it should list, whatever the size
// of the pages.
func TestACommandFollowsPages(t *testing.T) {
	var asked []string
	environ := answering(t, func(r *http.Request) (int, string) {
		q := r.URL.Query()
		asked = append(asked, q.Get("page")+"/"+q.Get("limit")+"/"+q.Get("customer"))
		switch q.Get("page") {
		case "":
			return 200, `{"object":"list","data":[],"has_more":true,"next_page":"A","scanned_to":1767225600}`
		case "A":
			return 200, `{"object":"list","data":[{"object":"payment","id":"pi_1"},{"object":"payment","id":"pi_2"}],"has_more":true,"next_page":"B","scanned_to":1767220000}`
		case "B":
			return 200, `{"object":"list","data":[{"object":"payment","id":"pi_3"}],"has_more":true,"next_page":"C","scanned_to":null}`
		}
		return 200, `{"object":"list","data":[],"has_more":false,"next_page":null,"scanned_to":null}`
	})
	for _, c := range []struct {
		args                []string
		asked, says, prints string
	}{
		{[]string{"payments", "--customer", "cus_1", "--limit", "3"}, "/3/cus_1 A/3/cus_1 B/1/cus_1", "There are more: tillhook payments --customer cus_1 --limit 3 --page C\n", "pi_3"},
		{[]string{"payments", "--limit", "2"}, "/2/ A/2/", "There are more: tillhook payments --limit 2 --page B\n", "pi_2"},
		{[]string{"payments", "--limit", "900"}, "/100/ A/100/ B/100/ C/100/", "", "pi_3"},
		{[]string{"payments", "--page", "C"}, "C/20/", "No payments.\n", ""},
		{[]string{"payments", "--page", "B", "--json", "--limit", "1"}, "B/1/", "", `{"object":"list","data":[{"object":"payment","id":"pi_3"}],"has_more":true,"next_page":"C","scanned_to":null}`},
		{[]string{"payments", "--json"}, "/20/ A/20/ B/18/ C/17/", "", `{"object":"payment","id":"pi_3"}],"has_more":false,"next_page":null,"scanned_to":null}`},
	} {
		asked = nil
		var out, errs bytes.Buffer
		status := (&cli.Program{Environ: environ, Stdout: &out, Stderr: &errs}).Run(t.Context(), c.args)
		if got := strings.Join(asked, " "); status != 0 || got != c.asked || errs.String() != c.says || !strings.Contains(out.String(), c.prints) {
			t.Errorf("%v: status %d, it asked %s and said %q:\n%s", c.args, status, got, errs.String(), out.String())
		}
	}
}

// A search that is stopped shows what it has found, and how to continue.
func TestAStoppedSearchSaysHowToGoOn(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	environ := answering(t, func(r *http.Request) (int, string) {
		if r.URL.Query().Get("page") != "" {
			stop() // as Ctrl-C does
			<-r.Context().Done()
		}
		return 200, `{"object":"list","data":[{"object":"payment","id":"pi_1"}],"has_more":true,"next_page":"A","scanned_to":1767225600}`
	})
	var out, errs bytes.Buffer
	p := &cli.Program{Environ: environ, Stdout: &out, Stderr: &errs}
	status := p.Run(ctx, []string{"payments", "--status", "canceled"})
	if want := "Stopped: 1 found back to 2026-01-01 00:00:00 UTC. Continue with: tillhook payments --status canceled --page A\n"; status != 1 || errs.String() != want || !strings.Contains(out.String(), "pi_1") {
		t.Errorf("status %d, it said %q:\n%s", status, errs.String(), out.String())
	}
	errs.Reset()
	if status := p.Run(ctx, []string{"payments", "--page", "A"}); status != 1 || errs.String() != "tillhook: stopped before it was done\n" {
		t.Errorf("stopped at once: status %d, it said %q", status, errs.String())
	}
}

// A sentence ends in one full stop, even after an error whose text ends in one.
func TestADoctorsSentencesEndOnce(t *testing.T) {
	environ := answering(t, func(*http.Request) (int, string) {
		return 503, `{"error":{"code":"not_configured","message":"The receiver is not configured; its log says what is wrong."}}`
	})
	t.Chdir(t.TempDir())
	var out bytes.Buffer
	p := &cli.Program{Environ: append(environ, "TILLHOOK_LISTEN=127.0.0.1:0", "TILLHOOK_OPERATOR_LISTEN=off"), Root: t.TempDir(), Stdout: &out, Stderr: &out}
	p.Run(t.Context(), []string{"doctor", "--offline"})
	if said := out.String(); !strings.Contains(said, "its log says what is wrong.\n") || strings.Contains(said, "..") {
		t.Errorf("it says\n%s", said)
	}
}

// The receiver refuses a value that Stripe does not document once it came to the end of the ledger
// without finding it. A command reports that as a mistake in its arguments. An empty list is no
// mistake: another filter may leave out the rows that hold the value.
func TestASearchForAnUnknownValue(t *testing.T) {
	environ := answering(t, func(r *http.Request) (int, string) {
		if r.URL.Query().Get("page") == "" {
			return 200, `{"object":"list","data":[],"has_more":true,"next_page":"A","scanned_to":1767225600}`
		}
		if q := r.URL.Query(); q.Get("customer") == "" && q.Get("status") != "canceled" && q.Get("type") != "invoice.created" {
			return 400, `{"error":{"code":"invalid_request","message":"nothing was found with it"}}`
		}
		return 200, `{"object":"list","data":[],"has_more":false,"next_page":null,"scanned_to":null}`
	})
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"payments", "--status", "success"}, 2, "tillhook: status \"success\" is not a status of a PaymentIntent, and nothing was found with it: did you mean succeeded?\nTry: tillhook payments --help\n"},
		{[]string{"payments", "--currency", "Dollars", "--json"}, 2, `currency "dollars" is not the code of a currency`},
		{[]string{"events", "--type", "charge.refnded"}, 2, "did you mean charge.refunded?"},
		{[]string{"payments", "--currency", "EUR", "--status", "canceled"}, 0, "No payments.\n"},
		{[]string{"payments", "--status", "success", "--customer", "cus_1"}, 0, "No payments.\n"},
		{[]string{"events", "--type", "invoice.created"}, 0, "No events.\n"},
	} {
		var out, errs bytes.Buffer
		status := (&cli.Program{Environ: environ, Stdout: &out, Stderr: &errs}).Run(t.Context(), c.args)
		if status != c.status || !strings.Contains(errs.String(), c.says) || out.Len() > 0 {
			t.Errorf("%v: status %d, it said %q and printed %q", c.args, status, errs.String(), out.String())
		}
	}
}
