package simulator

import (
	"cmp"
	"slices"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// synthetic makes the tables of the synthetic market.
type synthetic struct {
	seed   uint64
	tick   market.Millis
	digits Digits
	dirt   dirt

	mu       sync.Mutex
	universe *universe
	last     *table
	quanta   map[market.Time]*quantum
}

// quantum is the market at a full minute: what ranks and dominance refer to.
type quantum struct {
	seed  uint64
	time  market.Time
	used  market.Time // the tick that needed it last
	coins []*coin     // by slot
	caps  []float64   // by slot, USD
	total float64
	order []int32 // slots by falling cap; made when it is asked for

	looking sync.Once // guards what follows, which only HTTP answers need
	then    [numFar]moment
	levels  [][numFar]float64 // by slot
}

func newSynthetic(cfg *Config) *synthetic {
	return &synthetic{
		seed: cfg.Seed, tick: cfg.Tick, digits: cfg.Digits, dirt: newDirt(cfg),
		universe: newUniverse(cfg.Seed, cfg.Tokens), quanta: make(map[market.Time]*quantum),
	}
}

// at returns the market at the tick that now lies in.
func (s *synthetic) at(now market.Time) *table {
	t := now - now%market.Time(s.tick)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.time != t {
		s.last = s.build(t)
	}
	return s.last
}

func (s *synthetic) build(t market.Time) *table {
	b := builder{synthetic: s, time: t, tick: int64(t) / int64(s.tick)}
	q := s.quantum(t)
	q.used = t
	order := q.ranking()
	n := len(order)
	b.table = &table{
		time: t, quotes: make([]market.Quote, 0, n), coins: make([]*coin, 0, n), frames: make([]*frame, 0, n),
		levels: make([][2]float64, 0, n),
	}
	b.poisoned = s.dirt.poisoned(b.tick)
	for rank, slot := range order {
		b.add(uint32(rank+1), int(slot))
	}
	s.prune(t)
	return b.table
}

// quantum returns the caps at the last full minute, or tick where ticks are longer.
func (s *synthetic) quantum(t market.Time) *quantum {
	step := market.Time(max(s.tick, market.Minute))
	at := t - t%step
	if q := s.quanta[at]; q != nil {
		return q
	}
	n := len(s.universe.slots)
	q := &quantum{seed: s.seed, time: at, coins: make([]*coin, n), caps: make([]float64, n)}
	m := newMoment(s.seed, at)
	for i := range q.caps {
		q.coins[i] = s.universe.at(i, at)
		q.caps[i] = q.coins[i].capAt(&m)
		q.total += q.caps[i]
	}
	s.quanta[at] = q
	return q
}

// far returns the moments long before the quantum and the level of a slot's
// coin at them. A coin listed since belongs to none of them.
func (q *quantum) far(slot int) (*[numFar]moment, *[numFar]float64) {
	q.looking.Do(func() {
		for i, lag := range farLags {
			q.then[i] = newMoment(q.seed, q.time.Add(-lag))
		}
		q.levels = make([][numFar]float64, len(q.coins))
		for i, c := range q.coins {
			for lag := range q.then {
				q.levels[i][lag] = c.level(&q.then[lag])
			}
		}
	})
	return &q.then, &q.levels[slot]
}

func (q *quantum) ranking() []int32 {
	if q.order == nil {
		q.order = make([]int32, len(q.caps))
		for i := range q.order {
			q.order[i] = int32(i)
		}
		slices.SortFunc(q.order, func(a, b int32) int {
			return cmp.Or(cmp.Compare(q.caps[b], q.caps[a]), cmp.Compare(a, b))
		})
	}
	return q.order
}

// prune forgets the quanta that the newest table did without; they can be made
// again at any time. At most 18 remain: coins look back 16 ticks, stale ones to
// the start of their block.
func (s *synthetic) prune(t market.Time) {
	for at, q := range s.quanta {
		if q.used != t {
			delete(s.quanta, at)
		}
	}
}

// delisted returns the coins that left the market last, one a slot.
func (s *synthetic) delisted(t market.Time) []*coin {
	var gone []*coin
	for i := range s.universe.slots {
		if c := s.universe.before(i, t); c != nil {
			gone = append(gone, c)
		}
	}
	return gone
}

// builder makes one table.
type builder struct {
	*synthetic
	table    *table
	time     market.Time
	tick     int64
	poisoned bool
	frames   [maxBack]*frame // by age in ticks
	stale    *frame          // of the start of the block in which some coins stand still
	staleAt  int64
}

// frame returns the frame of an earlier tick.
func (b *builder) frame(tick int64) *frame {
	back := b.tick - tick
	if back < maxBack {
		if b.frames[back] == nil {
			b.frames[back] = b.newFrame(tick)
		}
		return b.frames[back]
	}
	if b.stale == nil || b.staleAt != tick {
		b.stale, b.staleAt = b.newFrame(tick), tick
	}
	return b.stale
}

func (b *builder) newFrame(tick int64) *frame {
	t := market.Time(tick * int64(b.synthetic.tick))
	q := b.quantum(t)
	q.used = b.time
	return newFrame(b.seed, t, q)
}

// add appends the row of a slot, or none, or two: dirt may drop and repeat it.
func (b *builder) add(rank uint32, slot int) {
	c := b.universe.at(slot, b.time)
	tick := c.updatedAt(b.tick, int64(b.synthetic.tick))
	spots := b.dirt.on(c, b.tick)
	if spots.missing {
		return
	}
	if spots.stale > 0 && market.Time(spots.stale*int64(b.synthetic.tick)) > c.listed {
		tick = min(tick, spots.stale)
	}
	f := b.frame(tick)
	b.table.quotes = append(b.table.quotes, market.Quote{})
	q := &b.table.quotes[len(b.table.quotes)-1]
	levels := b.digits.quote(q, c, f, spots.jump)
	q.Rank = rank
	if spots.any {
		spots.stain(q, b.digits)
	}
	if b.poisoned {
		poison(q, c.id)
	}
	b.attach(c, f, levels)
	if spots.twice {
		b.table.quotes = append(b.table.quotes, *q)
		b.attach(c, f, levels)
	}
}

// attach appends what goes with a quote.
func (b *builder) attach(c *coin, f *frame, levels [2]float64) {
	b.table.coins = append(b.table.coins, c)
	b.table.frames = append(b.table.frames, f)
	b.table.levels = append(b.table.levels, levels)
}

// quoteFields are the members that every quote of the synthetic market has.
var quoteFields = market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h,
	market.FieldPercentChange1h, market.FieldPercentChange24h, market.FieldPercentChange7d, market.FieldCirculatingSupply,
	market.FieldTotalSupply, market.FieldMaxSupply, market.FieldFullyDilutedMarketCap, market.FieldDominance, market.FieldRank)

// quote evaluates a coin as of a frame. The price is multiplied by jump, dirt's
// own; 1 for a clean one. It returns the levels of now and of a day before.
func (d Digits) quote(q *market.Quote, c *coin, f *frame, jump float64) [2]float64 {
	now := &f.moments[lagNow]
	level := c.level(now)
	price := c.priceOf(level) * jump
	supply := c.circulating(now.time)
	usd := price * supply
	dayMove := 0.0
	var day float64
	then := &f.moments[lag24h]
	earlier := c.level(then)
	if then.time >= c.listed {
		dayMove = level - earlier
		day = expm1pct(dayMove)
	}
	q.ID, q.Info, q.Has, q.Flags, q.SourceTime = c.id, c.info, quoteFields, market.FlagSimulated, now.time
	q.Price, q.MarketCap = d.price(price), d.total(usd)
	q.Volume24h = d.total(c.volumeAt(now, usd, dayMove))
	q.PercentChange1h = d.fixed(c.change(level, &f.moments[lag1h]), -8)
	q.PercentChange24h = d.fixed(day, -8)
	q.PercentChange7d = d.fixed(c.change(level, &f.moments[lag7d]), -8)
	q.CirculatingSupply, q.TotalSupply, q.MaxSupply = supplyNumber(supply), supplyNumber(c.total(supply)), market.Null
	diluted := c.total(supply)
	if c.maxSupply > 0 {
		q.MaxSupply = supplyNumber(c.maxSupply)
		diluted = c.maxSupply
	}
	q.FullyDiluted = d.diluted(price * diluted)
	q.Dominance = d.fixed(100*usd/f.quantum.total, -4)
	q.SelfReportedCap, q.SelfReportedSupply = market.Null, market.Null
	if c.selfSupply > 0 {
		q.SelfReportedSupply = supplyNumber(c.selfSupply)
		q.SelfReportedCap = d.total(price * c.selfSupply)
	}
	return [2]float64{level, earlier}
}

// supplyNumber keeps whole numbers as they are.
func supplyNumber(f float64) market.Decimal {
	if n := int64(f); float64(n) == f && n < 1e18 {
		return market.FromInt(n)
	}
	return noisy(f)
}
