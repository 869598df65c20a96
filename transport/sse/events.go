package sse

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Events frames each message as one event whose data is the message. Messages
// that bring a position have it as their id, on the last part, so that a browser
// that comes back tells the last position whose rows were complete.
type Events struct {
	Epoch string // of the lineage
}

var _ fanout.Framing = Events{}

// Append implements fanout.Framing.
func (e Events) Append(dst []byte, m *fanout.Message) []byte {
	if m.Kind == wire.KindHeartbeat && m.Seq == 0 {
		dst = append(dst, ": \n"...) // what proxies and old clients take for life
	}
	dst = append(append(append(dst, "event: "...), m.Kind.String()...), '\n')
	if m.Kind == wire.KindDrain {
		dst = append(append(append(dst, "retry: "...), retryOf(m.Body)...), '\n')
	}
	if m.Seq > 0 && m.Last {
		dst = append(append(append(dst, "id: "...), e.Epoch...), ':')
		dst = append(strconv.AppendUint(dst, m.Seq, 10), '\n')
	}
	// JSON text has no line breaks: one data line is all of it.
	dst = append(append(dst, "data: "...), m.Body...)
	return append(dst, "\n\n"...)
}

// Compresses implements fanout.Framing.
func (Events) Compresses() bool { return false }

// retryOf returns the digits of retry_ms, the last member of a drain message: a
// browser waits for as long as the event says and knows nothing of its data.
func retryOf(drain []byte) []byte {
	return bytes.TrimSuffix(drain[bytes.LastIndexByte(drain, ':')+1:], []byte{'}'})
}

// closing is the last thing on a stream, for people that look at one.
func closing(code wire.CloseCode, reason string) []byte {
	return []byte(": closed, " + strconv.Itoa(int(code)) + " " + reason + "\n\n")
}

// border returns how many bytes are left of the event that n bytes of p end in.
func border(p []byte, n int) int {
	if n == 0 || n >= 2 && p[n-1] == '\n' && p[n-2] == '\n' {
		return 0
	}
	at := bytes.Index(p[n-1:], []byte("\n\n"))
	if at < 0 {
		return len(p) - n
	}
	return at + 1
}

// position reads "<epoch>:<seq>".
func position(text string) (*wire.Position, bool) {
	at := strings.LastIndexByte(text, ':')
	if at <= 0 || at > wire.MaxID || len(text)-at > len(":9007199254740991") {
		return nil, false
	}
	seq, err := strconv.ParseUint(text[at+1:], 10, 53)
	if err != nil {
		return nil, false
	}
	return &wire.Position{Epoch: text[:at], Seq: seq}, true
}
