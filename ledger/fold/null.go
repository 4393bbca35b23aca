package fold

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// OrNull is a string that marshals to JSON null while it is empty.
type OrNull string

// MarshalJSON returns s as a JSON string, or null if it is empty.
func (s OrNull) MarshalJSON() ([]byte, error) {
	if s == "" {
		return []byte("null"), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(string(s)); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// orUnknown returns an amount as a payment shows it: nil if it is negative and so unknown.
func orUnknown(amount int64) *int64 {
	if amount < 0 {
		return nil
	}
	return &amount
}

// OrNullTime is a time in Unix seconds that marshals to JSON null while it is unknown (0).
type OrNullTime int64

// MarshalJSON returns t as a JSON number, or null if it is 0.
func (t OrNullTime) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(t), 10), nil
}
