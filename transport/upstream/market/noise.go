package simulator

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

const (
	golden = 0x9e3779b97f4a7c15
	// octaves is the number of noise layers of a path.
	octaves = 8
	// fineOctaves are scaled by the volatility regime: up to 7 hours long.
	fineOctaves = 5
)

// periods of the layers: each 8 times the one before, 6 s to 145 days.
var periods = func() (p [octaves]market.Millis) {
	ms := 6 * market.Second
	for i := range p {
		p[i] = ms
		ms *= 8
	}
	return p
}()

// amplitudes give a path of one unit of annual volatility: a random walk moves
// by σ·√T within T, so a layer of period P has an amplitude in proportion to √P.
var amplitudes = func() (a [octaves]float64) {
	const year = 365 * 24 * 3600
	for i := range a {
		a[i] = 0.75 * math.Sqrt(float64(periods[i]/market.Second)/year)
	}
	return a
}()

// mix spreads every bit of x over the result (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// hash2 draws number n of a stream.
func hash2(stream, n uint64) uint64 { return mix(stream + n*golden) }

// unit maps a hash to [0, 1).
func unit(h uint64) float64 { return float64(h>>11) * (1.0 / (1 << 53)) }

// between maps a hash to [lo, hi).
func between(h uint64, lo, hi float64) float64 { return lo + unit(h)*(hi-lo) }

// lattice is a position between two nodes of a noise layer.
type lattice struct {
	cell uint64
	frac float64
}

func latticeAt(t market.Time, period market.Millis) lattice {
	cell := int64(t) / int64(period)
	return lattice{cell: uint64(cell), frac: float64(int64(t)-cell*int64(period)) / float64(period)}
}

// value interpolates the layer. Nodes are a uniform number pushed outwards, so
// that large moves are more frequent than a uniform one would give.
func (l lattice) value(stream uint64) float64 {
	a := node(hash2(stream, l.cell))
	return a + (node(hash2(stream, l.cell+1))-a)*l.frac
}

func node(h uint64) float64 {
	u := float64(int64(h)) * (1.0 / (1 << 63))
	return u * (0.5 + u*u)
}

// layer is the stream of one noise layer of a path.
func layer(stream uint64, i int) uint64 { return stream ^ uint64(i+1)*0xd6e8feb86659fd93 }

// jumpPeriod is how long a news jump of a coin lasts at most.
const jumpPeriod = 6 * market.Hour

// jump is a rare move of a single coin: up or down within a quarter of an hour,
// then given back over the rest of six hours.
func jump(stream uint64, l lattice) float64 {
	h := hash2(stream, l.cell)
	if h&0xff > 3 {
		return 0
	}
	size := between(mix(h), -0.25, 0.3) // of a coin with 100 % annual volatility
	const rise = 0.04
	if l.frac < rise {
		return size * l.frac / rise
	}
	return size * (1 - l.frac) / (1 - rise)
}
