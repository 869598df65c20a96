package simulator

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The instants that a quote at time t looks at.
const (
	lagNow = iota
	lag1h
	lag24h
	lag7d
	numLags
)

var lags = [numLags]market.Millis{0, market.Hour, market.Day, 7 * market.Day}

// What lies further back is looked up as of full minutes (or ticks, where they
// are longer), once for all rows of that minute.
const (
	far48h = iota
	far30d
	far60d
	far90d
	numFar
)

var farLags = [numFar]market.Millis{2 * market.Day, 30 * market.Day, 60 * market.Day, 90 * market.Day}

// Streams of the market as a whole, mixed with the seed.
const (
	streamMarket = iota + 1
	streamRegime
	streamVolume
	streamSector
	streamSlots = 1 << 16
	streamDirt  = 1 << 17
	streamFault = 1 << 18
)

const (
	marketVolatility = 0.45
	sectorVolatility = 0.30
)

// moment is what all coins share at one instant: the positions on the noise
// layers and the values of the common factors.
type moment struct {
	time   market.Time
	at     [octaves]lattice
	jump   lattice
	market float64
	regime float64 // multiplies the fine layers: calm below 1, volatile above
	volume float64 // log of the market-wide turnover
	sector [numSectors]float64
}

func newMoment(seed uint64, t market.Time) moment {
	m := moment{time: t, jump: latticeAt(t, jumpPeriod)}
	for i, p := range periods {
		m.at[i] = latticeAt(t, p)
	}
	stream := func(n uint64) uint64 { return hash2(seed, n) }
	regime := 0.6*latticeAt(t, 11*market.Hour).value(stream(streamRegime)) +
		0.5*latticeAt(t, 3*market.Day).value(^stream(streamRegime))
	m.regime = math.Exp(regime)
	m.market = marketVolatility * m.path(stream(streamMarket))
	m.volume = 0.35*(m.regime-1) + 0.15*latticeAt(t, 9*market.Hour).value(stream(streamVolume)) + season(t)
	for i := range m.sector {
		m.sector[i] = sectorVolatility * m.path(stream(streamSector+uint64(i)))
	}
	return m
}

// path is a walk of one unit of annual volatility.
func (m *moment) path(stream uint64) float64 {
	var fine, slow float64
	for i := range fineOctaves {
		fine += amplitudes[i] * m.at[i].value(layer(stream, i))
	}
	for i := fineOctaves; i < octaves; i++ {
		slow += amplitudes[i] * m.at[i].value(layer(stream, i))
	}
	return m.regime*fine + slow
}

// season is the log of the daily and weekly rhythm of volumes: busiest in the
// afternoon (UTC), a quarter less around Sunday noon.
func season(t market.Time) float64 {
	day := float64(t%market.Time(market.Day)) / float64(market.Day)
	// 1970-01-01 was a Thursday: Sunday noon is 3.5 days in.
	week := float64(t%market.Time(7*market.Day))/float64(market.Day) - 3.5
	return 0.10*math.Cos(2*math.Pi*(day-15.0/24)) - 0.15*(1+math.Cos(2*math.Pi*week/7))
}

// frame is a tick as the coins that were updated at it saw it.
type frame struct {
	moments [numLags]moment
	// quantum is the full minute that the tick lies in.
	quantum *quantum
	// text is the instant as JSON, quoted.
	text string
}

func newFrame(seed uint64, t market.Time, q *quantum) *frame {
	f := &frame{quantum: q, text: timeJSON(t)}
	for i, lag := range lags {
		f.moments[i] = newMoment(seed, t.Add(-lag))
	}
	return f
}

func timeJSON(t market.Time) string {
	return string(append(t.AppendRFC3339([]byte{'"'}), '"'))
}
