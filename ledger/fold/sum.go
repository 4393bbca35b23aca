package fold

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
)

// Sum is a signed integer of 128 bits, for sums of amounts that may not fit 64 bits. The zero Sum
// is 0.
type Sum struct {
	Hi int64
	Lo uint64
}

// SumOf returns n as a Sum.
func SumOf(n int64) Sum { return Sum{n >> 63, uint64(n)} }

// Plus returns s + t. Adding 2^63 sums of 64-bit amounts does not wrap.
func (s Sum) Plus(t Sum) Sum {
	lo, carry := bits.Add64(s.Lo, t.Lo, 0)
	hi, _ := bits.Add64(uint64(s.Hi), uint64(t.Hi), carry)
	return Sum{int64(hi), lo}
}

// Minus returns s − t.
func (s Sum) Minus(t Sum) Sum {
	lo, borrow := bits.Sub64(s.Lo, t.Lo, 0)
	hi, _ := bits.Sub64(uint64(s.Hi), uint64(t.Hi), borrow)
	return Sum{int64(hi), lo}
}

// IsNegative reports whether s < 0.
func (s Sum) IsNegative() bool { return s.Hi < 0 }

// atLeastZero returns s, or 0 if s is negative.
func (s Sum) atLeastZero() Sum {
	if s.Hi < 0 {
		return Sum{}
	}
	return s
}

// Int64 returns s as an int64, and whether it fits.
func (s Sum) Int64() (n int64, fits bool) {
	return int64(s.Lo), s.Hi == int64(s.Lo)>>63
}

// String returns s in decimal digits.
func (s Sum) String() string {
	n := new(big.Int).Lsh(big.NewInt(s.Hi), 64)
	return n.Add(n, new(big.Int).SetUint64(s.Lo)).String()
}

// MarshalJSON returns s as a JSON integer.
func (s Sum) MarshalJSON() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalJSON reads a JSON integer of up to 128 bits.
func (s *Sum) UnmarshalJSON(text []byte) error {
	n, ok := new(big.Int).SetString(string(text), 10)
	if !ok || n.BitLen() > 127 {
		return fmt.Errorf("%.60q is not an integer of up to 128 bits", text)
	}
	low := new(big.Int).And(n, new(big.Int).SetUint64(math.MaxUint64))
	s.Lo, s.Hi = low.Uint64(), new(big.Int).Rsh(n, 64).Int64()
	return nil
}

// scale returns |a| × b ÷ |c|, rounded half to even, and whether it fits. b must not be negative
// and c must not be 0.
func scale(a, b, c int64) (n int64, fits bool) {
	hi, lo := bits.Mul64(magnitude(a), uint64(b))
	divisor := magnitude(c)
	if hi >= divisor {
		return 0, false
	}
	quotient, rest := bits.Div64(hi, lo, divisor)
	if half := divisor - rest; rest > half || rest == half && quotient%2 == 1 {
		quotient++ // wraps only if the result does not fit anyway, as divisor ≤ 2^63
	}
	return int64(quotient), quotient <= math.MaxInt64
}

// magnitude returns |n|. That of math.MinInt64 does not fit an int64.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}
