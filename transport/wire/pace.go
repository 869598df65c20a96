package wire

import (
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Rate is a class of update rates. The zero value is every tick.
type Rate uint8

// The classes, from fast to slow. RateAuto is asked for and never effective.
const (
	RateTick Rate = iota // every tick
	Rate20               // updates a second
	Rate10
	Rate5
	Rate2
	Rate1
	RateHalf   // 0.5
	RateFifth  // 0.2
	RateTenth  // 0.1
	RateAuto   // the server moves between the classes
	numRates   = int(RateAuto) + 1
	slowest    = RateTenth
	fastNumber = Rate20
)

var rateNames = [numRates]string{"tick", "20", "10", "5", "2", "1", "0.5", "0.2", "0.1", "auto"}

var ratePeriods = [numRates]time.Duration{
	0, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 0,
}

// Period returns the least time between two updates; 0 for every tick and auto.
func (r Rate) Period() time.Duration { return ratePeriods[r] }

// String returns the rate as a client writes it, without quotes.
func (r Rate) String() string { return rateNames[r] }

// AppendJSON appends the rate as a JSON value: a number, "tick" or "auto".
func (r Rate) AppendJSON(dst []byte) []byte {
	if r == RateTick || r == RateAuto {
		return append(append(append(dst, '"'), rateNames[r]...), '"')
	}
	return append(dst, rateNames[r]...)
}

// FloorRate returns the fastest numbered class that is no faster than perSecond;
// false where none is so slow.
func FloorRate(perSecond market.Decimal) (Rate, bool) {
	for r := fastNumber; r <= slowest; r++ {
		if class, _, err := market.ParseDecimal([]byte(rateNames[r])); err == nil && class.Cmp(perSecond) <= 0 {
			return r, true
		}
	}
	return 0, false
}

// deadbands are the classes of deadbands in basis points.
var deadbands = [...]int{100, 50, 20, 10, 5, 2, 1}

// FloorDeadband returns the widest class of deadbands, in basis points, that is
// no wider than bps.
func FloorDeadband(bps market.Decimal) int {
	for _, class := range deadbands {
		if market.FromInt(int64(class)).Cmp(bps) <= 0 {
			return class
		}
	}
	return 0
}
