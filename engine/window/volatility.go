package window

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

const (
	returnStep = 5 * minute // shortest step of a return, and unit of the decay
	returnMax  = hour       // longer steps are skipped, not bridged
	lambda     = 0.97       // decay per returnStep
	year       = 365 * float64(market.Day)
)

// volatility is the EWMA variance of returns per 5 minutes.
type volatility struct {
	refTime  int64 // the last used sample; 0 = none
	refPrice float64
	variance float64 // NaN before the first return
}

// add takes a price, which may be NaN; only positive ones count.
func (v *volatility) add(t int64, price float64) {
	if !(price > 0) || price > math.MaxFloat64 {
		return
	}
	step := t - v.refTime
	if v.refTime != 0 && step < returnStep {
		return
	}
	if v.refTime != 0 && step <= returnMax {
		v.take(math.Log(price/v.refPrice), float64(step)/float64(returnStep))
	}
	v.refTime, v.refPrice = t, price
}

// take adds a return over a number of 5-minute steps.
func (v *volatility) take(r, steps float64) {
	s := r * r / steps
	if math.IsNaN(v.variance) {
		v.variance = s
		return
	}
	keep := math.Pow(lambda, steps)
	v.variance = keep*v.variance + (1-keep)*s
}

// Volatility returns the volatility of the price, annualised over 365 days as a
// ratio; NaN before the first return.
func (w *Window) Volatility() float64 {
	return math.Sqrt(w.vol.variance * (year / float64(returnStep)))
}
