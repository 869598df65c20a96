package client

import (
	"encoding/json"
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
)

// scanner walks over the JSON of a message. The first thing that is wrong
// sticks and ends every loop. It checks what it reads; values of members that
// nobody knows are only skipped.
type scanner struct {
	b   []byte
	at  int
	bad string
}

func (s *scanner) fail(what string) {
	if s.bad == "" {
		s.bad = fmt.Sprintf("byte %d: %s", s.at, what)
	}
	s.at = len(s.b)
}

func (s *scanner) err(ch uint64) error { return &ProtocolError{ch, s.bad} }

// peek returns the next byte that is not space, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.b) && s.b[s.at] > ' ' {
		return s.b[s.at]
	}
	return s.space()
}

func (s *scanner) space() byte {
	for ; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take reads one byte that must come.
func (s *scanner) take(c byte) {
	if s.peek() != c {
		s.fail("no " + string(rune(c)) + " where one must be")
		return
	}
	s.at++
}

// more reads what follows an element: true for a comma, false for the end.
func (s *scanner) more(end byte) bool {
	switch s.peek() {
	case ',':
		s.at++
		return true
	case end:
		s.at++
		return false
	}
	s.fail("neither comma nor end")
	return false
}

// enter reads the beginning of an object or array and reports whether it has elements.
func (s *scanner) enter(begin, end byte) bool {
	s.take(begin)
	if s.peek() == end {
		s.at++
		return false
	}
	return s.bad == ""
}

// end checks that nothing follows the message.
func (s *scanner) end() {
	if s.peek() != 0 || s.at < len(s.b) {
		s.fail("something after the message")
	}
}

// messageType reads the first member.
func (s *scanner) messageType() []byte {
	s.take('{')
	if string(s.key()) != "type" {
		s.fail("the first member is not type")
		return nil
	}
	return s.text()
}

func (s *scanner) key() []byte {
	k := s.text()
	s.take(':')
	return k
}

// text reads a string. The bytes are good until the next text.
func (s *scanner) text() []byte {
	if s.peek() != '"' {
		s.fail("no string where one must be")
		return nil
	}
	from := s.at + 1
	for i := from; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			s.at = i + 1
			return s.b[from:i]
		case c == '\\':
			return s.escaped(from)
		case c < ' ':
			s.fail("a control character in a string")
			return nil
		}
	}
	s.fail("a string without end")
	return nil
}

// escaped reads a string with escapes, which are rare.
func (s *scanner) escaped(from int) []byte {
	for i := from; i < len(s.b); i++ {
		switch s.b[i] {
		case '\\':
			i++
		case '"':
			var out string
			if json.Unmarshal(s.b[from-1:i+1], &out) != nil {
				s.fail("a broken escape")
				return nil
			}
			s.at = i + 1
			return []byte(out)
		}
	}
	s.fail("a string without end")
	return nil
}

// null reads null where it comes.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.word("null")
	return true
}

func (s *scanner) word(w string) {
	if len(s.b)-s.at < len(w) || string(s.b[s.at:s.at+len(w)]) != w {
		s.fail("no " + w + " where it must be")
		return
	}
	s.at += len(w)
}

func (s *scanner) boolean() bool {
	if s.peek() == 't' {
		s.word("true")
		return true
	}
	s.word("false")
	return false
}

// uint reads an integer of at most limit.
func (s *scanner) uint(limit uint64) uint64 {
	s.peek()
	from := s.at
	var n uint64
	for ; s.at < len(s.b) && s.b[s.at]-'0' <= 9 && s.at-from < 19; s.at++ {
		n = n*10 + uint64(s.b[s.at]-'0')
	}
	if s.at == from || n > limit || s.b[from] == '0' && s.at > from+1 {
		s.fail("no integer where one must be")
		return 0
	}
	return n
}

// integer reads an integer with a sign.
func (s *scanner) integer() int64 {
	if s.peek() == '-' {
		s.at++
		return -int64(s.uint(1<<63 - 1))
	}
	return int64(s.uint(1<<63 - 1))
}

// decimal reads a number, also one in a string.
func (s *scanner) decimal() market.Decimal {
	quoted := s.peek() == '"'
	if quoted {
		s.at++
	}
	d := s.number()
	if quoted {
		if s.at >= len(s.b) || s.b[s.at] != '"' {
			s.fail("a string that is not a number")
			return market.Null
		}
		s.at++
	}
	return d
}

// number reads a JSON number. Up to 18 digits without an exponent, which is
// every number that the server writes, are read here.
func (s *scanner) number() market.Decimal {
	b, from := s.b, s.at
	i := from
	if i < len(b) && b[i] == '-' {
		i++
	}
	begin, point := i, -1
	var mant uint64
	for ; i < len(b); i++ {
		if c := b[i] - '0'; c <= 9 {
			mant = mant*10 + uint64(c)
		} else if b[i] == '.' && point < 0 {
			point = i
		} else {
			break
		}
	}
	n, exp := i-begin, int8(0)
	if point >= 0 {
		n--
		exp = int8(max(point-i+1, -market.MaxDigits))
	}
	odd := n == 0 || n > market.MaxDigits || point == begin || point == i-1 || b[begin] == '0' && n > 1 && point != begin+1
	if odd || i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		return s.slowNumber(i)
	}
	s.at = i
	m := int64(mant)
	if begin > from {
		m = -m
	}
	return normal(m, int(exp))
}

func (s *scanner) slowNumber(i int) market.Decimal {
	for ; i < len(s.b); i++ {
		if c := s.b[i]; c-'0' > 9 && c != 'e' && c != 'E' && c != '+' && c != '-' && c != '.' {
			break
		}
	}
	d, _, err := market.ParseDecimal(s.b[s.at:i])
	if err != nil {
		s.fail(err.Error())
		return market.Null
	}
	s.at = i
	return d
}

// maxDepth is how deep values of unknown members may nest.
const maxDepth = 32

// skip passes over a value.
func (s *scanner) skip() {
	depth := 0
	for {
		switch c := s.peek(); c {
		case '"':
			s.text()
		case '{', '[':
			s.at++
			depth++
		case '}', ']':
			s.at++
			depth--
		case ',', ':':
			s.at++
		case 0:
			s.fail("a value without end")
		default:
			s.literal()
		}
		if s.bad == "" && depth > maxDepth {
			s.fail("a value too deep")
		}
		if s.bad != "" || depth <= 0 {
			break
		}
	}
	if depth < 0 {
		s.fail("no value where one must be")
	}
}

func (s *scanner) literal() {
	from := s.at
	for s.at < len(s.b) && (s.b[s.at] == '-' || s.b[s.at] == '+' || s.b[s.at] == '.' || s.b[s.at]-'0' <= 9 || s.b[s.at]|0x20-'a' <= 25) {
		s.at++
	}
	if s.at == from {
		s.fail("no value where one must be")
	}
}
