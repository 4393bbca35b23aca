package store

import (
	"bytes"
	"testing"
)

// FuzzRecord decodes records of the write buffer that may be damaged in a way that no checksum
// shows. If a record is accepted, encoding and decoding it again must yield the same bytes, and not
// more than it had.
func FuzzRecord(f *testing.F) {
	layout := Layout{{Name: "plain"}, {Name: "keys", Buffered: true}}
	f.Add(run{{key: "\x01evt_1", sealed: []byte("sealed")}, {key: "\x01evt_12"}}.encode())
	f.Fuzz(func(t *testing.T, value []byte) {
		r, ok := decodeRun(value, layout)
		if !ok {
			return
		}
		again := r.encode()
		third, ok := decodeRun(again, layout)
		if !ok || !bytes.Equal(third.encode(), again) || len(again) > len(value) {
			t.Fatalf("%x is encoded again as %x", value, again)
		}
	})
}
