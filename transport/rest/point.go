package rest

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// appendPoint prints one history point as a JSON object.
func (q *historyQuery) appendPoint(dst []byte, p *market.Point) []byte {
	dst = appendInstant(append(dst, `{"time":`...), p.Time)
	if q.granularity == market.GranularityRaw {
		return q.appendRaw(dst, p)
	}
	dst = strconv.AppendUint(append(dst, `,"count":`...), uint64(p.Count), 10)
	if q.fields&pastPrice != 0 {
		dst = appendBar(append(dst, `,"price":{`...), &p.Price)
		dst = append(p.VWAP.AppendText(append(dst, `,"vwap":`...)), '}')
	}
	if q.fields&pastCap != 0 {
		dst = appendLast(append(dst, `,"market_cap":`...), &p.Cap)
	}
	if q.fields&pastVolume != 0 {
		dst = appendLast(append(dst, `,"volume_24h":`...), &p.Volume)
	}
	if q.fields&pastVelocity != 0 {
		dst = append(appendBar(append(dst, `,"velocity":{`...), &p.Velocity), '}')
	}
	return append(dst, '}')
}

func (q *historyQuery) appendRaw(dst []byte, p *market.Point) []byte {
	dst = strconv.AppendUint(append(dst, `,"seq":`...), p.Seq, 10)
	for i, b := range [...]*market.Bar{&p.Price, &p.Cap, &p.Volume, &p.Velocity} {
		if q.fields>>i&1 != 0 {
			dst = append(append(append(dst, `,"`...), historyFields[i]...), `":`...)
			dst = b.Close.AppendText(dst)
		}
	}
	if q.fields&pastFlags != 0 {
		dst = appendFlags(append(dst, `,"flags":`...), p.Flags)
	}
	return append(dst, '}')
}

func appendBar(dst []byte, b *market.Bar) []byte {
	dst = b.Open.AppendText(append(dst, `"open":`...))
	dst = b.High.AppendText(append(dst, `,"high":`...))
	dst = b.Low.AppendText(append(dst, `,"low":`...))
	dst = b.Close.AppendText(append(dst, `,"close":`...))
	return b.Mean.AppendText(append(dst, `,"mean":`...))
}

func appendLast(dst []byte, b *market.Bar) []byte {
	dst = b.Close.AppendText(append(dst, `{"last":`...))
	return append(b.Mean.AppendText(append(dst, `,"mean":`...)), '}')
}

// column is one column of the CSV form.
type column struct {
	field int // bit of the field it belongs to; 0 always
	name  string
	print func(dst []byte, p *market.Point) []byte
}

func number(field int, name string, pick func(p *market.Point) market.Decimal) column {
	return column{field, name, func(dst []byte, p *market.Point) []byte {
		d := pick(p)
		if d.IsNull() {
			return dst // an empty cell
		}
		return d.AppendText(dst)
	}}
}

var timeColumn = column{0, "time", func(dst []byte, p *market.Point) []byte { return p.Time.AppendRFC3339(dst) }}

var rawColumns = []column{
	timeColumn,
	{0, "seq", func(dst []byte, p *market.Point) []byte { return strconv.AppendUint(dst, p.Seq, 10) }},
	number(pastPrice, "price", func(p *market.Point) market.Decimal { return p.Price.Close }),
	number(pastCap, "market_cap", func(p *market.Point) market.Decimal { return p.Cap.Close }),
	number(pastVolume, "volume_24h", func(p *market.Point) market.Decimal { return p.Volume.Close }),
	number(pastVelocity, "velocity", func(p *market.Point) market.Decimal { return p.Velocity.Close }),
	{pastFlags, "flags", appendFlagCell},
}

var barColumns = []column{
	timeColumn,
	{0, "count", func(dst []byte, p *market.Point) []byte { return strconv.AppendUint(dst, uint64(p.Count), 10) }},
	number(pastPrice, "price_open", func(p *market.Point) market.Decimal { return p.Price.Open }),
	number(pastPrice, "price_high", func(p *market.Point) market.Decimal { return p.Price.High }),
	number(pastPrice, "price_low", func(p *market.Point) market.Decimal { return p.Price.Low }),
	number(pastPrice, "price_close", func(p *market.Point) market.Decimal { return p.Price.Close }),
	number(pastPrice, "price_mean", func(p *market.Point) market.Decimal { return p.Price.Mean }),
	number(pastPrice, "price_vwap", func(p *market.Point) market.Decimal { return p.VWAP }),
	number(pastCap, "market_cap_last", func(p *market.Point) market.Decimal { return p.Cap.Close }),
	number(pastCap, "market_cap_mean", func(p *market.Point) market.Decimal { return p.Cap.Mean }),
	number(pastVolume, "volume_24h_last", func(p *market.Point) market.Decimal { return p.Volume.Close }),
	number(pastVolume, "volume_24h_mean", func(p *market.Point) market.Decimal { return p.Volume.Mean }),
	number(pastVelocity, "velocity_open", func(p *market.Point) market.Decimal { return p.Velocity.Open }),
	number(pastVelocity, "velocity_high", func(p *market.Point) market.Decimal { return p.Velocity.High }),
	number(pastVelocity, "velocity_low", func(p *market.Point) market.Decimal { return p.Velocity.Low }),
	number(pastVelocity, "velocity_close", func(p *market.Point) market.Decimal { return p.Velocity.Close }),
	number(pastVelocity, "velocity_mean", func(p *market.Point) market.Decimal { return p.Velocity.Mean }),
}

// appendFlagCell joins flag names with a bar: names hold no separator.
func appendFlagCell(dst []byte, p *market.Point) []byte {
	first := true
	for bit, name := range market.FlagNames() {
		if p.Flags>>bit&1 == 0 {
			continue
		}
		if !first {
			dst = append(dst, '|')
		}
		first = false
		dst = append(dst, name...)
	}
	return dst
}

func (q *historyQuery) columns() []column {
	if q.granularity == market.GranularityRaw {
		return rawColumns
	}
	return barColumns
}

func (q *historyQuery) appendHeader(dst []byte) []byte {
	for _, c := range q.columns() {
		if c.field == 0 || q.fields&c.field != 0 {
			dst = append(append(dst, c.name...), ',')
		}
	}
	return append(dst[:len(dst)-1], "\r\n"...)
}

// appendCells prints a line of RFC 4180. No cell can hold a comma, quote or line
// end, so none is quoted.
func (q *historyQuery) appendCells(dst []byte, p *market.Point) []byte {
	for _, c := range q.columns() {
		if c.field == 0 || q.fields&c.field != 0 {
			dst = append(c.print(dst, p), ',')
		}
	}
	return append(dst[:len(dst)-1], "\r\n"...)
}
