package ws

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// attack is a stream of client bytes.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func repeat(n int, f []byte) []byte { return bytes.Repeat(f, n) }

// long returns the head of a frame that declares a 64-bit length.
func long(first byte, n uint64) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n), 1, 2, 3, 4)
}

func short(first byte, n uint16) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{first, 0xfe}, n), 1, 2, 3, 4)
}

func closing(code uint16, reason string) []byte {
	return frame(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

const ping = `{"op":"ping"}`

// attacks are client bytes and the close code that answers them; 0 for none.
var attacks = []struct {
	name  string
	bytes []byte
	code  int
}{
	{"text", frame(0x81, ping), 0},
	{"text in fragments", join(frame(0x01, ping[:3]), frame(0x89, "x"), frame(0x00, ping[3:5]), frame(0x80, ping[5:])), 0},
	{"text of 64 KiB", frame(0x81, strings.Repeat(" ", 64<<10-len(ping))+ping), 0},
	{"64 fragments", join(frame(0x01, ping), repeat(62, frame(0, " ")), frame(0x80, "")), 0},
	{"8 empty fragments", join(frame(0x01, ping), repeat(7, frame(0, "")), frame(0x80, "")), 0},
	{"pong nobody asked for", frame(0x8a, "hello"), 0},
	{"UTF-8 cut between fragments", join(frame(0x01, "\"\xe2\x82"), frame(0x80, "\xac\"")), 0},

	{"RSV1", frame(0xc1, "x"), 1002},
	{"RSV2", frame(0xa1, "x"), 1002},
	{"RSV3", frame(0x91, "x"), 1002},
	{"RSV1 on a control frame", frame(0xc9, "x"), 1002},
	{"opcode 3", frame(0x83, "x"), 1002},
	{"opcode 7", frame(0x87, "x"), 1002},
	{"opcode 11", frame(0x8b, "x"), 1002},
	{"opcode 15", frame(0x8f, "x"), 1002},
	{"unmasked", []byte{0x81, 0x01, 'x'}, 1002},
	{"unmasked ping", []byte{0x89, 0x00}, 1002},
	{"fragmented ping", frame(0x09, "x"), 1002},
	{"fragmented close", frame(0x08, ""), 1002},
	{"ping of 126 bytes", frame(0x89, strings.Repeat("x", 126)), 1002},
	{"close of 126 bytes", frame(0x88, strings.Repeat("x", 126)), 1002},
	{"continuation of nothing", frame(0x80, "x"), 1002},
	{"continuation after a whole message", join(frame(0x81, ping), frame(0x00, "x")), 1002},
	{"message inside a message", join(frame(0x01, "a"), frame(0x81, "b")), 1002},
	{"binary inside a message", join(frame(0x01, "a"), frame(0x82, "b")), 1002},
	{"16-bit length of 125", short(0x81, 125), 1002},
	{"64-bit length of 65535", long(0x81, 65535), 1002},
	{"64-bit length with its top bit", long(0x81, 1<<63), 1002},
	{"64-bit length of all ones", long(0x81, 1<<64-1), 1002},
	{"64-bit length of 2^62", long(0x81, 1<<62), 1009},
	{"64-bit length of 64 KiB + 1", long(0x81, 64<<10+1), 1009},
	{"fragments above 64 KiB", join(frame(0x01, strings.Repeat(" ", 40<<10)), short(0x80, 40<<10)), 1009},
	{"binary", frame(0x82, "x"), 1003},
	{"binary in fragments", frame(0x02, "x"), 1003},
	{"65 fragments", join(frame(0x01, "x"), repeat(64, frame(0, "x"))), 1008},
	{"9 empty fragments", join(frame(0x01, "x"), repeat(9, frame(0, ""))), 1008},
	{"9 empty fragments from the first", repeat(1, join(frame(0x01, ""), repeat(8, frame(0, "")))), 1008},
	{"ping flood", repeat(11, frame(0x89, "")), 1008},
	{"pong flood", repeat(201, frame(0x8a, "")), 1008},
	{"not UTF-8", frame(0x81, "\xff"), 1007},
	{"overlong UTF-8", frame(0x81, "\xc0\xaf"), 1007},
	{"surrogate in UTF-8", frame(0x81, "\xed\xa0\x80"), 1007},
	{"UTF-8 above the last character", frame(0x81, "\xf4\x90\x80\x80"), 1007},
	{"UTF-8 cut at the end", frame(0x81, "\xe2\x82"), 1007},
	{"UTF-8 broken between fragments", join(frame(0x01, "\xe2\x82"), frame(0x00, "x")), 1007},

	{"close without a code", frame(0x88, ""), 1000},
	{"close 1000", closing(1000, "bye"), 1000},
	{"close 1001", closing(1001, ""), 1001},
	{"close 3000", closing(3000, ""), 3000},
	{"close 4999", closing(4999, ""), 4999},
	{"close with half a code", frame(0x88, "x"), 1002},
	{"close 0", closing(0, ""), 1002},
	{"close 999", closing(999, ""), 1002},
	{"close 1004", closing(1004, ""), 1002},
	{"close 1005", closing(1005, ""), 1002},
	{"close 1006", closing(1006, ""), 1002},
	{"close 1015", closing(1015, ""), 1002},
	{"close 2999", closing(2999, ""), 1002},
	{"close 5000", closing(5000, ""), 1002},
	{"close reason not UTF-8", closing(1000, "\xff"), 1007},
	{"data after close", join(closing(1000, ""), frame(0x83, "x"), []byte{0, 0, 0}), 1000},
}

// recorder collects what a gate says.
type recorder struct {
	pings, pongs int
	texts        []string
	code         int
}

func (r *recorder) message(_ byte, text []byte) *violation {
	r.texts = append(r.texts, string(text))
	return nil
}

func (r *recorder) ping([]byte) *violation {
	if r.pings++; r.pings > clientLimits.pings {
		return breach(wire.ClosePolicy, "")
	}
	return nil
}

func (r *recorder) pong() *violation {
	if r.pongs++; r.pongs > clientLimits.pongs {
		return breach(wire.ClosePolicy, "")
	}
	return nil
}

func (r *recorder) closed(code wire.CloseCode) { r.code = int(code) }

// run feeds a stream in pieces of n bytes and returns the close code.
func (r *recorder) run(stream []byte, n int) int {
	return r.feed(&frameGate{limits: &clientLimits}, stream, n)
}

func (r *recorder) feed(g *frameGate, stream []byte, n int) int {
	for len(stream) > 0 {
		k := min(n, len(stream))
		if v := g.feed(stream[:k], r); v != nil {
			return int(v.code)
		}
		stream = stream[k:]
	}
	return r.code
}

// TestFrames sends every attack cut at every size that matters.
func TestFrames(t *testing.T) {
	for _, a := range attacks {
		for _, n := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			var r recorder
			if code := r.run(a.bytes, n); code != a.code {
				t.Errorf("%s in pieces of %d: %d, not %d", a.name, n, code, a.code)
			}
		}
	}
	var r recorder
	r.run(join(frame(0x01, "a\xe2"), frame(0x89, "x"), frame(0x80, "\x82\xac"), frame(0x81, ""), frame(0x81, strings.Repeat("é", 300))), 1)
	if len(r.texts) != 3 || r.texts[0] != "a€" || r.texts[1] != "" || r.texts[2] != strings.Repeat("é", 300) || r.pings != 1 {
		t.Fatalf("got %q", r.texts)
	}
}

// FuzzGate looks for a panic, for more memory than a message, and for an answer
// that depends on how the bytes are cut.
func FuzzGate(f *testing.F) {
	for _, a := range attacks {
		if len(a.bytes) < 4<<10 {
			f.Add(a.bytes, 3)
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		n = 1 + n&1023
		var whole, cut recorder
		a, b := whole.run(stream, len(stream)+1), cut.run(stream, n)
		if a != b || len(whole.texts) != len(cut.texts) || whole.pings != cut.pings {
			t.Fatalf("whole %d, in pieces of %d %d", a, n, b)
		}
		for _, text := range whole.texts {
			if len(text) > wire.MaxMessage {
				t.Fatalf("a message of %d bytes", len(text))
			}
		}
	})
}
