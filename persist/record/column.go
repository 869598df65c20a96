package record

import "math"

// The columns of a chunk. Each has its own code, so that the bits of one row's
// numbers follow one another and no column needs a length.
const (
	colControl = iota // exclusive-or with the row before
	colStep           // index step − 1
	colCount          // minus the chunk's count
	colFlags          // exclusive-or with the row before
	colPrice          // close, open, high, low, mean
	colVWAP    = colPrice + 5
	colVolume  = colVWAP + 1   // close, mean
	colCap     = colVolume + 2 // close, mean
	colSpeed   = colCap + 2    // velocity: close, open, high, low, mean
	numColumns = colSpeed + 5
)

// Bits of a row's control.
const (
	rowPlain    = 1 << iota // every number stands by itself
	rowSingle               // open = high = low = close = mean = VWAP
	rowNoVWAP               // the VWAP is null though there is a price
	rowControls = 1<<iota - 1
)

// A chunk of columns begins with columnsMark + its number of rows. A chunk of
// the older layout begins with its number of rows, which is below columnsMark.
const (
	columnsMark = 0x80
	columnsMin  = 2
	columnsMost = 60
	// columnsRatio in the byte of present quantities says that the chunk holds
	// the ratio of capitalisation to price.
	columnsRatio = 1 << numQuantities
	// ratioCut low bits of a ratio are zero and not written: 29 are left, finer
	// than the six digits of a capitalisation.
	ratioCut = 24
)

// columns is what both directions know about a chunk: what a row can be
// predicted from. Everything here is the same on every machine: integers wrap,
// floats are single operations.
type columns struct {
	chunk
	control byte
	now     scaled  // the current row; what it does not hold stays as it was
	ratio   float64 // cap / price as integers at their exponents; 0: unknown
	unit    float64 // of volume / cap in velocity's
}

// begin is called with the row before the first, whose velocity follows from
// the rest, when the exponents and the ratio are known.
func (m *columns) begin(before scaled) {
	m.unit = math.Pow10(int(m.exps[hasVolume]) - int(m.exps[hasCap]) - VelocityScale)
	before.velocity[3] = m.speed(before.volume[0], before.cap[0], before.price[3], 0)
	m.prev = before
}

// keep makes a row the one before the next: of it only closes are looked at.
func (m *columns) keep(s *scaled) {
	p := &m.prev
	p.price[3], p.volume[0], p.cap[0], p.velocity[3] = s.price[3], s.volume[0], s.cap[0], s.velocity[3]
}

// inner is where a random walk's mean is expected: open and close add nothing.
func inner(v *[5]int64) int64 { return middle(v[1], v[2]) }

func (m *columns) closeCap(s *scaled) int64 {
	if m.ratio != 0 {
		return predicted(m.ratio*float64(s.price[3]), m.prev.cap[0])
	}
	return m.predictCap(s)
}

func (m *columns) meanCap(s *scaled) int64 {
	switch {
	case m.ratio != 0:
		return predicted(m.ratio*float64(s.price[4]), s.cap[0])
	case s.price[3] == 0:
		return s.cap[0]
	}
	return predicted(float64(s.cap[0])*(float64(s.price[4])/float64(s.price[3])), s.cap[0])
}

// speed divides volume by capitalisation, of which price × ratio has more digits.
func (m *columns) speed(volume, total, price, otherwise int64) int64 {
	c := float64(total)
	if m.ratio != 0 {
		c = m.ratio * float64(price)
	}
	if c == 0 || !m.has(hasVolume) {
		return otherwise
	}
	return predicted(float64(float64(volume)/c)*m.unit, otherwise)
}

// openSpeed moves the close before against the price, as if volume stood still.
func (m *columns) openSpeed(s *scaled) int64 {
	if s.price[0] == 0 {
		return m.prev.velocity[3]
	}
	return predicted(float64(m.prev.velocity[3])*(float64(m.prev.price[3])/float64(s.price[0])), m.prev.velocity[3])
}
