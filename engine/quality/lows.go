package quality

import (
	"encoding/binary"
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// lowDays is how many calendar days seven days touch.
const lowDays = 8

// Lows keeps the least velocity of each of the last days. The least of them is
// a bound below the median of any seven days, which spares tokens that always
// turn over fast (most of the stablecoins) a walk through their window at every
// quote. The zero value has seen nothing.
type Lows struct {
	day int32 // days since 1970 of the newest sample
	low [lowDays]float32
}

// Add takes the velocity of a sample that enters the window, NaN for none; the
// times do not go back.
func (l *Lows) Add(at market.Time, velocity float64) {
	day := int32(at / market.Time(market.Day))
	if l.day == 0 || day-l.day >= lowDays {
		l.day = max(day-lowDays, 0)
	}
	for ; l.day < day; l.day++ {
		l.low[(l.day+1)%lowDays] = float32(math.Inf(1))
	}
	// Retained as the window retains it: rounding keeps the order.
	if v := float32(velocity); v < l.low[day%lowDays] {
		l.low[day%lowDays] = v
	}
}

// Bound returns the least velocity of the last days; 0 before the first sample,
// +Inf where none had one.
func (l *Lows) Bound() float64 {
	least := l.low[0]
	for _, v := range l.low[1:] {
		least = min(least, v)
	}
	return float64(least)
}

// AppendState appends the state.
func (l *Lows) AppendState(dst []byte) []byte {
	dst = binary.AppendVarint(dst, int64(l.day))
	for _, v := range l.low {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

// DecodeState reads what AppendState wrote.
func (l *Lows) DecodeState(c *Cursor) {
	day := c.Int()
	if l.day = int32(day); int64(l.day) != day || day < 0 {
		c.Fail("day")
	}
	for i := range l.low {
		if l.low[i] = c.Float32(); !(l.low[i] >= 0) {
			c.Fail("least velocity")
		}
	}
}
