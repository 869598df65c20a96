package gate

import "bytes"

// headScan reads along with the first request of a connection, up to the end of
// its head, for what fasthttp either waits on or does not tell. Later requests
// may begin in the middle of a read, so they are left to fasthttp and check.
type headScan struct {
	line    [96]byte // begin of the current line
	n       int      // bytes of the current line so far, '\r' included
	cr      bool     // the last byte was '\r'
	begun   bool     // the request line was seen
	lengths int      // Content-Length fields
	codings int      // Transfer-Encoding fields
	unknown bool     // a transfer coding that nobody here knows
	bareLF  bool     // a line ended without '\r'
}

// feed takes the next bytes; done says that the head is over or beyond saving.
func (h *headScan) feed(p []byte) (done bool) {
	for _, c := range p {
		if c != '\n' {
			if h.n < len(h.line) {
				h.line[h.n] = c
			}
			h.n++
			h.cr = c == '\r'
			continue
		}
		if !h.cr {
			h.bareLF = true
			return true
		}
		if h.n == 1 && h.begun {
			return true
		}
		if h.n > 1 {
			h.field(h.line[:min(h.n-1, len(h.line))])
			h.begun = true
		}
		h.n, h.cr = 0, false
	}
	return false
}

func (h *headScan) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	switch {
	case equalFold(name, "content-length"):
		h.lengths++
	case equalFold(name, "transfer-encoding"):
		h.codings++
		h.unknown = unknownCoding(value)
	}
}

// unsupported reports whether the framing is sound but for a coding that is not
// implemented: 501, where everything else about Transfer-Encoding is 400.
func (h *headScan) unsupported() bool { return h.unknown && h.codings == 1 && h.lengths == 0 }

// unknownCoding reports whether a Transfer-Encoding is a list of proper names
// of which one at least is not "chunked".
func unknownCoding(value []byte) bool {
	found := false
	for item := range bytes.SplitSeq(value, []byte{','}) {
		item = bytes.Trim(item, " \t")
		if len(item) == 0 || !validName(item) {
			return false
		}
		found = found || !equalFold(item, "chunked") && !equalFold(item, "identity")
	}
	return found
}
