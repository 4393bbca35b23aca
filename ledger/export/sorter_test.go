package export

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// More lines than fit in memory are sorted on disk. Lines with equal keys keep their order.
func TestSorterKeepsTheOrderOfEqualKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 31))
	for _, limit := range []int{1, 700, 5000, 1 << 20} {
		var want []string
		for i := range 400 {
			want = append(want, fmt.Sprintf("%03d %03d %s", rng.IntN(150), i, strings.Repeat("x", rng.IntN(90))))
		}
		got, runs, err := sortLines(t.TempDir(), limit, want)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: %v\n%s", limit, err, strings.Join(got, "\n"))
		}
		if limit < 10000 && runs < 2 || limit > 100000 && runs != 0 {
			t.Errorf("limit %d: %d runs", limit, runs)
		}
	}
}

// sortLines sorts lines by their first three characters, with limit bytes in memory, and returns
// how many runs there were.
func sortLines(dir string, limit int, lines []string) (sorted []string, runs int, err error) {
	s := &sorter{limit: limit, open: func() (*os.File, error) { return os.CreateTemp(dir, "") }}
	for _, line := range lines {
		if err := s.add([]byte(line[:3]), []byte(line)); err != nil {
			return nil, 0, err
		}
	}
	err = s.each(func(r record) error { sorted = append(sorted, string(r.line)); return nil })
	return sorted, len(s.runs), errors.Join(err, s.close())
}
