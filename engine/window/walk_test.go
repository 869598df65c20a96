package window_test

import (
	"math"
	"math/rand/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

// walk makes random samples of one token: cadences from one second to three
// hours that change now and then, bursts, equal times, gaps, nulls, zeros and
// values that no market has.
type walk struct {
	rng             *rand.Rand
	now             int64 // ms
	step            int64 // ms
	left            int   // samples until the cadence changes
	price, velocity float64
	tame            bool // no gaps, no dirt
	odds            int  // of each kind of dirt: 1 in odds
}

func newWalk(seed uint64) *walk {
	rng := rand.New(rand.NewPCG(seed, 7))
	return &walk{rng: rng, now: 1_700_000_000_000 + rng.Int64N(1e9), price: 100, velocity: 0.1, odds: 400}
}

var cadences = []int64{1000, 5000, 20_000, 60_000, 60_000, 61_000, 300_000, 936_000, 10_800_000}

func (k *walk) next() window.Sample {
	if k.left == 0 {
		k.step = cadences[k.rng.IntN(len(cadences))]
		k.left = 1 + k.rng.IntN(int(min(2000, 4*86_400_000/k.step)))
	}
	k.left--
	k.now += k.step
	if k.rng.IntN(3) == 0 {
		k.now += k.rng.Int64N(k.step) - k.step/2
	}
	k.price *= math.Exp(k.rng.NormFloat64() * 0.002)
	k.velocity *= math.Exp(k.rng.NormFloat64() * 0.005)
	k.velocity = min(max(k.velocity, 1e-4), 20)
	s := window.Sample{Time: market.Time(k.now), Price: k.price, Volume: 1e9 * k.velocity, Velocity: k.velocity}
	if !k.tame {
		k.dirty(&s)
	}
	return s
}

func (k *walk) dirty(s *window.Sample) {
	switch k.rng.IntN(k.odds) {
	case 0:
		k.now += k.rng.Int64N(30 * 3_600_000)
		if k.rng.IntN(10) == 0 {
			k.now += k.rng.Int64N(12 * 86_400_000)
		}
		s.Time = market.Time(k.now)
	case 1:
		s.Velocity = math.NaN()
	case 2:
		s.Price, s.Velocity = math.NaN(), math.NaN()
	case 3:
		s.Volume, s.Velocity = 0, 0
	case 4:
		s.Volume, s.Velocity = s.Volume*1e12, s.Velocity*1e9
	case 5:
		s.Price, s.Volume = 1e60, -5
	case 6:
		k.velocity *= 1.5
	case 7:
		k.now = k.now/60_000*60_000 + 59_999
		s.Time = market.Time(max(k.now, int64(s.Time)))
		k.now = int64(s.Time)
	case 8:
		k.left = k.rng.IntN(50)
		k.step = 2
	case 9:
		s.Price = 0
	}
}
