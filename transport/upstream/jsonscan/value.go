package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Number returns the text of the number that comes next, of RFC 8259's grammar.
func (s *Scanner) Number() []byte {
	if s.peek() == 0 {
		s.unexpected()
		return nil
	}
	data, i := s.data, s.at
	if data[i] == '-' {
		i++
	}
	whole := digitsFrom(data, i)
	if whole > i+1 && data[i] == '0' {
		s.at = i + 1
		s.Fail("leading zero")
		return nil
	}
	end, ok := whole, whole > i
	if ok && end < len(data) && data[end] == '.' {
		i = end + 1
		end = digitsFrom(data, i)
		ok = end > i
	}
	if ok && end < len(data) && data[end]|0x20 == 'e' {
		i = end + 1
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		end = digitsFrom(data, i)
		ok = end > i
	}
	if !ok {
		s.at = end
		s.unexpected()
		return nil
	}
	text := data[s.at:end]
	s.at = end
	return text
}

func digitsFrom(data []byte, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}

// String returns the string that comes next with its escapes resolved.
func (s *Scanner) String() []byte {
	if s.peek() != '"' {
		s.unexpected()
		return nil
	}
	start := s.at + 1
	if i := plain(s.data, start); i < len(s.data) && s.data[i] == '"' {
		s.at = i + 1
		return s.data[start:i]
	}
	s.text = s.text[:0]
	if !s.unescape(start, true) {
		return nil
	}
	return s.text
}

// string steps over a string, checking it.
func (s *Scanner) string() {
	start := s.at + 1
	if i := plain(s.data, start); i < len(s.data) && s.data[i] == '"' {
		s.at = i + 1
		return
	}
	s.unescape(start, false)
}

// unescape walks over a string with escapes, from behind its opening quote to
// behind the closing one, and appends it to s.text if it is to be kept.
func (s *Scanner) unescape(i int, keep bool) bool {
	for {
		j := plain(s.data, i)
		if keep {
			s.text = append(s.text, s.data[i:j]...)
		}
		s.at = j
		if j >= len(s.data) {
			s.unexpected()
			return false
		}
		switch s.data[j] {
		case '"':
			s.at = j + 1
			return true
		case '\\':
			r, n := escape(s.data[j+1:])
			if n == 0 {
				s.Fail("invalid escape")
				return false
			}
			if keep {
				s.text = utf8.AppendRune(s.text, r)
			}
			i = j + 1 + n
		default:
			s.Fail("control character in a string")
			return false
		}
	}
}

// escape reads what follows a backslash; n = 0 where it is not valid.
func escape(b []byte) (r rune, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch b[0] {
	case '"', '\\', '/':
		return rune(b[0]), 1
	case 'b':
		return '\b', 1
	case 'f':
		return '\f', 1
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	case 'u':
		return unicodeEscape(b)
	}
	return 0, 0
}

// unicodeEscape reads uhhhh or a surrogate pair uhhhh\uhhhh.
func unicodeEscape(b []byte) (r rune, n int) {
	r, ok := hex4(b[1:])
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 5
	}
	if len(b) < 11 || b[5] != '\\' || b[6] != 'u' {
		return 0, 0
	}
	low, ok := hex4(b[7:])
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 11
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

const (
	everyByte = 0x0101010101010101
	highBits  = 0x80 * everyByte
)

// plain returns the index of the first quote, backslash or control character
// at or after i, or len(data). It looks at eight bytes at a time: a byte is
// zero in x exactly where (x−1)&^x has its high bit, counted from the lowest.
func plain(data []byte, i int) int {
	for ; i+8 <= len(data); i += 8 {
		w := binary.LittleEndian.Uint64(data[i:])
		quote := w ^ '"'*everyByte
		slash := w ^ '\\'*everyByte
		m := (quote-everyByte)&^quote | (slash-everyByte)&^slash | (w-' '*everyByte)&^w
		if m &= highBits; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(data); i++ {
		if c := data[i]; c == '"' || c == '\\' || c < ' ' {
			return i
		}
	}
	return min(i, len(data))
}
