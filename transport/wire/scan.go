package wire

import (
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting, maxMembers the members of one object.
const (
	maxDepth   = 8
	maxMembers = 32
)

// member is one member of an object: its decoded name and its raw value.
type member struct {
	name  string
	value []byte
}

// scanner checks RFC 8259 grammar strictly: it allows no duplicate names, no
// lone surrogates, no invalid UTF-8, no byte order mark. It keeps its place so
// that raw values can be cut out of the text.
type scanner struct {
	text []byte
	at   int
	err  string // what is wrong; "" so far
}

func (s *scanner) fail(what string) bool {
	if s.err == "" {
		s.err = what
	}
	return false
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// document scans one object that is the whole text.
func (s *scanner) document() []member {
	s.space()
	if s.peek() != '{' {
		s.fail("a message is one JSON object")
		return nil
	}
	m, ok := s.object(1)
	s.space()
	if ok && s.at != len(s.text) {
		s.fail("data after the JSON object")
	}
	return m
}

func (s *scanner) value(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested too deeply")
	}
	switch c := s.peek(); {
	case c == '{':
		_, ok := s.object(depth)
		return ok
	case c == '[':
		return s.array(depth)
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	default:
		return s.word()
	}
}

func (s *scanner) object(depth int) ([]member, bool) {
	var members []member
	s.at++
	s.space()
	if s.accept('}') {
		return nil, true
	}
	for {
		m, ok := s.member(depth)
		if !ok {
			return nil, false
		}
		for _, other := range members {
			if other.name == m.name {
				return nil, s.fail("duplicate key " + quoted(m.name))
			}
		}
		if members = append(members, m); len(members) > maxMembers {
			return nil, s.fail("too many members")
		}
		s.space()
		if s.accept('}') {
			return members, true
		}
		if !s.accept(',') {
			return nil, s.fail("malformed JSON object")
		}
	}
}

func (s *scanner) member(depth int) (member, bool) {
	s.space()
	name, ok := s.str()
	if !ok {
		return member{}, false
	}
	s.space()
	if !s.accept(':') {
		return member{}, s.fail("malformed JSON object")
	}
	s.space()
	from := s.at
	if !s.value(depth + 1) {
		return member{}, false
	}
	return member{name: name, value: s.text[from:s.at]}, true
}

func (s *scanner) array(depth int) bool {
	s.at++
	s.space()
	if s.accept(']') {
		return true
	}
	for {
		s.space()
		if !s.value(depth + 1) {
			return false
		}
		s.space()
		if s.accept(']') {
			return true
		}
		if !s.accept(',') {
			return s.fail("malformed JSON array")
		}
	}
}

func (s *scanner) word() bool {
	for _, w := range [...]string{"true", "false", "null"} {
		if len(s.text)-s.at >= len(w) && string(s.text[s.at:s.at+len(w)]) == w {
			s.at += len(w)
			return true
		}
	}
	return s.fail("malformed JSON value")
}

func (s *scanner) digits() bool {
	from := s.at
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.at++
	}
	return s.at > from || s.fail("malformed JSON number")
}

func (s *scanner) number() bool {
	s.accept('-')
	if !s.accept('0') && !s.digits() {
		return false
	}
	if s.accept('.') && !s.digits() {
		return false
	}
	if s.accept('e') || s.accept('E') {
		if !s.accept('+') {
			s.accept('-')
		}
		return s.digits()
	}
	return true
}

// str scans a string and returns it decoded.
func (s *scanner) str() (string, bool) {
	if !s.accept('"') {
		return "", s.fail("malformed JSON string")
	}
	from := s.at
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == '"':
			out := string(s.text[from:s.at])
			s.at++
			if !utf8.ValidString(out) {
				return "", s.fail("text is not UTF-8")
			}
			return out, true
		case c == '\\':
			return s.escaped(from)
		case c < ' ':
			return "", s.fail("control character in a string")
		default:
			s.at++
		}
	}
	return "", s.fail("malformed JSON string")
}

// escaped goes on with a string whose first escape is at the current place.
func (s *scanner) escaped(from int) (string, bool) {
	out := append([]byte(nil), s.text[from:s.at]...)
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", s.fail("text is not UTF-8")
			}
			return string(out), true
		case c == '\\':
			var ok bool
			if out, ok = s.escape(out); !ok {
				return "", false
			}
		case c < ' ':
			return "", s.fail("control character in a string")
		default:
			out = append(out, c)
		}
	}
	return "", s.fail("malformed JSON string")
}

func (s *scanner) escape(out []byte) ([]byte, bool) {
	c := s.peek()
	s.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c), true
	case 'b':
		return append(out, '\b'), true
	case 'f':
		return append(out, '\f'), true
	case 'n':
		return append(out, '\n'), true
	case 'r':
		return append(out, '\r'), true
	case 't':
		return append(out, '\t'), true
	case 'u':
		r, ok := s.hex()
		if ok && utf16.IsSurrogate(r) {
			if !s.accept('\\') || !s.accept('u') {
				return nil, s.fail("lone surrogate in a string")
			}
			low, good := s.hex()
			r, ok = utf16.DecodeRune(r, low), good
			if r == utf8.RuneError {
				return nil, s.fail("lone surrogate in a string")
			}
		}
		if !ok {
			return nil, s.fail("malformed escape in a string")
		}
		return utf8.AppendRune(out, r), true
	}
	return nil, s.fail("malformed escape in a string")
}

func (s *scanner) hex() (rune, bool) {
	if len(s.text)-s.at < 4 {
		return 0, false
	}
	var r rune
	for range 4 {
		c := s.text[s.at]
		s.at++
		switch {
		case c >= '0' && c <= '9':
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

// quoted shortens and cleans client text for an error message.
func quoted(name string) string {
	const most = 32
	out := []byte{'"'}
	for _, r := range name {
		if len(out) > most {
			out = append(out, "..."...)
			break
		}
		if r < ' ' || r == '"' || r > '~' {
			r = '?'
		}
		out = append(out, byte(r))
	}
	return string(append(out, '"'))
}
