package rest

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// sheetJSON walks one line of NDJSON.
type sheetJSON struct {
	b    []byte
	at   int
	seen uint32
	path []byte
	gap  bool
}

// readJSON takes one line in. Members may come in any order, each once.
func (r *SheetReader) readJSON(line []byte) (gap bool, bad *SheetError) {
	p := sheetJSON{b: line, path: r.text[:0]}
	bad = r.object(&p, "")
	r.text = p.path[:0]
	switch {
	case bad != nil:
		return false, bad
	case !p.end():
		return false, r.fail("", "something follows the object; write one object a line")
	case p.gap:
		return true, nil
	}
	if missing := r.form.required &^ p.seen; missing != 0 {
		return false, r.fail("", "the object lacks "+r.names(missing))
	}
	if p.seen&(1<<1) == 0 {
		r.row.Symbol = ""
	}
	return false, nil
}

func (p *sheetJSON) space() {
	for p.at < len(p.b) && (p.b[p.at] == ' ' || p.b[p.at] == '\t' || p.b[p.at] == '\r') {
		p.at++
	}
}

func (p *sheetJSON) end() bool {
	p.space()
	return p.at == len(p.b)
}

// next skips space and takes c if it is there.
func (p *sheetJSON) next(c byte) bool {
	p.space()
	if p.at < len(p.b) && p.b[p.at] == c {
		p.at++
		return true
	}
	return false
}

// object reads an object, the whole one or that of a member.
func (r *SheetReader) object(p *sheetJSON, of string) *SheetError {
	if !p.next('{') {
		return r.fail(of, "is not an object; write one object a line")
	}
	if p.next('}') {
		return nil
	}
	for {
		name, ok := p.string()
		if !ok || !p.next(':') {
			return r.fail(of, "is not JSON at byte "+strconv.Itoa(p.at+1)+": a member is expected")
		}
		if bad := r.member(p, of, name); bad != nil {
			return bad
		}
		if p.next(',') {
			continue
		}
		if !p.next('}') {
			return r.fail(of, "is not JSON at byte "+strconv.Itoa(p.at+1)+": , or } is expected")
		}
		return nil
	}
}

func (r *SheetReader) member(p *sheetJSON, of string, name []byte) *SheetError {
	p.path = append(p.path[:0], of...)
	if of != "" {
		p.path = append(p.path, '.')
	}
	p.path = append(p.path, name...)
	if of == "" && string(name) == "gap" {
		p.gap = true
		return r.skipGap(p)
	}
	if of == "" && r.form.groups[string(name)] {
		p.space()
		if p.at < len(p.b) && p.b[p.at] == '{' {
			return r.object(p, string(name))
		}
	}
	i, known := r.form.byPath[string(p.path)]
	if !known {
		return r.fail(clip(p.path), "is unknown in a file of "+r.form.granularity.String()+"; known are "+r.names(^uint32(0)))
	}
	f := &r.form.fields[i]
	if p.seen>>i&1 != 0 {
		return r.fail(f.path, "is there twice")
	}
	p.seen |= 1 << i
	text, quoted, ok := p.value()
	if !ok {
		return r.fail(f.path, "is not JSON at byte "+strconv.Itoa(p.at+1)+": a number, a string or null is expected")
	}
	null := !quoted && string(text) == "null"
	if err := f.read(&r.row, text, quoted, null); err != nil {
		return r.fail(f.path, strconv.Quote(clip(text))+" "+err.Error())
	}
	return nil
}

// skipGap passes over the two instants of a gap.
func (r *SheetReader) skipGap(p *sheetJSON) *SheetError {
	bad := r.fail("gap", `is not {"from":…,"to":…}`)
	if !p.next('{') {
		return bad
	}
	for i, name := range []string{"from", "to"} {
		got, ok := p.string()
		if !ok || string(got) != name || !p.next(':') {
			return bad
		}
		text, _, ok := p.value()
		if _, instant := ParseInstant(string(text)); !ok || !instant {
			return bad
		}
		if i == 0 && !p.next(',') {
			return bad
		}
	}
	if !p.next('}') {
		return bad
	}
	return nil
}

// value reads a scalar; an array of strings, as flags are, becomes one text with
// bars between them. The result is valid until the next call.
func (p *sheetJSON) value() (text []byte, quoted, ok bool) {
	p.space()
	if p.at == len(p.b) {
		return nil, false, false
	}
	switch p.b[p.at] {
	case '"':
		text, ok = p.string()
		return text, true, ok
	case '[':
		return p.list()
	}
	from := p.at
	for p.at < len(p.b) && !endsScalar(p.b[p.at]) {
		p.at++
	}
	return p.b[from:p.at], false, p.at > from
}

func endsScalar(c byte) bool {
	switch c {
	case ',', '}', ']', '{', '[', ':', '"', ' ', '\t', '\r':
		return true
	}
	return false
}

func (p *sheetJSON) list() (text []byte, quoted, ok bool) {
	p.at++
	if p.next(']') {
		return nil, true, true
	}
	for {
		item, good := p.string()
		if !good {
			return nil, false, false
		}
		if len(text) > 0 {
			text = append(text, '|')
		}
		text = append(text, item...)
		if p.next(']') {
			return text, true, true
		}
		if !p.next(',') {
			return nil, false, false
		}
	}
}

// string reads a string.
func (p *sheetJSON) string() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	from, escaped := p.at, false
	for ; p.at < len(p.b); p.at++ {
		switch c := p.b[p.at]; {
		case c == '"':
			text := p.b[from:p.at]
			p.at++
			if escaped {
				return unescaped(p.b[from-1 : p.at])
			}
			return text, utf8.Valid(text)
		case c == '\\':
			escaped = true
			p.at++
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}

func unescaped(quoted []byte) ([]byte, bool) {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, false
	}
	return []byte(s), true
}
