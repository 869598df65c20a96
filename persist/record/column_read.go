package record

import (
	"fmt"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// readColumns appends the rows that columnsOf wrote.
func readColumns(dst []Row, payload []byte, limit int32) ([]Row, error) {
	r := reader{b: payload}
	n := int(r.byte()) - columnsMark
	m := columns{chunk: chunk{index: -1}}
	m.readHead(&r)
	c := coder{in: bitReader{b: r.b}}
	c.readCodes()
	bad := r.bad || n < 1 || n > columnsMost || c.in.pos > uint(len(r.b))*8
	if bad {
		return nil, fmt.Errorf("%w: rows", ErrCorrupt)
	}
	at := len(dst)
	dst = slices.Grow(dst, n)[:at+n]
	for i := at; i < len(dst) && !bad; i++ {
		bad = !m.read(&c, &dst[i], limit)
	}
	if bad || !c.in.over() {
		return nil, fmt.Errorf("%w: rows", ErrCorrupt)
	}
	return dst, nil
}

func (m *columns) readHead(r *reader) {
	present := r.byte()
	if present >= columnsRatio<<1 {
		r.fail()
	}
	m.present = present &^ columnsRatio
	for q := range hasVelocity {
		if m.has(q) {
			m.exps[q] = int8(r.byte())
			if m.exps[q] > mostExp || m.exps[q] < leastExp {
				r.fail()
			}
		}
	}
	m.exps[hasVelocity] = VelocityScale
	var p scaled
	for q, v := range [hasVelocity]*int64{&p.price[3], &p.cap[0], &p.volume[0]} {
		if m.has(q) && (q != hasCap || present&columnsRatio == 0) {
			*v = r.varint()
		}
	}
	if present&columnsRatio != 0 {
		var u uint64
		for i, b := range r.bytes(5) {
			u |= uint64(b) << (ratioCut + 8*i)
		}
		m.ratio = math.Float64frombits(u)
	}
	m.begin(p)
	m.control = r.byte()
	m.count = uint32(r.uvarint())
	m.flags = market.Flags(r.uvarint())
}

func (c *coder) readCodes() {
	for i := range c.codes {
		if c.in.get(1) == 0 {
			continue
		}
		first := uint8(1)
		if c.in.get(1) != 0 {
			first = codeApart
		}
		c.codes[i] = first + uint8(c.in.get(5))
	}
}

func (m *columns) read(c *coder, row *Row, limit int32) bool {
	m.control ^= byte(c.number(colControl, 0))
	step := c.number(colStep, 0)
	if m.control > rowControls || step >= uint64(limit) || int64(m.index)+1+int64(step) >= int64(limit) {
		return false
	}
	m.index += 1 + int32(step)
	row.Index = m.index
	row.Count = uint32(int64(m.count) + unzigzag(c.number(colCount, 0)))
	m.flags ^= market.Flags(c.number(colFlags, 0))
	row.Flags = m.flags
	if m.control&rowPlain != 0 {
		return c.in.plain(row)
	}
	m.numbers(c, &m.now)
	m.fill(row)
	m.keep(&m.now)
	return true
}

// plain reads a row's numbers, which begin with a byte.
func (r *bitReader) plain(row *Row) bool {
	r.align()
	if r.pos > uint(len(r.b))*8 {
		return false
	}
	in := reader{b: r.b[r.pos>>3:]}
	row.Cap, row.Volume = nullBar, nullBar
	for _, d := range row.numbers() {
		*d = in.number()
	}
	r.pos = uint(len(r.b)-len(in.b)) * 8
	return !in.bad
}

// fill turns the integers of m.now into the row's numbers; every one is set.
func (m *columns) fill(row *Row) {
	single := m.control&rowSingle != 0
	row.VWAP = market.Null
	if m.has(hasPrice) {
		fillBar(&row.Price, &m.now.price, m.exps[hasPrice], single)
		switch {
		case m.control&rowNoVWAP != 0:
		case single:
			row.VWAP = row.Price.Close
		default:
			row.VWAP = market.NewDecimal(m.now.vwap, m.exps[hasPrice])
		}
	} else {
		row.Price = nullBar
	}
	if m.has(hasVelocity) {
		fillBar(&row.Velocity, &m.now.velocity, VelocityScale, single)
	} else {
		row.Velocity = nullBar
	}
	row.Cap, row.Volume = nullBar, nullBar
	if m.has(hasCap) {
		fillPair(&row.Cap, &m.now.cap, m.exps[hasCap], single)
	}
	if m.has(hasVolume) {
		fillPair(&row.Volume, &m.now.volume, m.exps[hasVolume], single)
	}
}

func fillBar(b *market.Bar, v *[5]int64, exp int8, single bool) {
	d := market.NewDecimal(v[3], exp)
	if single {
		*b = market.Bar{Open: d, High: d, Low: d, Close: d, Mean: d}
		return
	}
	b.Close = d
	b.Open, b.High = market.NewDecimal(v[0], exp), market.NewDecimal(v[1], exp)
	b.Low, b.Mean = market.NewDecimal(v[2], exp), market.NewDecimal(v[4], exp)
}

func fillPair(b *market.Bar, v *[2]int64, exp int8, single bool) {
	b.Close = market.NewDecimal(v[0], exp)
	b.Mean = b.Close
	if !single {
		b.Mean = market.NewDecimal(v[1], exp)
	}
}
