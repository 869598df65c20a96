package packet

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner checks the grammar of RFC 8259 in text that is valid UTF-8. It allocates
// nothing and stops at the first fault.
type scanner struct {
	text   []byte
	at     int
	places *places // filled where attachments were announced
}

// places are the numbers of the placeholders that were found.
type places struct {
	seen [MaxAttachments]bool
	bad  bool // one that is malformed, out of range or there twice
}

// filled returns how many there are, or -1 where they are not 0, 1, 2 and so on.
func (p *places) filled() int {
	n := 0
	for n < len(p.seen) && p.seen[n] {
		n++
	}
	for _, more := range p.seen[n:] {
		if more {
			return -1
		}
	}
	if p.bad {
		return -1
	}
	return n
}

func (p *places) add(n int) {
	if n < 0 || n >= len(p.seen) || p.seen[n] {
		p.bad = true
		return
	}
	p.seen[n] = true
}

// document scans one value that is the whole text, and returns its first byte.
func (s *scanner) document() (first byte, err error) {
	s.space()
	first = s.peek()
	if !s.value(0) {
		return 0, ErrJSON
	}
	s.space()
	if s.at != len(s.text) {
		return 0, ErrJSON
	}
	return first, nil
}

// array scans one array that is the whole text.
func (s *scanner) array() error {
	first, err := s.document()
	if err == nil && first != '[' {
		return ErrData
	}
	return err
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

// value scans one value inside of depth others.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); {
	case c == '{':
		return depth < MaxDepth && s.object(depth)
	case c == '[':
		return depth < MaxDepth && s.items(depth)
	case c == '"':
		return s.str()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	return s.word("true") || s.word("false") || s.word("null")
}

func (s *scanner) items(depth int) bool {
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
			return false
		}
	}
}

// object scans an object, and takes it for a placeholder where it says so.
func (s *scanner) object(depth int) bool {
	var placeholder, others bool
	num, nums := -1, 0
	s.at++
	s.space()
	for more := !s.accept('}'); more; {
		s.space()
		from := s.at
		if !s.str() {
			return false
		}
		key := s.text[from:s.at]
		s.space()
		if !s.accept(':') {
			return false
		}
		s.space()
		from = s.at
		if !s.value(depth + 1) {
			return false
		}
		if s.places != nil {
			switch value := s.text[from:s.at]; {
			case is(key, "_placeholder"):
				placeholder = placeholder || string(value) == "true"
			case is(key, "num"):
				num, nums = place(value), nums+1
			default:
				others = true
			}
		}
		s.space()
		if more = !s.accept('}'); more && !s.accept(',') {
			return false
		}
	}
	if placeholder {
		s.places.add(num)
		s.places.bad = s.places.bad || others || nums != 1
	}
	return true
}

// is reports whether a scanned string reads so; escapes do not hide it.
func is(quoted []byte, name string) bool {
	if string(quoted[1:len(quoted)-1]) == name {
		return true
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return false
	}
	text, ok := unquote(quoted)
	return ok && text == name
}

// place returns the number of a placeholder, or -1.
func place(value []byte) int {
	if len(value) != 1 || value[0]-'0' > 9 { // MaxAttachments is 10
		return -1
	}
	return int(value[0] - '0')
}

func (s *scanner) word(w string) bool {
	if len(s.text)-s.at >= len(w) && string(s.text[s.at:s.at+len(w)]) == w {
		s.at += len(w)
		return true
	}
	return false
}

func (s *scanner) digits() bool {
	n := countDigits(s.text[s.at:])
	s.at += n
	return n > 0
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

// str scans a string. Whether escaped surrogates come in pairs is left open, as
// the grammar does.
func (s *scanner) str() bool {
	if !s.accept('"') {
		return false
	}
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return true
		case c < ' ':
			return false
		case c == '\\' && !s.escape():
			return false
		}
	}
	return false
}

func (s *scanner) escape() bool {
	c := s.peek()
	s.at++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		_, ok := hex(s.text[s.at:])
		s.at += 4
		return ok
	}
	return false
}

func hex(text []byte) (r rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for _, c := range text[:4] {
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

// unquote decodes a scanned string; it has none where a surrogate stands alone.
func unquote(quoted []byte) (text string, ok bool) {
	in := quoted[1 : len(quoted)-1]
	plain := 0
	for plain < len(in) && in[plain] != '\\' {
		plain++
	}
	if plain == len(in) {
		return string(in), true
	}
	out := append(make([]byte, 0, len(in)), in[:plain]...)
	for in = in[plain:]; len(in) > 0; {
		if in[0] != '\\' {
			out, in = append(out, in[0]), in[1:]
			continue
		}
		if in[1] != 'u' {
			out, in = append(out, plainEscape(in[1])), in[2:]
			continue
		}
		r, _ := hex(in[2:])
		in = in[6:]
		if utf16.IsSurrogate(r) {
			if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
				return "", false
			}
			low, _ := hex(in[2:])
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return "", false
			}
			in = in[6:]
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), true
}

func plainEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
