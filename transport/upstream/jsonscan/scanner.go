package jsonscan

import (
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 32

// Kind is the kind of a JSON value, told from its first byte.
type Kind uint8

// The kinds. Invalid also stands for the end of the text and for any state
// after an error.
const (
	Invalid Kind = iota
	Object
	Array
	String
	Number
	True
	False
	Null
)

// Error is what is wrong with a text, and where.
type Error struct {
	Offset int // in bytes from the start
	What   string
}

// Error returns one line such as "byte 17: unexpected end".
func (e *Error) Error() string { return "byte " + strconv.Itoa(e.Offset) + ": " + e.What }

// Scanner walks over one JSON text. The first error sticks: after it every
// method returns its zero value, so that loops end and Err is asked once.
// Slices that it returns point into the text, or into a buffer that the next
// call to Key or String overwrites.
type Scanner struct {
	data  []byte
	at    int
	depth int
	first bool // just entered an object or array
	err   *Error
	text  []byte // the last string that had escapes
}

// Reset starts on a new text, which must not change while it is read.
func (s *Scanner) Reset(data []byte) {
	*s = Scanner{data: data, text: s.text[:0]}
	if len(data) >= 3 && data[0] == 0xEF && data[1] == 0xBB && data[2] == 0xBF {
		s.Fail("byte order mark")
		return
	}
	if !utf8.Valid(data) {
		for s.at < len(data) {
			r, n := utf8.DecodeRune(data[s.at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			s.at += n
		}
		s.Fail("invalid UTF-8")
	}
}

// Err returns the first error, or nil.
func (s *Scanner) Err() error {
	if s.err == nil {
		return nil
	}
	return s.err
}

// Offset returns how far the scanner got, in bytes.
func (s *Scanner) Offset() int { return s.at }

// Fail makes the text invalid at the present place, for a reason that the
// caller knows. The first error stays.
func (s *Scanner) Fail(what string) {
	if s.err == nil {
		s.err = &Error{Offset: s.at, What: what}
	}
}

// End checks that nothing but space follows, and returns the first error.
func (s *Scanner) End() error {
	s.space()
	if s.err == nil && s.at < len(s.data) {
		s.Fail("unexpected data after the end")
	}
	return s.Err()
}

// Kind returns the kind of the value that comes next.
func (s *Scanner) Kind() Kind {
	s.space()
	if s.err != nil || s.at >= len(s.data) {
		return Invalid
	}
	switch c := s.data[s.at]; c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't':
		return True
	case 'f':
		return False
	case 'n':
		return Null
	default:
		if c == '-' || c-'0' <= 9 {
			return Number
		}
		return Invalid
	}
}

// Enter steps into the object or array that comes next; false on anything else,
// which is then an error. Walk on with Key or More until that returns false.
func (s *Scanner) Enter(kind Kind) bool {
	want := byte('{')
	if kind == Array {
		want = '['
	}
	if s.peek() != want {
		s.unexpected()
		return false
	}
	if s.depth++; s.depth > MaxDepth {
		s.Fail("nested too deep")
		return false
	}
	s.at++
	s.first = true
	return true
}

// Key returns the next key of the object that was entered, with the scanner
// before its value; false at the end of the object or at an error.
func (s *Scanner) Key() (key []byte, ok bool) {
	if !s.next('}') {
		return nil, false
	}
	if s.peek() != '"' {
		s.unexpected()
		return nil, false
	}
	key = s.String()
	if s.peek() != ':' {
		s.unexpected()
		return nil, false
	}
	s.at++
	return key, true
}

// More reports whether the array that was entered has another element, with
// the scanner before it.
func (s *Scanner) More() bool { return s.next(']') }

// next steps over the comma before an element, or over the end.
func (s *Scanner) next(end byte) bool {
	c := s.peek()
	first := s.first
	s.first = false
	switch {
	case s.err != nil:
		return false
	case c == end && s.at < len(s.data):
		s.at++
		s.depth--
		return false
	case first:
		return true
	case c == ',':
		s.at++
		return true
	}
	s.unexpected()
	return false
}

// Skip steps over the value that comes next, whatever it is, checking it.
func (s *Scanner) Skip() {
	switch s.Kind() {
	case Object:
		for ok := s.Enter(Object); ok; {
			if _, ok = s.Key(); ok {
				s.Skip()
			}
		}
	case Array:
		for ok := s.Enter(Array); ok; {
			if ok = s.More(); ok {
				s.Skip()
			}
		}
	case String:
		s.string()
	case Number:
		s.Number()
	case True:
		s.literal("true")
	case False:
		s.literal("false")
	case Null:
		s.literal("null")
	default:
		s.unexpected()
	}
}

// SkipNull steps over a null; false, and nothing read, where something else comes.
func (s *Scanner) SkipNull() bool {
	if s.Kind() != Null {
		return false
	}
	s.literal("null")
	return s.err == nil
}

func (s *Scanner) literal(word string) {
	if len(s.data)-s.at < len(word) || string(s.data[s.at:s.at+len(word)]) != word {
		s.unexpected()
		return
	}
	s.at += len(word)
}

// peek returns the next byte that is not space; 0 at the end or after an error.
func (s *Scanner) peek() byte {
	s.space()
	if s.err != nil || s.at >= len(s.data) {
		return 0
	}
	return s.data[s.at]
}

func (s *Scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\n', '\r', '\t':
			s.at++
		default:
			return
		}
	}
}

func (s *Scanner) unexpected() {
	switch {
	case s.err != nil:
	case s.at >= len(s.data):
		s.Fail("unexpected end")
	default:
		r, _ := utf8.DecodeRune(s.data[s.at:])
		s.Fail("unexpected " + strconv.QuoteRune(r))
	}
}
