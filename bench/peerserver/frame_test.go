package main

import (
	"bytes"
	"testing"
)

// The update is the peers' one: 200 bytes, 204 with the frame's head.
func TestUpdate(t *testing.T) {
	got := appendUpdate(appendHead(nil, 200), 12, []byte("0000000007"), []byte("0000000000000000009"))
	if len(got) != 204 || !bytes.Contains(got, []byte(`{"t":"t00012","q":"0000000007","n":"0000000000000000009","p":"0.000007","v24":`)) {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// FuzzClientFrame feeds what a client may send.
func FuzzClientFrame(f *testing.F) {
	f.Add([]byte{0x81, 0x82, 1, 2, 3, 4, 5, 6})
	f.Add([]byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, body, n := clientFrame(p); n > len(p) || len(body) > n {
			t.Errorf("%d of %d bytes", n, len(p))
		}
	})
}
