package token

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/window"
)

// Refill gives a token that has seen nothing the samples of its past, oldest
// first, as the store kept them: for a start that has no state of it. Samples of
// the minute of before and later ones are left out, and so are those that come in
// no order. Its window is then that of a token which saw nothing else, with the
// precision that is kept, and the step rules know these samples; what else the
// rules of quality remember begins anew. Closed hours from fresh on are dirty: the
// others are stored.
func (t *Token) Refill(cells []market.Cell, before, fresh market.Time) {
	end := before - before%market.Time(market.Minute)
	for _, c := range cells {
		price, velocity := float64(c.Price), float64(c.Velocity)
		if c.Time <= t.win.Now() || c.Time >= end || math.IsNaN(price) && math.IsNaN(velocity) {
			continue
		}
		in := [quality.NumInputs]float64{quality.Price: price, quality.Cap: float64(c.Volume) / velocity, quality.Volume: float64(c.Volume)}
		for i, x := range in {
			if x >= 0 && !math.IsInf(x, 0) { // no cap comes of no volume
				t.steps.Accept(i, x)
			}
		}
		t.lows.Add(c.Time, velocity)
		t.win.Add(window.Sample{Time: c.Time, Price: price, Volume: float64(c.Volume), Velocity: velocity})
	}
	t.win.ClearDirtyBefore(fresh)
}
