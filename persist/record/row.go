package record

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Digits that history rows keep: significant ones for prices and totals, the
// published scale for velocities. Raw ticks keep every digit.
const (
	PriceDigits   = 8
	TotalDigits   = 6
	VelocityScale = -9
)

// Marks in Row.Flags, which no Point shows.
const (
	// Imported is a row of which not everything was made of finer rows of the store.
	Imported market.Flags = 1 << 30
	// Wide is an imported row of 15 min in a chunk of 5, or of 4 h in one of hours.
	Wide market.Flags = 1 << 31
	// Marks are all of them.
	Marks = Imported | Wide
)

// Sample is what was shown for a token after a quote.
type Sample struct {
	Price    market.Decimal // USD
	Cap      market.Decimal // USD
	Volume   market.Decimal // USD in 24 h
	Velocity market.Decimal // 1/day
	Flags    market.Flags
}

// SampleOf returns what a change shows.
func SampleOf(c *market.Change) Sample {
	return Sample{
		Price:    c.Snap.Value(market.FieldPrice),
		Cap:      c.Snap.Value(market.FieldMarketCap),
		Volume:   c.Snap.Value(market.FieldVolume24h),
		Velocity: c.Snap.Value(market.FieldVelocity),
		Flags:    c.Snap.Flags(),
	}
}

// Row sums up the samples of one stretch of time. Cap and Volume have only
// Close and Mean, the other members of their bars are null. Time and Seq are 0,
// and Flags may have Marks, until Place makes a point of it.
type Row struct {
	market.Point
	Index int32 // which stretch of its chunk, from 0
}

var nullBar = market.Bar{Open: market.Null, High: market.Null, Low: market.Null, Close: market.Null, Mean: market.Null}

// series follows one value through a stretch.
type series struct {
	open, high, low, last market.Decimal
	sum                   float64
	weight                float64
}

func (s *series) add(d market.Decimal) {
	if d.IsNull() {
		return
	}
	s.span(d, d, d, d)
	s.sum += d.Float()
	s.weight++
}

func (s *series) span(open, high, low, last market.Decimal) {
	if s.weight == 0 {
		s.open, s.high, s.low = open, high, low
	}
	if high.Cmp(s.high) > 0 {
		s.high = high
	}
	if low.Cmp(s.low) < 0 {
		s.low = low
	}
	s.last = last
}

// bar rounds with round; a single value is its own mean.
func (s *series) bar(full bool, round func(market.Decimal) market.Decimal, mean func(float64) market.Decimal) market.Bar {
	b := nullBar
	if s.weight == 0 {
		return b
	}
	b.Close = round(s.last)
	b.Mean = b.Close
	if s.weight > 1 {
		b.Mean = mean(s.sum / s.weight)
	}
	if full {
		b.Open, b.High, b.Low = round(s.open), round(s.high), round(s.low)
	}
	return b
}

func roundPrice(d market.Decimal) market.Decimal    { return d.RoundSignificant(PriceDigits) }
func roundTotal(d market.Decimal) market.Decimal    { return d.RoundSignificant(TotalDigits) }
func roundVelocity(d market.Decimal) market.Decimal { return d.RoundPlaces(-VelocityScale) }
func meanPrice(f float64) market.Decimal            { return market.Significant(f, PriceDigits) }
func meanTotal(f float64) market.Decimal            { return market.Significant(f, TotalDigits) }
func meanVelocity(f float64) market.Decimal         { return market.Fixed(f, VelocityScale) }

// Acc makes a Row of samples in the order in which they come.
type Acc struct {
	count                        uint32
	price, velocity, cap, volume series
	money, weight                float64 // Σ price·volume and Σ volume
	flags                        market.Flags
}

// Count returns the number of samples so far.
func (a *Acc) Count() uint32 { return a.count }

// Add takes the next sample.
func (a *Acc) Add(s *Sample) {
	a.count++
	a.price.add(s.Price)
	a.velocity.add(s.Velocity)
	a.cap.add(s.Cap)
	a.volume.add(s.Volume)
	a.flags |= s.Flags
	if !s.Price.IsNull() && s.Volume.Positive() {
		w := s.Volume.Float()
		a.money += float64(s.Price.Float() * w)
		a.weight += w
	}
}

// Row returns the row so far. Means are float64 sums in the order of arrival,
// rounded; with a single sample mean and VWAP are that sample.
func (a *Acc) Row(index int32) Row {
	r := Row{Index: index, Point: market.Point{
		Count: a.count, Flags: a.flags,
		Price:    a.price.bar(true, roundPrice, meanPrice),
		Velocity: a.velocity.bar(true, roundVelocity, meanVelocity),
		Cap:      a.cap.bar(false, roundTotal, meanTotal),
		Volume:   a.volume.bar(false, roundTotal, meanTotal),
		VWAP:     market.Null,
	}}
	if a.weight > 0 {
		r.VWAP = r.Price.Close
		if a.count > 1 {
			r.VWAP = meanPrice(a.money / a.weight)
		}
	}
	return r
}

// Merge makes one Row of the rows of a finer granularity, in the order of time.
// Means are weighted by the rows' counts, VWAP by mean volume times count.
type Merge struct {
	rows                         int
	only                         Row
	count                        uint32
	price, velocity, cap, volume series
	money, weight                float64
	flags                        market.Flags
}

// Empty reports whether no row came yet.
func (m *Merge) Empty() bool { return m.rows == 0 }

// Add takes the next row.
func (m *Merge) Add(r *Row) {
	m.rows++
	m.only = *r
	n := float64(r.Count)
	m.price.merge(&r.Price, true, n)
	m.velocity.merge(&r.Velocity, true, n)
	m.cap.merge(&r.Cap, false, n)
	m.volume.merge(&r.Volume, false, n)
	m.flags |= r.Flags
	if r.Count > math.MaxUint32-m.count {
		m.count = math.MaxUint32
	} else {
		m.count += r.Count
	}
	if !r.VWAP.IsNull() && r.Volume.Mean.Positive() {
		w := float64(r.Volume.Mean.Float() * n)
		m.money += float64(r.VWAP.Float() * w)
		m.weight += w
	}
}

func (s *series) merge(b *market.Bar, full bool, n float64) {
	if b.Close.IsNull() || n == 0 {
		return
	}
	if full {
		s.span(b.Open, b.High, b.Low, b.Close)
	} else {
		s.span(b.Close, b.Close, b.Close, b.Close)
	}
	s.sum += float64(b.Mean.Float() * n)
	s.weight += n
}

// Row returns the merged row. One row alone is passed on as it is, but for the
// mark of how wide it is.
func (m *Merge) Row(index int32) Row {
	if m.rows == 1 {
		m.only.Index = index
		m.only.Flags &^= Wide
		return m.only
	}
	r := Row{Index: index, Point: market.Point{
		Count: m.count, Flags: m.flags &^ Wide,
		Price:    m.price.bar(true, roundPrice, meanPrice),
		Velocity: m.velocity.bar(true, roundVelocity, meanVelocity),
		Cap:      m.cap.bar(false, roundTotal, meanTotal),
		Volume:   m.volume.bar(false, roundTotal, meanTotal),
		VWAP:     market.Null,
	}}
	if m.weight > 0 {
		r.VWAP = meanPrice(m.money / m.weight)
	}
	return r
}

// Place turns the row into the point that begins at t, in place: points are
// large, and many.
func (r *Row) Place(t market.Time) *market.Point {
	r.Time = t
	r.Flags &^= Marks
	return &r.Point
}

// RowOf is the inverse of Place: a row of index 0. rounded says that the point
// had more digits than history keeps.
func RowOf(p *market.Point) (r Row, rounded bool) {
	r.Point = *p
	r.Time, r.Seq, r.Flags = 0, 0, p.Flags&^Marks
	r.Cap, r.Volume = nullBar, nullBar
	r.Cap.Close, r.Cap.Mean = p.Cap.Close, p.Cap.Mean
	r.Volume.Close, r.Volume.Mean = p.Volume.Close, p.Volume.Mean
	given := r
	for i, d := range r.numbers() {
		switch {
		case i < 5 || i == 14:
			*d = roundPrice(*d)
		case i < 10:
			*d = roundVelocity(*d)
		default:
			*d = roundTotal(*d)
		}
	}
	return r, r != given
}

// Same reports whether two rows say the same of the samples but for the flags,
// wherever they stand.
func (r *Row) Same(o *Row) bool {
	a, b := *r, *o
	a.Index, a.Flags, b.Index, b.Flags = 0, 0, 0, 0
	return a == b
}

// Point turns a sample into the raw point of a tick.
func (s *Sample) Point(t market.Time, seq uint64) market.Point {
	bar := func(d market.Decimal) market.Bar {
		return market.Bar{Open: d, High: d, Low: d, Close: d, Mean: d}
	}
	p := market.Point{
		Time: t, Seq: seq, Count: 1, Price: bar(s.Price), VWAP: market.Null,
		Cap: bar(s.Cap), Volume: bar(s.Volume), Velocity: bar(s.Velocity), Flags: s.Flags,
	}
	if s.Volume.Positive() {
		p.VWAP = s.Price
	}
	return p
}
