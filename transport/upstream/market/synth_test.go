package simulator

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

const listingsURI = "/v1/cryptocurrency/listings/latest?limit=5000"

func TestRestartContinuesTheSamePath(t *testing.T) {
	f := func(cfg Config) {
		t.Helper()
		c := &clock{now: noon}
		cfg.Now = c.Now
		walked := newTestMarket(t, cfg)
		for range 40 { // one has a past, the other has none
			c.now = c.now.Add(walked.cfg.Tick)
			walked.Batch(c.now)
		}
		for _, uri := range []string{
			listingsURI, "/v1/cryptocurrency/map?listing_status=active,inactive", "/v1/global-metrics/quotes/latest",
			"/v3/cryptocurrency/listings/latest?convert=BTC&sort=volume_24h", "/v2/cryptocurrency/quotes/latest?id=1,825",
		} {
			fresh := newTestMarket(t, cfg)
			a, b := get(t, walked, "KEY", uri), get(t, fresh, "KEY", uri)
			if a.code != 200 || string(a.body) != string(b.body) {
				t.Fatalf("%s differs after a restart", uri)
			}
		}
	}
	f(Config{Seed: 3})
	f(Config{Seed: 3, Dirt: 1, Tokens: 700})
	f(Config{Seed: 3, Tick: 10 * market.Minute})
	f(Config{Seed: 3, Tick: 100, Digits: DigitsCompact})
}

func TestEvaluationOrderIsIrrelevant(t *testing.T) {
	f := func(cfg Config) {
		t.Helper()
		var times []market.Time
		for i := range market.Time(40) {
			times = append(times, noon+i*i*777_777) // up to two weeks on: coins come and go
		}
		forward, random := newTestMarket(t, cfg), newTestMarket(t, cfg)
		want := make(map[market.Time][]market.Quote)
		for _, at := range times {
			want[at] = forward.Batch(at).Quotes
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		rnd.Shuffle(len(times), func(i, j int) { times[i], times[j] = times[j], times[i] })
		for _, at := range times {
			same := slices.EqualFunc(random.Batch(at).Quotes, want[at], func(a, b market.Quote) bool {
				infos := *a.Info == *b.Info
				a.Info, b.Info = nil, nil
				return infos && a == b
			})
			if !same {
				t.Fatalf("the market at %v depends on what was asked before", at.Std())
			}
		}
	}
	f(Config{Seed: 5})
	f(Config{Seed: 5, Dirt: 0.8, Tokens: 1000})
	f(Config{Seed: 5, Tick: 20 * market.Second})
}

func TestSeedsDiffer(t *testing.T) {
	a, b := newTestMarket(t, Config{Seed: 1}).Batch(noon), newTestMarket(t, Config{Seed: 2}).Batch(noon)
	if a.Quotes[0].Price == b.Quotes[0].Price {
		t.Fatal("two seeds tell one story")
	}
}

func TestAnswersStandStillWithinATick(t *testing.T) {
	c := &clock{now: noon}
	m := newTestMarket(t, Config{Seed: 1, Now: c.Now})
	first := get(t, m, "KEY", listingsURI)
	c.now += 999
	second := get(t, m, "KEY", listingsURI)
	c.now++
	third := get(t, m, "KEY", listingsURI)
	if string(first.Data) != string(second.Data) || string(second.Data) == string(third.Data) {
		t.Fatal("data must change at ticks and only there")
	}
}

// TestShareOfCoinsThatChange wants what was measured on real polls: 3,416 of 5,000.
func TestShareOfCoinsThatChange(t *testing.T) {
	f := func(tokens int, tick market.Millis) {
		t.Helper()
		m := newTestMarket(t, Config{Seed: 1, Tokens: tokens, Tick: tick})
		changed, rows := 0, 0
		last := make(map[market.ID]market.Quote)
		for i := range 20 {
			at := noon.Add(market.Millis(i) * tick)
			for _, q := range m.Batch(at).Quotes {
				before, known := last[q.ID]
				if q.SourceTime > at || q.SourceTime < at.Add(-16*tick) || int64(q.SourceTime)%int64(tick) != 0 {
					t.Fatalf("coin %d at %v updated at %v", q.ID, at.Std(), q.SourceTime.Std())
				}
				if known {
					rows++
					if moved := q.Price != before.Price && q.SourceTime > before.SourceTime; moved {
						changed++
					} else if q.SourceTime != before.SourceTime || q.Price != before.Price || q.Volume24h != before.Volume24h || q.Dominance != before.Dominance {
						t.Fatalf("coin %d moved without an update, or was updated without a move", q.ID)
					}
				}
				last[q.ID] = q
			}
		}
		if share := float64(changed) / float64(rows); share < 0.60 || share > 0.72 {
			t.Fatalf("%d coins, tick %v: a share of %.3f changes", tokens, tick.Std(), share)
		}
	}
	f(500, market.Second)
	f(3000, market.Second)
	f(500, market.Minute)
}

func TestValuesHangTogether(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 4, Tokens: 3000})
	quotes := m.Batch(noon).Quotes
	ids, slugs, symbols := map[market.ID]bool{}, map[string]bool{}, map[string]int{}
	var noMax, noVolume, overTotal, selfReported, doubles, inversions int
	for i, q := range quotes {
		usd, price, supply := q.MarketCap.Float(), q.Price.Float(), q.CirculatingSupply.Float()
		if math.Abs(price*supply/usd-1) > 0.01 {
			t.Fatalf("%s: %g × %g is not %g", q.Info.Symbol, price, supply, usd)
		}
		if q.Rank != uint32(i+1) || ids[q.ID] || slugs[q.Info.Slug] {
			t.Fatalf("row %d: rank %d, id %d, slug %s", i, q.Rank, q.ID, q.Info.Slug)
		}
		ids[q.ID], slugs[q.Info.Slug] = true, true
		if symbols[q.Info.Symbol]++; symbols[q.Info.Symbol] == 2 {
			doubles++
		}
		count := func(n *int, ok bool) {
			if ok {
				*n++
			}
		}
		count(&noMax, q.MaxSupply.IsNull())
		count(&noVolume, q.Volume24h == market.Decimal{})
		count(&overTotal, q.CirculatingSupply.Cmp(q.TotalSupply) > 0)
		count(&selfReported, !q.SelfReportedCap.IsNull())
		count(&inversions, i > 0 && q.MarketCap.Cmp(quotes[i-1].MarketCap) > 0)
		if m.at(noon).coins[i].stable() && !m.at(noon).coins[i].noVolume {
			if v := q.Volume24h.Float() / usd; math.Abs(price-1) > 0.01 || v < 0.25 || v > 0.7 {
				t.Errorf("stable %s: price %g, volume/cap %g", q.Info.Symbol, price, v)
			}
		}
	}
	within := func(name string, n, lo, hi int) {
		t.Helper()
		if n < lo || n > hi {
			t.Errorf("%s: %d of %d, want %d to %d", name, n, len(quotes), lo, hi)
		}
	}
	within("without maximum supply", noMax, 1200, 1500)
	within("without volume", noVolume, 40, 120)
	within("circulating above total", overTotal, 5, 40)
	within("self-reported", selfReported, 150, 330)
	within("shared symbols", doubles, 20, 900)
	within("caps rising against rank", inversions, 10, 1200)
	if quotes[0].Info.Symbol != "BTC" || quotes[1].Info.Symbol != "ETH" {
		t.Errorf("the largest are %s and %s", quotes[0].Info.Symbol, quotes[1].Info.Symbol)
	}
	if top, tail := quotes[9].MarketCap.Float(), quotes[2000].MarketCap.Float(); top/tail < 1e3 {
		t.Errorf("rank 10 at %g, rank 2,001 at %g", top, tail)
	}
}

func TestPercentChangesFollowThePath(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 6, Tokens: 120})
	now := m.Batch(noon)
	f := func(lag market.Millis, of func(q *market.Quote) market.Decimal) {
		t.Helper()
		for i := range now.Quotes {
			q := &now.Quotes[i]
			c := m.at(noon).coins[i]
			then := newMoment(6, q.SourceTime.Add(-lag))
			want := 0.0
			if then.time >= c.listed {
				want = 100 * (q.Price.Float()/c.priceAt(&then) - 1)
			}
			if got := of(q).Float(); math.Abs(got-want) > 1e-6 {
				t.Fatalf("%s over %v: %g, path says %g", q.Info.Symbol, lag.Std(), got, want)
			}
		}
	}
	f(market.Hour, func(q *market.Quote) market.Decimal { return q.PercentChange1h })
	f(market.Day, func(q *market.Quote) market.Decimal { return q.PercentChange24h })
	f(7*market.Day, func(q *market.Quote) market.Decimal { return q.PercentChange7d })
}

func correlation(xs, ys []float64) float64 {
	var mx, my float64
	for i := range xs {
		mx, my = mx+xs[i]/float64(len(xs)), my+ys[i]/float64(len(ys))
	}
	var xy, xx, yy float64
	for i := range xs {
		xy, xx, yy = xy+(xs[i]-mx)*(ys[i]-my), xx+(xs[i]-mx)*(xs[i]-mx), yy+(ys[i]-my)*(ys[i]-my)
	}
	return xy / math.Sqrt(xx*yy)
}

// newTestQuote evaluates one coin alone.
func newTestQuote(m *Market, id market.ID, at market.Time) *market.Quote {
	var q market.Quote
	s := m.synthetic
	DigitsFull.quote(&q, s.universe.head[id], newFrame(s.seed, at, &quantum{total: 1e12}), 1)
	return &q
}

func TestMarketMovesTogether(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 2, Tick: market.Minute})
	var btc, eth, doge, absolute, volume, hourly []float64
	for i := range 200 {
		at := noon.Add(market.Millis(i) * 6 * market.Hour)
		c := m.at(at)
		c.index()
		q := func(id market.ID) *market.Quote { return &c.quotes[c.byID[id]] }
		btc = append(btc, q(1).PercentChange24h.Float())
		eth = append(eth, q(1027).PercentChange24h.Float())
		doge = append(doge, q(74).PercentChange24h.Float())
		absolute = append(absolute, math.Abs(q(74).PercentChange24h.Float()))
		volume = append(volume, math.Log(q(74).Volume24h.Float()/q(74).MarketCap.Float()))
	}
	for i := range 1500 {
		q := newTestQuote(m, 1, noon.Add(market.Millis(i)*market.Hour))
		hourly = append(hourly, math.Abs(q.PercentChange1h.Float()))
	}
	positive := func(name string, c, least float64) {
		t.Helper()
		t.Logf("%s: %.2f", name, c)
		if c < least {
			t.Errorf("%s: a correlation of %.2f", name, c)
		}
	}
	positive("BTC and ETH", correlation(btc, eth), 0.5)
	positive("BTC and DOGE", correlation(btc, doge), 0.3)
	positive("volume and |return|", correlation(absolute, volume), 0.1)
	positive("volatility now and 4 hours on", correlation(hourly[:1496], hourly[4:]), 0.1)
	fourth, square := 0.0, 0.0
	for _, r := range hourly {
		fourth, square = fourth+math.Pow(r, 4)/1500, square+r*r/1500
	}
	if kurtosis := fourth / (square * square); kurtosis < 3.5 || kurtosis > 20 {
		t.Errorf("hourly returns have a kurtosis of %.1f; a normal one would be 3", kurtosis)
	}
	slices.Sort(btc)
	if worst, best := btc[0], btc[199]; worst > -1 || worst < -40 || best < 1 || best > 60 {
		t.Errorf("bitcoin moves %.1f %% to %.1f %% a day", worst, best)
	}
}

// TestCleanTicksAreSmall keeps a clean market clear of the outlier rules.
func TestCleanTicksAreSmall(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 3, Tokens: 1000})
	last := make(map[market.ID]market.Quote)
	for i := range 120 {
		for _, q := range m.Batch(noon.Add(market.Millis(i) * market.Second)).Quotes {
			if before, known := last[q.ID]; known {
				step := math.Abs(math.Log(q.Price.Float() / before.Price.Float()))
				if q.Volume24h.Positive() {
					step = math.Max(step, math.Abs(math.Log(q.Volume24h.Float()/before.Volume24h.Float())))
				}
				if step > 0.03 {
					t.Fatalf("%s moves by %.3f in a tick", q.Info.Symbol, step)
				}
			}
			last[q.ID] = q
		}
	}
}

func TestCoinsAreListedAndDelisted(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1, Tokens: 1000})
	ids := func(at market.Time) map[market.ID]bool {
		set := make(map[market.ID]bool)
		for _, q := range m.Batch(at).Quotes {
			set[q.ID] = true
		}
		return set
	}
	now, later := ids(noon), ids(noon.Add(30*market.Day))
	gone := 0
	for id := range now {
		if !later[id] {
			gone++
		}
	}
	if len(now) != 1000 || len(later) != 1000 || gone < 40 || gone > 110 {
		t.Fatalf("%d, then %d coins; %d gone in a month", len(now), len(later), gone)
	}
	for i, c := range m.at(noon.Add(30 * market.Day)).coins {
		q := &m.at(noon.Add(30 * market.Day)).quotes[i]
		if age := q.SourceTime.Sub(c.listed); age < 7*market.Day && q.PercentChange7d != (market.Decimal{}) {
			t.Fatalf("%s is %v old and has a change of 7 days", c.info.Symbol, age.Std())
		}
	}
	var listed []struct {
		ID       market.ID `json:"id"`
		IsActive int       `json:"is_active"`
	}
	good(t, m, "/v1/cryptocurrency/map?listing_status=inactive", &listed)
	for _, c := range listed {
		if c.IsActive != 0 || now[c.ID] {
			t.Fatalf("coin %d is not inactive", c.ID)
		}
	}
	if len(listed) < 50 {
		t.Fatalf("%d inactive coins", len(listed))
	}
}

func TestDirt(t *testing.T) {
	m := newTestMarket(t, Config{Seed: 1, Dirt: 1})
	var nulls, zeros, absurd, stale, twice, missing, poisoned int
	for i := range 600 {
		at := noon.Add(market.Millis(i) * market.Second)
		b := m.Batch(at)
		seen := make(map[market.ID]bool)
		if d := b.Quotes[0].Price; d == (market.Decimal{}) && b.Quotes[300].Price == d && b.Quotes[300].Volume24h.IsNull() {
			poisoned++
			continue
		}
		for _, q := range b.Quotes {
			if seen[q.ID] {
				twice++
			}
			seen[q.ID] = true
			if q.Price.IsNull() || q.Volume24h.IsNull() || q.MarketCap.IsNull() {
				nulls++
			}
			if q.Price == (market.Decimal{}) || q.MarketCap == (market.Decimal{}) {
				zeros++
			}
			if q.Volume24h.Float() > 20*q.MarketCap.Float() {
				absurd++
			}
			if at.Sub(q.SourceTime) > 17*market.Second {
				stale++
			}
		}
		missing += 500 - len(seen)
	}
	for name, n := range map[string]int{
		"nulls": nulls, "zeros": zeros, "absurd volumes": absurd, "stale": stale, "duplicates": twice, "missing": missing,
	} {
		if n < 500 || n > 30_000 {
			t.Errorf("%s: %d of 300,000 rows", name, n)
		}
	}
	if poisoned < 1 || poisoned > 10 {
		t.Errorf("%d poisoned polls of 600", poisoned)
	}
	clean := newTestMarket(t, Config{Seed: 1}).Batch(noon)
	for _, q := range clean.Quotes {
		if !q.Price.Positive() || !q.MarketCap.Positive() {
			t.Fatalf("dirt without asking: %+v", q)
		}
	}
}
