package wire

import (
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The readers below work on raw values whose grammar is already checked.

func text(raw []byte) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	s := scanner{text: raw}
	return s.str()
}

// number reads a decimal number; one out of range is none.
func number(raw []byte) (market.Decimal, bool) {
	d, _, err := market.ParseDecimal(raw)
	return d, err == nil
}

// integer reads a whole number without sign, fraction or exponent.
func integer(raw []byte, most uint64) (uint64, bool) {
	if len(raw) == 0 || len(raw) > len("18446744073709551615") || strings.ContainsAny(string(raw), "-+.eE\"") {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n <= most
}

// each calls fn with every raw element of a list until fn returns false. It
// reports whether raw is a list.
func each(raw []byte, fn func(v []byte) bool) bool {
	if len(raw) == 0 || raw[0] != '[' {
		return false
	}
	s := scanner{text: raw, at: 1}
	for s.space(); s.peek() != ']' && s.at < len(raw); s.space() {
		from := s.at
		if !s.value(1) {
			return false
		}
		if !fn(raw[from:s.at]) {
			return true
		}
		s.space()
		s.accept(',')
	}
	return true
}
