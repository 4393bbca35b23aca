package fold_test

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"tillhook/ledger/fold"
)

// edges are integers for which fixed-width arithmetic often fails.
var edges = []int64{0, 1, -1, 2, 3, 5, 100, -100, math.MaxInt32, math.MinInt32, 1 << 32, math.MaxInt64,
	math.MaxInt64 - 1, math.MinInt64, math.MinInt64 + 1}

func number(rng *rand.Rand) int64 {
	if rng.IntN(2) == 0 {
		return edges[rng.IntN(len(edges))]
	}
	return int64(rng.Uint64()) >> rng.IntN(64)
}

// Sums agree with math/big.
func TestSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var sum fold.Sum
		want := new(big.Int)
		for range rng.IntN(20) {
			n := number(rng)
			if rng.IntN(2) == 0 {
				sum, want = sum.Plus(fold.SumOf(n)), want.Add(want, big.NewInt(n))
			} else {
				sum, want = sum.Minus(fold.SumOf(n)), want.Sub(want, big.NewInt(n))
			}
		}
		if sum.String() != want.String() || sum.IsNegative() != (want.Sign() < 0) {
			t.Fatalf("the sum is %s, want %s", sum, want)
		}
		if n, fits := sum.Int64(); fits != want.IsInt64() || fits && n != want.Int64() {
			t.Fatalf("%s as an int64 is %d, %v", sum, n, fits)
		}
		text, err := json.Marshal(sum)
		var again fold.Sum
		if err != nil || json.Unmarshal(text, &again) != nil || again != sum || string(text) != want.String() {
			t.Fatalf("%s is encoded as %s and decoded as %s, %v", sum, text, again, err)
		}
	}
	for _, text := range []string{`"1"`, `1.5`, `null1`, `170141183460469231731687303715884105728`, `{}`} {
		var s fold.Sum
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is decoded as %s", text, s)
		}
	}
}

// Scale rounds half to even, and reports a result that does not fit in an int64.
func TestScale(t *testing.T) {
	for _, c := range []struct{ a, b, c, want int64 }{
		{39, 6500, -5100, 50}, {-5100, 6500, -5100, 6500}, {1, 1, -2, 0}, {3, 1, -2, 2}, {5, 1, 2, 2}, {7, 1, 2, 4},
		{2, 1, 3, 1}, {1, 1, 3, 0},
		{math.MinInt64, 1, math.MinInt64, 1}, {0, 7, 3, 0}, {7, 0, 3, 0},
	} {
		if got, fits := fold.Scale(c.a, c.b, c.c); got != c.want || !fits {
			t.Errorf("|%d| × %d ÷ |%d| is %d, %v; want %d", c.a, c.b, c.c, got, fits, c.want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		a, b, c := number(rng), number(rng)&math.MaxInt64, number(rng)
		if c == 0 {
			continue
		}
		abs := func(n int64) *big.Int { return new(big.Int).Abs(big.NewInt(n)) }
		want, rest := new(big.Int).QuoRem(new(big.Int).Mul(abs(a), big.NewInt(b)), abs(c), new(big.Int))
		if order := rest.Lsh(rest, 1).Cmp(abs(c)); order > 0 || order == 0 && want.Bit(0) == 1 {
			want.Add(want, big.NewInt(1))
		}
		if got, fits := fold.Scale(a, b, c); fits != want.IsInt64() || fits && got != want.Int64() {
			t.Fatalf("|%d| × %d ÷ |%d| is %d, %v; want %s", a, b, c, got, fits, want)
		}
	}
}

func TestDecimals(t *testing.T) {
	for _, c := range []struct {
		amount         int64
		currency, want string
	}{
		{2099, "usd", "20.99"}, {5, "eur", "0.05"}, {-5, "eur", "-0.05"}, {1500, "JPY", "1500"}, {1234, "kwd", "1.234"},
		{12, "bhd", "0.012"},
		{math.MinInt64, "usd", "-92233720368547758.08"}, {100, "isk", "1.00"},
	} {
		if got := fold.Decimal(c.amount, c.currency); got != c.want {
			t.Errorf("%d %s is formatted as %s, want %s", c.amount, c.currency, got, c.want)
		}
		if got := fold.SumOf(c.amount).Decimal(c.currency); got != c.want {
			t.Errorf("as a sum %d %s is formatted as %s, want %s", c.amount, c.currency, got, c.want)
		}
	}
	if got := (fold.Sum{Hi: 1, Lo: 5}).Decimal("usd"); got != "184467440737095516.21" {
		t.Errorf("2^64 + 5 cents are formatted as %s", got)
	}
}
