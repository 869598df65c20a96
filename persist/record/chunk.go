package record

import (
	"math"
	"slices"

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

// The exponents that a chunk may have; rows beyond them stand as plain numbers.
// Normalising adds at most 18, which must not come near null's.
const (
	leastExp = -127
	mostExp  = 100
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

// AppendRows appends rows with ascending indices: as columns, or one by one
// where that is shorter, as it is for a single row.
func AppendRows(dst []byte, rows []Row) []byte {
	at := len(dst)
	dst = appendSingly(dst, rows)
	if len(rows) < columnsMin || len(rows) > columnsMost {
		return dst
	}
	if cols := columnsOf(rows); len(cols) < len(dst)-at {
		dst = append(dst[:at], cols...)
	}
	return dst
}

// appendSingly appends rows one after the other, each with varints of its own.
func appendSingly(dst []byte, rows []Row) []byte {
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

// strayDigits is how many digits finer than the middle row a row may be: eight
// digits then still fit beside it. One that is finer by more stands as plain
// numbers, so that it does not make all the others do so.
const strayDigits = 8

// scan finds which quantities there are, and of each the exponent at which the
// rows become integers.
func (c *chunk) scan(rows []Row) {
	for q := range hasVelocity {
		finest := make([]int8, 0, 64)
		for i := range rows {
			var e int8
			var held bool
			switch r := &rows[i]; q {
			case hasPrice:
				e, held = finestOf(r.Price.Open, r.Price.High, r.Price.Low, r.Price.Close, r.Price.Mean, r.VWAP)
			case hasCap:
				e, held = finestOf(r.Cap.Close, r.Cap.Mean)
			case hasVolume:
				e, held = finestOf(r.Volume.Close, r.Volume.Mean)
			}
			if held {
				c.present |= 1 << q
			}
			if e != market.NullExp {
				finest = append(finest, e)
			}
		}
		if len(finest) > 0 {
			slices.Sort(finest)
			least := int(finest[len(finest)/2]) - strayDigits
			e := finest[slices.IndexFunc(finest, func(e int8) bool { return int(e) >= least })]
			c.exps[q] = min(max(e, leastExp), mostExp)
		}
	}
	for i := range rows {
		b := &rows[i].Velocity
		if _, held := finestOf(b.Open, b.High, b.Low, b.Close, b.Mean); held {
			c.present |= 1 << hasVelocity
		}
	}
	c.exps[hasVelocity] = VelocityScale
}

// finestOf returns the finest exponent, NullExp if all are null or zero, which
// fits any; held is false if all are null.
func finestOf(ds ...market.Decimal) (exp int8, held bool) {
	exp = market.NullExp
	for _, d := range ds {
		held = held || !d.IsNull()
		if d.Mant != 0 {
			exp = min(exp, d.Exp)
		}
	}
	return exp, held
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
