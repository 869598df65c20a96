package fanout

import (
	"math"
	"math/bits"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// load remembers in how many of its last rounds a session could not be written
// to, newest in the lowest bit.
type load struct {
	rounds uint32
	known  uint8 // how many of them were since the last change, at most 32
	slower uint8 // steps that the rates of its subscriptions were lowered by
	looked uint8 // sweeps since the rates were looked at
}

func (l *load) skip() { l.add(1) }
func (l *load) keep() { l.add(0) }

func (l *load) add(bit uint32) {
	l.rounds, l.known = l.rounds<<1|bit, min(l.known+1, 32)
}

// step makes a change that later rounds must justify anew.
func (l *load) step(by int) {
	l.slower = uint8(int(l.slower) + by)
	l.rounds, l.known = 0, 0
}

// Thresholds of the rate that the server chooses.
const (
	adaptEvery = 10 // sweeps between looks at the rates of one session
	loadHigh   = 16 // of 32 rounds skipped: one step slower
	loadLow    = 8  // rounds, none of them skipped: one step faster
	slowest    = wire.RateTenth
)

// autoRates are the annualised volatilities from which each rate is chosen, for
// the mean of the subscribed tokens; below the last it is the slowest.
var autoRates = []struct {
	from float64
	rate wire.Rate
}{
	{1.5, wire.RateTick}, {1.0, wire.Rate5}, {0.7, wire.Rate2}, {0.4, wire.Rate1}, {0.2, wire.RateHalf}, {0.1, wire.RateFifth},
}

// stay is by how much the volatility must pass the border of the rate in force
// before another is chosen.
const stay = 0.1

// autoRate chooses a rate by the EWMA volatility of the selected tokens, for a
// subscription that has rate is, RateAuto for none. Tokens whose volatility is
// not known yet do not count; where none is, every tick is sent.
func (s *Session) autoRate(sel *selection, is wire.Rate) wire.Rate {
	if sel == nil {
		sel = &selection{all: true}
	}
	mean, known := sel.volatility(s.view)
	if !known {
		return wire.RateTick
	}
	if high, low := rateFor(mean*(1+stay)), rateFor(mean*(1-stay)); high <= is && is <= low {
		return is
	}
	return rateFor(mean)
}

// meanEvery is how many ticks a mean volatility is good for: it moves slowly.
const meanEvery = 16

// mean is the volatility of a selection as of a tick.
type mean struct {
	seq   uint64
	value float64
	known bool
}

// volatility returns the mean volatility of the tokens that have one; known is
// false where none has.
func (s *selection) volatility(v *view) (value float64, known bool) {
	if m := s.mean.Load(); m != nil && v.seq()-m.seq < meanEvery {
		return m.value, m.known
	}
	sum, n := 0.0, 0
	add := func(i int) bool {
		if t := v.token(i); t != nil {
			if x := t.Value(market.FieldVolatility24h).Float(); !math.IsNaN(x) {
				sum += x
				n++
			}
		}
		return true
	}
	s.each(v.order(), 0, add)
	m := &mean{seq: v.seq(), known: n > 0}
	if n > 0 {
		m.value = sum / float64(n)
	}
	s.mean.Store(m)
	return m.value, m.known
}

func rateFor(volatility float64) wire.Rate {
	for _, a := range autoRates {
		if volatility >= a.from {
			return a.rate
		}
	}
	return slowest
}

// adapt changes rates where the server chooses them: with the volatility of the
// tokens, and down for a connection that often cannot be written to.
func (s *Session) adapt(now time.Time) {
	if s.load.looked++; s.load.looked < adaptEvery || s.ending != 0 || s.writing {
		return
	}
	s.load.looked = 0
	switch busy := bits.OnesCount32(s.load.rounds); {
	case busy >= loadHigh && s.load.slower < uint8(slowest):
		s.load.step(1)
	case busy == 0 && s.load.known >= loadLow && s.load.slower > 0:
		s.load.step(-1)
	}
	for i := range s.subs {
		sub := &s.subs[i]
		c := sub.member.ch
		if c.key.every || sub.member.busy() {
			continue
		}
		rate := sub.rate
		if sub.auto {
			rate = s.autoRate(c.sel, c.page.rate)
		}
		if c.page.deadband == 0 { // else a change costs a snapshot, which relieves nobody
			rate = min(rate+wire.Rate(s.load.slower), slowest)
		}
		if rate == c.page.rate {
			continue
		}
		s.moveTo(sub, rate, now)
	}
}

// moveTo gives a subscription another rate and tells the client.
func (s *Session) moveTo(sub *subscription, rate wire.Rate, now time.Time) {
	k := sub.member.ch.key
	k.rate = rate
	_, from, err := s.move(sub, k, sub.member.ch.sel, now)
	if err != nil {
		return // no room: the rate stays as it is
	}
	s.hub.stats.rates.Add(1)
	s.answer(wire.KindEffective, func(dst []byte) []byte {
		return wire.AppendEffectiveChange(dst, sub.no, sub.member.ch.no, from, rate)
	})
}
