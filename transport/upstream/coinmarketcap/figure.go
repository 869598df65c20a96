package coinmarketcap

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// once refuses an answer in which a member that is read comes twice in an object.
func (p *Parser) once(r *row, f market.Field) {
	if r.seen.Has(f) {
		p.scan.Fail("a member comes twice in one object")
	}
	r.seen |= f.Bit()
}

// figure reads a decimal: a number, a string that holds one (as spreadsheets
// export them; an empty one is null), or null.
func (p *Parser) figure(r *row, dst *market.Decimal, f market.Field, key string) {
	p.once(r, f)
	s := &p.scan
	var text []byte
	switch s.Kind() {
	case jsonscan.Number:
		text = s.Number()
	case jsonscan.String:
		text = s.String()
	case jsonscan.Null:
		s.Skip()
	default:
		s.Skip()
		r.reject(key, "is not a number", f == market.FieldPrice)
		return
	}
	if s.Err() != nil {
		return
	}
	if len(text) > 0 {
		d, rounded, err := market.ParseDecimal(text)
		if err != nil {
			r.reject(key, "is "+textOf(err), f == market.FieldPrice)
			return
		}
		if *dst = d; rounded {
			r.q.Flags |= market.FlagRounded
		}
	}
	if f <= market.NumFields {
		r.q.Has |= f.Bit()
	}
}

func textOf(err error) string {
	if err == market.ErrRange {
		return "out of range"
	}
	return "not a number"
}

// integer reads an integer 1…limit, possibly written as a string; null and an
// empty string are 0, anything else is rejected.
func (p *Parser) integer(limit uint64, r *row, key string, fatal bool) uint64 {
	s := &p.scan
	var text []byte
	switch s.Kind() {
	case jsonscan.Number:
		text = s.Number()
	case jsonscan.String:
		if text = s.String(); len(text) == 0 {
			return 0
		}
	case jsonscan.Null:
		s.Skip()
		return 0
	default:
		s.Skip()
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || n > limit {
		r.reject(key, "is not an integer in range", fatal)
		return 0
	}
	return n
}

// text reads a name into dst, cleaned; null and other kinds leave it empty.
func (p *Parser) text(dst []byte, f market.Field, key string, limit int) []byte {
	p.once(&p.row, f)
	s := &p.scan
	switch s.Kind() {
	case jsonscan.String:
		return append(dst[:0], Clean(s.String(), limit)...)
	case jsonscan.Null:
		s.Skip()
	default:
		s.Skip()
		p.row.reject(key, "is not a string", false)
	}
	return dst[:0]
}

// time reads an instant; null is 0, and what is no instant is rejected.
func (p *Parser) time(r *row) market.Time {
	s := &p.scan
	switch s.Kind() {
	case jsonscan.String:
		text := s.String()
		if t, ok := ParseTime(text); ok || len(text) == 0 {
			return t
		}
	case jsonscan.Null:
		s.Skip()
		return 0
	default:
		s.Skip()
	}
	r.reject("last_updated", "is not an instant", false)
	return 0
}
