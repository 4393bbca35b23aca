package ledger

import (
	"encoding/base64"
	"fmt"
)

// Page is a part of a list. An element that exists while all pages are read is on exactly one of
// them.
type Page[T any] struct {
	Data []T
	// Next is the value of the query's field Page for the following page. It is empty if the list
	// ends here.
	Next string
	// ScannedTo is the time of the last row that a search examined before it reached the limit of
	// what one request may read. It is 0 if the search did not reach the limit. Any number of
	// matches may follow, or none.
	ScannedTo OrNullTime
}

// The kinds of cursors. A cursor is a position in a list, whether or not an element is still there.
const (
	paymentCursor = 'p'
	eventCursor   = 'e'
	totalCursor   = 't'
)

func encodeCursor(kind byte, key []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{kind}, key...))
}

func decodeCursor(kind byte, cursor string) (key []byte, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(text) < 9 || text[0] != kind || kind == eventCursor && len(text) != 9 {
		return nil, fmt.Errorf("%w: page %.80q is not the next_page of this kind of list", ErrCursor, cursor)
	}
	return text[1:], nil
}
