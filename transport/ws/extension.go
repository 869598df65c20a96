package ws

import (
	"strings"
)

// terms are what a handshake agreed on.
type terms struct {
	binary  bool // the binary sub-protocol
	deflate bool // permessage-deflate, without context takeover
	window  bool // the client asked for server_max_window_bits=15
}

// extension returns the value of Sec-WebSocket-Extensions in the answer.
func (t terms) extension() string {
	v := "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	if t.window {
		v += "; server_max_window_bits=15"
	}
	return v
}

// maxOffers bounds how many offers of extensions are looked at.
const maxOffers = 16

// negotiate takes the first offer of permessage-deflate (RFC 7692) that can be
// met; other extensions are ignored.
func negotiate(lines [][]byte) (t terms) {
	offers := 0
	for _, line := range lines {
		for offer := range strings.SplitSeq(string(line), ",") {
			if offers++; offers > maxOffers {
				return t
			}
			if window, ok := acceptable(offer); ok {
				return terms{deflate: true, window: window}
			}
		}
	}
	return t
}

// acceptable reports whether an offer is one of permessage-deflate that can be
// met: every parameter known, given once, and with a value where it takes one.
func acceptable(offer string) (window, ok bool) {
	name, rest, more := strings.Cut(offer, ";")
	if trim(name) != "permessage-deflate" {
		return false, false
	}
	seen := make(map[string]bool, 4)
	for more {
		var param string
		param, rest, more = strings.Cut(rest, ";")
		key, value, valued := strings.Cut(param, "=")
		key, value = trim(key), trim(value)
		if seen[key] || !parameter(key, value, valued) {
			return false, false
		}
		seen[key] = true
	}
	return seen["server_max_window_bits"], true
}

// parameter checks one parameter of an offer. The window of the server cannot be
// made smaller; that of the client may be anything.
func parameter(key, value string, valued bool) bool {
	value = unquote(value)
	switch key {
	case "server_no_context_takeover", "client_no_context_takeover":
		return !valued
	case "server_max_window_bits":
		return valued && value == "15"
	case "client_max_window_bits":
		return !valued || len(value) == 1 && value[0] >= '8' && value[0] <= '9' || len(value) == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5'
	}
	return false
}

// unquote takes a quoted value for the token in it, as RFC 7692 section 5.2 does.
func unquote(v string) string {
	if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
		return v[1 : n-1]
	}
	return v
}

func trim(s string) string { return strings.Trim(s, " \t") }
