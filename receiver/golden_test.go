package receiver_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tillhook/receiver/operator"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/golden")

// Every sample event, sent to an empty receiver of test mode and once again: the answers, the
// payment, the event's record and what was counted are in testdata/golden.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../testdata/events/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	golden, err := filepath.Glob("../testdata/golden/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(golden) != len(files) && !*update {
		t.Errorf("%d golden files for %d samples", len(golden), len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			s := openShop(t, false)
			before := s.counted(t)
			body := sample(t, name)
			first := s.post(t, body)
			again := s.post(t, body)

			var got bytes.Buffer
			section := func(title, text string) { fmt.Fprintf(&got, "-- %s --\n%s", title, text) }
			section("answer", fmt.Sprintf("%d %s\n", first.status, first.text))
			section("answer to a repeat", fmt.Sprintf("%d %s\n", again.status, again.text))
			payment := "none\n"
			if id := first.Result.PaymentID; id != nil {
				payment = s.get(t, operator.PaymentPath(*id))
			}
			section("payment", payment)
			section("event record", s.get(t, operator.EventPath(first.Result.EventID)))
			after := s.counted(t)
			changed := ""
			for _, series := range slices.Sorted(maps.Keys(after)) {
				if after[series] != before[series] {
					changed += series + " " + after[series] + "\n"
				}
			}
			section("metrics", changed)

			path := filepath.Join("../testdata/golden", name+".txt")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%v; go test ./receiver -run TestGolden -update writes it", err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("got\n%s\nwant\n%s", got.Bytes(), want)
			}

			kept, err := s.client.Get(t.Context(), operator.EventPath(first.Result.EventID)+"/body", nil)
			if err != nil || !bytes.Equal(kept, body) {
				t.Errorf("the body did not come back byte for byte: %v", err)
			}
			for _, public := range []string{got.String(), s.log.String()} {
				if strings.Contains(public, "_secret_") || strings.Contains(public, secret) {
					t.Error("a secret is shown or logged")
				}
			}
		})
	}
}
