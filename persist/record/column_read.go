package record

import (
	"fmt"
	"math"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// columnReader reads rows out of bits.
type columnReader struct {
	in     bitReader
	codes  [numColumns]uint8
	steady bool // control, step, count and flags never change
}

// readColumns appends the rows that columnsOf wrote.
func readColumns(dst []Row, payload []byte, limit int32) ([]Row, error) {
	r := reader{b: payload}
	n := int(r.byte()) - columnsMark
	m := columns{chunk: chunk{index: -1}}
	m.readHead(&r)
	c := columnReader{in: bitReader{b: r.b}}
	c.readCodes()
	bad := r.bad || n < 1 || n > columnsMost || c.in.pos > uint(len(r.b))*8
	if bad {
		return nil, fmt.Errorf("%w: rows", ErrCorrupt)
	}
	at := len(dst)
	dst = slices.Grow(dst, n)[:at+n]
	for i := at; i < len(dst) && !bad; i++ {
		bad = !c.row(&m, &dst[i], limit)
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

func (c *columnReader) readCodes() {
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
	c.steady = c.codes[colControl]|c.codes[colStep]|c.codes[colCount]|c.codes[colFlags] == 0
}

// next is small enough to be inlined.
func (c *columnReader) next(column int) uint64 {
	if code := c.codes[column]; code != 0 {
		return c.in.number(code)
	}
	return 0
}

// around reads how far a value is from its prediction.
func (c *columnReader) around(column int) int64 { return unzigzag(c.next(column)) }

// row reads the next row; all of it is set.
func (c *columnReader) row(m *columns, row *Row, limit int32) bool {
	row.Time, row.Seq = 0, 0
	step := uint64(0)
	row.Count = m.count
	if !c.steady {
		m.control ^= byte(c.next(colControl))
		step = c.next(colStep)
		row.Count = uint32(int64(m.count) + c.around(colCount))
		m.flags ^= market.Flags(c.next(colFlags))
	}
	if m.control > rowControls || step >= uint64(limit) || int64(m.index)+1+int64(step) >= int64(limit) {
		return false
	}
	m.index += 1 + int32(step)
	row.Index, row.Flags = m.index, m.flags
	switch {
	case m.control&rowPlain != 0:
		return c.in.plain(row)
	case m.control&rowSingle != 0:
		c.single(m)
		m.fillSingle(row)
	default:
		c.numbers(m)
		m.fill(row)
	}
	m.keep(&m.now)
	return true
}

// single reads the closes of a row of which all else follows.
func (c *columnReader) single(m *columns) {
	s := &m.now
	if m.has(hasPrice) {
		s.price[3] = m.prev.price[3] + c.around(colPrice)
	}
	if m.has(hasVolume) {
		s.volume[0] = m.prev.volume[0] + c.around(colVolume)
	}
	if m.has(hasCap) {
		s.cap[0] = m.closeCap(s) + c.around(colCap)
	}
	if m.has(hasVelocity) {
		s.velocity[3] = m.speed(s.volume[0], s.cap[0], s.price[3], m.prev.velocity[3]) + c.around(colSpeed)
	}
}

// numbers reads what columns.numbers wrote of a row that is not single.
func (c *columnReader) numbers(m *columns) {
	s := &m.now
	if m.has(hasPrice) {
		s.price[3] = m.prev.price[3] + c.around(colPrice)
		c.spread(colPrice, &s.price, m.prev.price[3])
		s.price[4] = inner(&s.price) + c.around(colPrice+4)
		if m.control&rowNoVWAP == 0 {
			s.vwap = s.price[4] + c.around(colVWAP)
		}
	}
	if m.has(hasVolume) {
		s.volume[0] = m.prev.volume[0] + c.around(colVolume)
		s.volume[1] = middle(m.prev.volume[0], s.volume[0]) + c.around(colVolume+1)
	}
	if m.has(hasCap) {
		s.cap[0] = m.closeCap(s) + c.around(colCap)
		s.cap[1] = m.meanCap(s) + c.around(colCap+1)
	}
	if m.has(hasVelocity) {
		s.velocity[3] = m.speed(s.volume[0], s.cap[0], s.price[3], m.prev.velocity[3]) + c.around(colSpeed)
		c.spread(colSpeed, &s.velocity, m.openSpeed(s))
		s.velocity[4] = m.speed(s.volume[1], s.cap[1], s.price[4], inner(&s.velocity)) + c.around(colSpeed+4)
	}
}

func (c *columnReader) spread(column int, v *[5]int64, open int64) {
	v[0] = open + c.around(column+1)
	v[1] = max(v[0], v[3]) + int64(c.next(column+2))
	v[2] = min(v[0], v[3]) - int64(c.next(column+3))
}

// plain reads a row's numbers, which begin with a byte.
func (r *bitReader) plain(row *Row) bool {
	r.align()
	if r.pos > uint(len(r.b))*8 {
		return false
	}
	in := reader{b: r.b[r.pos>>3:]}
	setPair(&row.Cap, market.Null)
	setPair(&row.Volume, market.Null)
	for _, d := range row.numbers() {
		*d = in.number()
	}
	r.pos = uint(len(r.b)-len(in.b)) * 8
	return !in.bad
}

// fill turns the integers of m.now into the row's numbers; every one is set.
func (m *columns) fill(row *Row) {
	row.VWAP = market.Null
	if m.has(hasPrice) {
		fillBar(&row.Price, &m.now.price, m.exps[hasPrice])
		if m.control&rowNoVWAP == 0 {
			row.VWAP = market.NewDecimal(m.now.vwap, m.exps[hasPrice])
		}
	} else {
		row.Price = nullBar
	}
	if m.has(hasVelocity) {
		fillBar(&row.Velocity, &m.now.velocity, VelocityScale)
	} else {
		row.Velocity = nullBar
	}
	fillPair(&row.Cap, m.has(hasCap), &m.now.cap, m.exps[hasCap])
	fillPair(&row.Volume, m.has(hasVolume), &m.now.volume, m.exps[hasVolume])
}

// fillSingle is fill for a row all of whose numbers are closes.
func (m *columns) fillSingle(row *Row) {
	price := m.decimal(hasPrice, m.now.price[3])
	setBar(&row.Price, price)
	setBar(&row.Velocity, m.decimal(hasVelocity, m.now.velocity[3]))
	setPair(&row.Cap, m.decimal(hasCap, m.now.cap[0]))
	setPair(&row.Volume, m.decimal(hasVolume, m.now.volume[0]))
	if m.control&rowNoVWAP != 0 {
		price = market.Null
	}
	row.VWAP = price
}

// decimal is null where rows do not hold the quantity.
func (m *columns) decimal(q int, v int64) market.Decimal {
	if !m.has(q) {
		return market.Null
	}
	return market.NewDecimal(v, m.exps[q])
}

func fillBar(b *market.Bar, v *[5]int64, exp int8) {
	b.Open, b.High = market.NewDecimal(v[0], exp), market.NewDecimal(v[1], exp)
	b.Low, b.Close = market.NewDecimal(v[2], exp), market.NewDecimal(v[3], exp)
	b.Mean = market.NewDecimal(v[4], exp)
}

func setBar(b *market.Bar, d market.Decimal) {
	b.Open, b.High, b.Low, b.Close, b.Mean = d, d, d, d, d
}

func fillPair(b *market.Bar, held bool, v *[2]int64, exp int8) {
	setPair(b, market.Null)
	if held {
		b.Close, b.Mean = market.NewDecimal(v[0], exp), market.NewDecimal(v[1], exp)
	}
}

func setPair(b *market.Bar, d market.Decimal) {
	b.Open, b.High, b.Low = market.Null, market.Null, market.Null
	b.Close, b.Mean = d, d
}
