package record

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Bits of a row's head byte.
const (
	chunkPlain  = 1 << iota // every number stands by itself
	chunkSingle             // open = high = low = close = mean
	chunkGap                // the index is not the previous one plus 1
	chunkCount              // the count is not the previous row's
	chunkFlags              // the flags are not the previous row's
	chunkVWAP               // the VWAP is not the mean price
	chunkAll    = 1<<iota - 1
)

// The quantities of a row, as bits of a chunk's head and as indices of its exponents.
const (
	hasPrice = iota
	hasCap
	hasVolume
	hasVelocity
	numQuantities
)

// scaled is a row as integers at the chunk's exponents.
type scaled struct {
	price, velocity [5]int64 // open, high, low, close, mean
	cap, volume     [2]int64 // close, mean
	vwap            int64
}

// chunk is the common part of rows: which quantities they hold at which
// exponent, and the row before the current one.
type chunk struct {
	present byte
	exps    [numQuantities]int8
	prev    scaled
	index   int32
	count   uint32
	flags   market.Flags
}

// AppendRows appends rows with ascending indices.
func AppendRows(dst []byte, rows []Row) []byte {
	c := chunk{index: -1}
	c.scan(rows)
	dst = appendUvarint(dst, uint64(len(rows)))
	dst = append(dst, c.present)
	for q := range hasVelocity {
		if c.present>>q&1 != 0 {
			dst = append(dst, byte(c.exps[q]))
		}
	}
	for i := range rows {
		dst = c.append(dst, &rows[i])
	}
	return dst
}

// scan finds the finest exponent of every quantity.
func (c *chunk) scan(rows []Row) {
	var seen [numQuantities]bool
	see := func(q int, ds ...market.Decimal) {
		for _, d := range ds {
			if d.IsNull() {
				continue
			}
			c.present |= 1 << q
			if d.Mant != 0 && (!seen[q] || d.Exp < c.exps[q]) {
				c.exps[q], seen[q] = d.Exp, true
			}
		}
	}
	for i := range rows {
		r := &rows[i]
		see(hasPrice, r.Price.Open, r.Price.High, r.Price.Low, r.Price.Close, r.Price.Mean, r.VWAP)
		see(hasCap, r.Cap.Close, r.Cap.Mean)
		see(hasVolume, r.Volume.Close, r.Volume.Mean)
		see(hasVelocity, r.Velocity.Open, r.Velocity.High, r.Velocity.Low, r.Velocity.Close, r.Velocity.Mean)
	}
	c.exps[hasVelocity] = VelocityScale
}

// scale brings a row to the chunk's exponents; ok is false where it has to
// stand as plain numbers.
func (c *chunk) scale(r *Row) (s scaled, ok bool) {
	ok = true
	put := func(q int, dst []int64, ds ...market.Decimal) {
		for i, d := range ds {
			if c.present>>q&1 == 0 {
				ok = ok && d.IsNull()
				continue
			}
			m, fits := d.Rescale(c.exps[q])
			ok = ok && fits
			dst[i] = m
		}
	}
	put(hasPrice, s.price[:], r.Price.Open, r.Price.High, r.Price.Low, r.Price.Close, r.Price.Mean)
	put(hasVelocity, s.velocity[:], r.Velocity.Open, r.Velocity.High, r.Velocity.Low, r.Velocity.Close, r.Velocity.Mean)
	put(hasCap, s.cap[:], r.Cap.Close, r.Cap.Mean)
	put(hasVolume, s.volume[:], r.Volume.Close, r.Volume.Mean)
	s.vwap = s.price[4]
	if r.VWAP != r.Price.Mean && !r.VWAP.IsNull() {
		put(hasPrice, []int64{0}, r.VWAP)
		s.vwap, _ = r.VWAP.Rescale(c.exps[hasPrice])
	}
	return s, ok
}

func (c *chunk) append(dst []byte, r *Row) []byte {
	s, ok := c.scale(r)
	bits := byte(0)
	set := func(bit byte, on bool) {
		if on {
			bits |= bit
		}
	}
	set(chunkPlain, !ok)
	set(chunkSingle, ok && single(&r.Price) && single(&r.Velocity) && r.Cap.Close == r.Cap.Mean && r.Volume.Close == r.Volume.Mean)
	set(chunkGap, r.Index != c.index+1)
	set(chunkCount, r.Count != c.count)
	set(chunkFlags, r.Flags != c.flags)
	set(chunkVWAP, r.VWAP != r.Price.Mean)
	dst = append(dst, bits)
	if bits&chunkGap != 0 {
		dst = appendUvarint(dst, uint64(r.Index-c.index))
	}
	if bits&chunkCount != 0 {
		dst = appendUvarint(dst, uint64(r.Count))
	}
	if bits&chunkFlags != 0 {
		dst = appendUvarint(dst, uint64(r.Flags))
	}
	c.index, c.count, c.flags = r.Index, r.Count, r.Flags
	if !ok {
		return appendPlain(dst, r)
	}
	dst = c.appendScaled(dst, &s, bits&chunkSingle != 0)
	if bits&chunkVWAP != 0 {
		if r.VWAP.IsNull() {
			dst = append(dst, 0)
		} else {
			// One is added so that zero can stand for null.
			dst = appendUvarint(dst, zigzag(s.vwap-s.price[4])+1)
		}
	}
	c.prev = s
	return dst
}

func single(b *market.Bar) bool {
	return b.Open == b.Close && b.High == b.Close && b.Low == b.Close && b.Mean == b.Close
}

func (c *chunk) has(q int) bool { return c.present>>q&1 != 0 }

// appendScaled writes differences: closes to a prediction, opens to the close
// before, highs and lows to the outer one of open and close, means to their middle.
func (c *chunk) appendScaled(dst []byte, s *scaled, single bool) []byte {
	five := func(v *[5]int64, prev, predicted int64) {
		dst = appendVarint(dst, v[3]-predicted)
		if single {
			return
		}
		dst = appendVarint(dst, v[0]-prev)
		dst = appendVarint(dst, v[1]-max(v[0], v[3]))
		dst = appendVarint(dst, min(v[0], v[3])-v[2])
		dst = appendVarint(dst, v[4]-middle(v[0], v[3]))
	}
	two := func(v *[2]int64, predicted int64) {
		dst = appendVarint(dst, v[0]-predicted)
		if !single {
			dst = appendVarint(dst, v[1]-v[0])
		}
	}
	if c.has(hasPrice) {
		five(&s.price, c.prev.price[3], c.prev.price[3])
	}
	if c.has(hasVolume) {
		two(&s.volume, c.prev.volume[0])
	}
	if c.has(hasCap) {
		two(&s.cap, c.predictCap(s))
	}
	if c.has(hasVelocity) {
		five(&s.velocity, c.prev.velocity[3], c.predictVelocity(s))
	}
	return dst
}

func middle(a, b int64) int64 { return a/2 + b/2 }

// predictCap moves the capitalisation with the price.
func (c *chunk) predictCap(s *scaled) int64 {
	if c.prev.price[3] == 0 {
		return c.prev.cap[0]
	}
	f := float64(c.prev.cap[0]) * (float64(s.price[3]) / float64(c.prev.price[3]))
	return predicted(f, c.prev.cap[0])
}

// predictVelocity divides volume by capitalisation.
func (c *chunk) predictVelocity(s *scaled) int64 {
	if !c.has(hasCap) || !c.has(hasVolume) || s.cap[0] == 0 {
		return c.prev.velocity[3]
	}
	exp := int(c.exps[hasVolume]) - int(c.exps[hasCap]) - VelocityScale
	f := float64(float64(s.volume[0])/float64(s.cap[0])) * math.Pow10(exp)
	return predicted(f, c.prev.velocity[3])
}

func predicted(f float64, otherwise int64) int64 {
	if !(math.Abs(f) < 1<<53) {
		return otherwise
	}
	return int64(math.RoundToEven(f))
}

func appendPlain(dst []byte, r *Row) []byte {
	for _, d := range r.numbers() {
		dst = AppendNumber(dst, *d)
	}
	return dst
}

func (r *Row) numbers() [15]*market.Decimal {
	return [15]*market.Decimal{
		&r.Price.Open, &r.Price.High, &r.Price.Low, &r.Price.Close, &r.Price.Mean,
		&r.Velocity.Open, &r.Velocity.High, &r.Velocity.Low, &r.Velocity.Close, &r.Velocity.Mean,
		&r.Cap.Close, &r.Cap.Mean, &r.Volume.Close, &r.Volume.Mean, &r.VWAP,
	}
}
