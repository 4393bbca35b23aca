package operator_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzQueries asks whatever can be asked. The answer is a page, or it says that there is no such
// thing or no such question: never that something is wrong with the ledger, and never nothing.
func FuzzQueries(f *testing.F) {
	for _, s := range []struct{ path, query string }{
		{"/api/payments", "limit=3&starting_after=pi_09&status=processing"},
		{"/api/payments", "created_gte=1002&created_lt=-9223372036854775808&metadata[order[1]]=3&currency=EUR&customer=cus_1"},
		{"/api/payments/pi_01", ""}, {"/api/payments/pi_01/events", "limit=1&starting_after=evt_01"}, {"/api/payments/pi_01/timeline", ""},
		{"/api/events", "type=x&outcome=quarantined&limit=100"}, {"/api/events/evt_held/body", ""}, {"/api/events/%2e%2e%2f", ""},
		{"/api/summary", "from=1970-01-01&to=2038-01-19"}, {"/api/export", "format=csv&from=0&to=9223372036854775807"},
		{"/api/summary", "from=2026-03-29&to=2026-03-30&timezone=Europe/Berlin"}, {"/api/export", "kind=payments&metadata=order,shop&excel=1&timezone=Asia/Tokyo"},
		{"/api/export", "as_of=3&format=jsonl"}, {"/api/export", "since=0&from=1970-01-01"}, {"/metrics", ""}, {"/", "limit=%zz"},
	} {
		f.Add(s.path, s.query)
	}
	handler := filled(f).Socket()
	f.Fuzz(func(t *testing.T, path, query string) {
		target := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query}
		r, err := http.NewRequest(http.MethodGet, target.String(), nil)
		if err != nil {
			return // no client can ask this
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK, http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusForbidden:
			if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: the answer is no JSON: %.200s", &target, w.Body)
			}
		default:
			t.Errorf("%s: %d %.200s", &target, w.Code, w.Body)
		}
	})
}
