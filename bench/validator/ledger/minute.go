package ledger

import "github.com/velocimeter/velocimeter/engine/market"

// Minute is a point of one minute of a token's price.
type Minute struct {
	Start                  market.Time
	Count                  int
	Open, High, Low, Close market.Decimal
}

// priceDigits is how many digits a minute keeps of a price.
const priceDigits = 8

// Minutes holds minutes against the raw points that history showed last. Those
// that were under way then are left out, and those of ticks without a price.
func (b *Book) Minutes(who string, id market.ID, minutes []Minute) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.timeline(id).kept
	if len(kept) == 0 {
		return
	}
	over := kept[len(kept)-1].Time
	given := map[market.Time]Minute{}
	for _, m := range minutes {
		given[m.Start] = m
	}
	for len(kept) > 0 {
		start := kept[0].Time - kept[0].Time%market.Time(market.Minute)
		end := start.Add(market.Minute)
		n := 0
		for n < len(kept) && kept[n].Time < end {
			n++
		}
		if want, ok := minuteOf(start, kept[:n]); ok && end <= over {
			got, there := given[start]
			b.check(Durable, there && got == want, "%s: token %d has the minute %s as %v, its raw points give %v", who, id, start.Std().Format("15:04"), got, want)
		}
		kept = kept[n:]
	}
}

// minuteOf makes a minute of its points; false where one has no price.
func minuteOf(start market.Time, points []Point) (m Minute, ok bool) {
	m = Minute{Start: start, Count: len(points)}
	for i := range points {
		price := points[i].Core[0]
		if price.IsNull() {
			return m, false
		}
		price = price.RoundSignificant(priceDigits)
		if i == 0 {
			m.Open, m.High, m.Low = price, price, price
		}
		if price.Cmp(m.High) > 0 {
			m.High = price
		}
		if price.Cmp(m.Low) < 0 {
			m.Low = price
		}
		m.Close = price
	}
	return m, true
}
