package rest

import (
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string (RFC 8259). Control characters,
// U+2028 and U+2029 (line ends in old JavaScript), and <, >, & (HTML) are
// escaped; each invalid UTF-8 byte becomes U+FFFD. It cannot fail.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			dst = append(dst, s[from:i]...)
			dst = appendEscaped(dst, c)
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[from:i]...)
			dst = appendRare(dst, r)
			from = i + size
		}
		i += size
	}
	return append(append(dst, s[from:]...), '"')
}

// appendText appends a text that is null where nobody knows it.
func appendText(dst []byte, s string, known bool) []byte {
	if !known {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}

// plain marks the ASCII characters that stand for themselves.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

func appendRare(dst []byte, r rune) []byte {
	if r == utf8.RuneError {
		return append(dst, "\ufffd"...)
	}
	return append(append(dst, `\u202`...), hexDigits[r&15])
}

// appendTime appends an instant as a quoted RFC 3339 text, or null where unknown.
func appendTime(dst []byte, t market.Time) []byte {
	if t == 0 {
		return append(dst, "null"...)
	}
	return appendInstant(dst, t)
}

// appendInstant appends an instant that is known even where it is the epoch.
func appendInstant(dst []byte, t market.Time) []byte {
	return append(t.AppendRFC3339(append(dst, '"')), '"')
}

// appendName appends an enum's name as a quoted text, or null for "".
func appendName(dst []byte, name string) []byte {
	if name == "" {
		return append(dst, "null"...)
	}
	return append(append(append(dst, '"'), name...), '"')
}

// appendFlags appends the names of a set of flags as an array.
func appendFlags(dst []byte, f market.Flags) []byte {
	dst = append(dst, '[')
	first := true
	for bit, name := range market.FlagNames() {
		if f>>bit&1 == 0 {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendName(dst, name)
	}
	return append(dst, ']')
}
