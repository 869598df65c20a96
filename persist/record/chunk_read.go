package record

import (
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
)

// ReadRows appends the rows of a payload made by AppendRows. Indices ascend and
// stay below limit. Error: ErrCorrupt.
func ReadRows(dst []Row, payload []byte, limit int32) ([]Row, error) {
	if len(payload) > 0 && payload[0] > columnsMark {
		return readColumns(dst, payload, limit)
	}
	r := reader{b: payload}
	n := r.count(1)
	c := chunk{index: -1, present: r.byte()}
	if c.present >= 1<<numQuantities {
		r.fail()
	}
	for q := range hasVelocity {
		if c.has(q) {
			c.exps[q] = int8(r.byte())
			if c.exps[q] > mostExp || c.exps[q] < leastExp {
				r.fail()
			}
		}
	}
	c.exps[hasVelocity] = VelocityScale
	for range n {
		row := c.read(&r, limit)
		if r.bad {
			break
		}
		dst = append(dst, row)
	}
	if r.bad || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: rows", ErrCorrupt)
	}
	return dst, nil
}

func (c *chunk) read(r *reader, limit int32) Row {
	bits := r.byte()
	step := uint64(1)
	if bits&chunkGap != 0 {
		step = r.uvarint()
	}
	if bits > chunkAll || step == 0 || step > uint64(limit) || int64(c.index)+int64(step) >= int64(limit) {
		r.fail()
		return Row{}
	}
	c.index += int32(step)
	if bits&chunkCount != 0 {
		c.count = uint32(r.uvarint())
	}
	if bits&chunkFlags != 0 {
		c.flags = market.Flags(r.uvarint())
	}
	row := Row{Index: c.index, Point: market.Point{
		Count: c.count, Flags: c.flags, Price: nullBar, Velocity: nullBar, Cap: nullBar, Volume: nullBar, VWAP: market.Null,
	}}
	if bits&chunkPlain != 0 {
		for _, d := range row.numbers() {
			*d = r.number()
		}
		return row
	}
	s := c.readScaled(r, bits&chunkSingle != 0)
	s.unscale(c, &row)
	row.VWAP = row.Price.Mean
	if bits&chunkVWAP != 0 {
		row.VWAP = market.Null
		if u := r.uvarint(); u != 0 {
			row.VWAP = market.NewDecimal(s.price[4]+unzigzag(u-1), c.exps[hasPrice])
		}
	}
	c.prev = s
	return row
}

func (c *chunk) readScaled(r *reader, single bool) (s scaled) {
	five := func(v *[5]int64, prev, predicted int64) {
		v[3] = predicted + r.varint()
		v[0], v[1], v[2], v[4] = v[3], v[3], v[3], v[3]
		if single {
			return
		}
		v[0] = prev + r.varint()
		v[1] = max(v[0], v[3]) + r.varint()
		v[2] = min(v[0], v[3]) - r.varint()
		v[4] = middle(v[0], v[3]) + r.varint()
	}
	two := func(v *[2]int64, predicted int64) {
		v[0] = predicted + r.varint()
		v[1] = v[0]
		if !single {
			v[1] += r.varint()
		}
	}
	if c.has(hasPrice) {
		five(&s.price, c.prev.price[3], c.prev.price[3])
	}
	if c.has(hasVolume) {
		two(&s.volume, c.prev.volume[0])
	}
	if c.has(hasCap) {
		two(&s.cap, c.predictCap(&s))
	}
	if c.has(hasVelocity) {
		five(&s.velocity, c.prev.velocity[3], c.predictVelocity(&s))
	}
	return s
}

func (s *scaled) unscale(c *chunk, row *Row) {
	bar := func(q int, b *market.Bar, v *[5]int64) {
		if c.has(q) {
			e := c.exps[q]
			*b = market.Bar{
				Open: market.NewDecimal(v[0], e), High: market.NewDecimal(v[1], e), Low: market.NewDecimal(v[2], e),
				Close: market.NewDecimal(v[3], e), Mean: market.NewDecimal(v[4], e),
			}
		}
	}
	bar(hasPrice, &row.Price, &s.price)
	bar(hasVelocity, &row.Velocity, &s.velocity)
	pair := func(q int, b *market.Bar, v *[2]int64) {
		if c.has(q) {
			b.Close, b.Mean = market.NewDecimal(v[0], c.exps[q]), market.NewDecimal(v[1], c.exps[q])
		}
	}
	pair(hasCap, &row.Cap, &s.cap)
	pair(hasVolume, &row.Volume, &s.volume)
}
