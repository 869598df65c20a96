package rest

import (
	"bytes"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Sheet prints the history of many tokens as /history prints that of one, in CSV
// or NDJSON with all fields, with the token's id and symbol in front.
type Sheet struct{ q historyQuery }

// NewSheet returns the form of a granularity's points.
func NewSheet(g market.Granularity) *Sheet {
	return &Sheet{historyQuery{granularity: g, fields: pastAll}}
}

// Stretch rounds an instant down, or up, to whole points of the granularity, as
// /history does with from and to.
func (p *Sheet) Stretch(from, to market.Time) (market.Time, market.Time) {
	width := p.q.granularity.Width()
	return alignDown(from, width), alignUp(to, width)
}

// AppendHeader appends the CSV form's header line.
func (p *Sheet) AppendHeader(dst []byte) []byte {
	return p.q.appendHeader(append(dst, "id,symbol,"...))
}

// AppendCells appends a point as a CSV line; an unknown symbol is empty.
func (p *Sheet) AppendCells(dst []byte, id market.ID, symbol string, point *market.Point) []byte {
	dst = append(strconv.AppendUint(dst, uint64(id), 10), ',')
	dst = append(appendQuoted(dst, symbol), ',')
	return p.q.appendCells(dst, point)
}

// AppendLine appends a point as an NDJSON line; an unknown symbol is null.
func (p *Sheet) AppendLine(dst []byte, id market.ID, symbol string, point *market.Point) []byte {
	dst = append(appendToWhom(dst, id, symbol), ',')
	start := len(dst)
	dst = p.q.appendPoint(dst, point)
	dst = append(dst[:start], dst[start+1:]...) // the object's own brace
	return append(dst, '\n')
}

// AppendGap appends a stretch without points as an NDJSON line, told by its
// member gap.
func (p *Sheet) AppendGap(dst []byte, id market.ID, symbol string, g market.Gap) []byte {
	dst = appendInstant(append(appendToWhom(dst, id, symbol), `,"gap":{"from":`...), g.From)
	return append(appendInstant(append(dst, `,"to":`...), g.To), "}}\n"...)
}

// appendToWhom opens an object with the token's id and symbol.
func appendToWhom(dst []byte, id market.ID, symbol string) []byte {
	dst = append(strconv.AppendUint(append(dst, `{"id":`...), uint64(id), 10), `,"symbol":`...)
	if symbol == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, symbol)
}

// appendQuoted appends a CSV cell, in quotes where RFC 4180 wants them.
func appendQuoted(dst []byte, text string) []byte {
	if !bytes.ContainsAny([]byte(text), ",\"\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range []byte(text) {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// AppendDifference appends which columns of two points differ: the first one's
// value, then the other's.
func (p *Sheet) AppendDifference(dst []byte, there, file *market.Point) []byte {
	var a, b []byte
	start := len(dst)
	for _, c := range p.q.columns()[1:] {
		a, b = c.print(a[:0], there), c.print(b[:0], file)
		if bytes.Equal(a, b) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ", "...)
		}
		dst = append(append(dst, c.name...), ' ')
		dst = append(append(append(dst, orNothing(a)...), " there, "...), orNothing(b)...)
		dst = append(dst, " in the file"...)
	}
	return dst
}

func orNothing(text []byte) []byte {
	if len(text) == 0 {
		return []byte("none")
	}
	return text
}
