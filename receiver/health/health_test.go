package health_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver/health"
)

func TestReportAsJSON(t *testing.T) {
	got, err := json.Marshal(health.NewReport([]health.Finding{
		{Code: health.Log, Severity: health.OK, Message: "The log is read."},
		{Code: health.Clock, Severity: health.Unknown, Message: "Unknown."},
		{Code: health.Storage, Severity: health.Warn, Message: "Full.", Next: "free some space", Since: 7},
	}))
	want := `{"status":"warn","findings":[{"code":"log","severity":"ok","message":"The log is read.","next":null,"since":null},` +
		`{"code":"clock","severity":"unknown","message":"Unknown.","next":null,"since":null},` +
		`{"code":"storage","severity":"warn","message":"Full.","next":"free some space","since":7}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s %v\nwant %s", got, err, want)
	}
	var back health.Report
	if err := json.Unmarshal(got, &back); err != nil || back.Findings[2].Since != 7 || back.Findings[0].Next != "" || back.Findings[0].Since != 0 {
		t.Errorf("read back: %+v %v", back, err)
	}
}

func TestWorst(t *testing.T) {
	for want, list := range map[health.Severity][]health.Finding{
		health.OK:   {{Severity: health.OK}, {Severity: health.Unknown}},
		health.Warn: {{Severity: health.OK}, {Severity: health.Warn}, {Severity: health.Unknown}},
		health.Fail: {{Severity: health.Fail}, {Severity: health.Warn}},
	} {
		if got := health.Worst(list); got != want {
			t.Errorf("the worst of %v is %s", list, got)
		}
	}
}

func TestSinceIsTheBeginningOfAnUnbrokenSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var board health.Board
		since := func(severity health.Severity) time.Time {
			list := []health.Finding{{Code: health.Storage, Severity: severity}}
			board.Update(list)
			return time.Unix(list[0].Since, 0)
		}
		begin := time.Now()
		if got := since(health.OK); !got.Equal(begin) {
			t.Errorf("since %v", got)
		}
		time.Sleep(time.Minute)
		if got := since(health.OK); !got.Equal(begin) {
			t.Errorf("a minute later: since %v", got)
		}
		if got := since(health.Fail); !got.Equal(time.Now()) {
			t.Errorf("with another severity: since %v", got)
		}
		time.Sleep(time.Minute)
		board.Update(nil)
		if got := since(health.Fail); !got.Equal(time.Now()) {
			t.Errorf("after a break: since %v", got)
		}
		board.Update([]health.Finding{{Code: health.Log, Severity: health.OK}, {Code: health.Endpoint, Severity: health.Fail}, {Code: health.Endpoint, Severity: health.Warn}})
		if got := board.Severities(); len(got) != 2 || got["log"] != "ok" || got["endpoint"] != "fail" {
			t.Errorf("the severities are %v", got)
		}
		known := []health.Finding{{Code: health.Log, Since: 5}}
		if board.Update(known); known[0].Since != 5 {
			t.Errorf("a known time was overwritten: %d", known[0].Since)
		}
	})
}
