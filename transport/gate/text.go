package gate

import "unicode/utf8"

// MaxEcho bounds how much of a client's input an error repeats, in bytes.
const MaxEcho = 64

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Control characters, U+2028, U+2029
// and <, >, & are escaped, invalid UTF-8 becomes U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			dst = appendASCII(dst, c)
			continue
		}
		var window [utf8.UTFMax]byte
		n := copy(window[:], s[i:])
		r, size := utf8.DecodeRune(window[:n])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, "\ufffd"...)
		case r == '\u2028' || r == '\u2029':
			dst = append(dst, `\u202`...)
			dst = append(dst, hexDigits[r&15])
		default:
			dst = append(dst, window[:size]...)
		}
		i += size
	}
	return append(dst, '"')
}

func appendASCII(dst []byte, c byte) []byte {
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
	if c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&' {
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, c)
}

// Echo returns at most MaxEcho bytes of a client's input with everything that
// is not printable ASCII replaced by '?', fit for an error's text.
func Echo[T string | []byte](s T) string {
	out := make([]byte, 0, MaxEcho+3)
	for i := 0; i < len(s); i++ {
		if i == MaxEcho {
			out = append(out, "..."...)
			break
		}
		c := s[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}
