package simulator

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Sectors share a factor and a tag.
const numSectors = 12

var sectorNames = [numSectors]string{
	"stable", "store", "layer1", "layer2", "defi", "exchange", "meme", "ai", "infra", "gaming", "payments", "privacy",
}

var sectorTags = [numSectors]string{
	"stablecoin", "store-of-value", "layer-1", "layer-2", "defi", "centralized-exchange-token", "memes", "ai-big-data",
	"infrastructure", "gaming", "payments", "privacy",
}

const sectorStable = 0

// supplyEpoch is when the supplies of the tables were valid: 2026-01-01.
const supplyEpoch market.Time = 1767225600000

// coin is all about one coin that does not depend on time. Immutable, except
// for the lazily made text.
type coin struct {
	id       market.ID
	info     *market.Info
	slot     int32
	stream   uint64
	sector   uint8
	platform *coin
	listed   market.Time // aligned to the hour; 0 in a recording
	delisted market.Time // 0 when it stays
	added    string      // date_added
	pairs    int         // num_market_pairs

	price       float64 // USD, around which the path moves
	beta        float64 // to the market factor
	sectorBeta  float64
	volatility  float64 // of its own path, annual
	turnover    float64 // log of the usual volume / cap
	noVolume    bool
	updateShare uint64 // share of ticks with an update, of 2^64

	supply     float64 // circulating at supplyEpoch
	growth     float64 // of the supply, per year
	totalRatio float64 // total / circulating supply
	maxSupply  float64 // 0: none
	selfSupply float64 // 0: not reported
	whole      bool    // supplies are whole numbers

	text atomic.Pointer[coinText]
}

func (c *coin) stable() bool { return c.sector == sectorStable }

// level is the log of price over base price.
func (c *coin) level(m *moment) float64 {
	if c.stable() {
		return c.volatility * m.path(c.stream)
	}
	return c.beta*m.market + c.sectorBeta*m.sector[c.sector] + c.volatility*(m.path(c.stream)+jump(c.stream, m.jump))
}

func (c *coin) priceAt(m *moment) float64 { return c.priceOf(c.level(m)) }

// circulating is the supply at an instant; it grows by the hour.
func (c *coin) circulating(t market.Time) float64 {
	s := c.supply
	if c.growth != 0 {
		hours := math.Floor(float64(t-supplyEpoch) / float64(market.Hour))
		s *= math.Max(0.2, 1+c.growth*hours/(365*24))
	}
	if c.maxSupply > 0 && s > c.maxSupply && c.supply <= c.maxSupply {
		s = c.maxSupply
	}
	if c.whole {
		s = math.Floor(s)
	}
	return s
}

// capAt is the capitalisation at an instant, USD.
func (c *coin) capAt(m *moment) float64 { return c.priceAt(m) * c.circulating(m.time) }

// volumeAt is the 24 h volume, USD, given the cap and the move of a day.
func (c *coin) volumeAt(m *moment, marketCap, dayMove float64) float64 {
	if c.noVolume {
		return 0
	}
	stream := ^c.stream
	own := m.at[3].value(stream) + m.at[4].value(stream+1) + m.at[5].value(stream+2)
	if c.stable() {
		// Half the swing of other coins: a stable coin turns over 0.3 to 0.6 of its cap a day.
		return marketCap * math.Exp(c.turnover+0.3*m.volume+0.06*own)
	}
	return marketCap * math.Exp(c.turnover+m.volume+0.25*own+1.5*math.Min(math.Abs(dayMove), 0.6))
}

// updatedAt is the newest tick, at or before the given one, at which the coin
// got values: most ticks by chance, every 16th for sure.
func (c *coin) updatedAt(tick, tickLength int64) int64 {
	first := (int64(c.listed) + tickLength - 1) / tickLength
	phase := int64(c.stream & (maxBack - 1))
	for back := range int64(maxBack) {
		k := tick - back
		if (k+phase)&(maxBack-1) == 0 || k <= first || hash2(c.stream^0x5bd1e995, uint64(k)) < c.updateShare {
			return k
		}
	}
	return tick
}

// maxBack bounds how many ticks old a coin's values may be (unless stale by dirt).
const maxBack = 16

// change is a percentage since an earlier moment; 0 where the coin did not
// exist then, as the real API reports it.
func (c *coin) change(level float64, then *moment) float64 {
	if then.time < c.listed {
		return 0
	}
	return expm1pct(level - c.level(then))
}

// coinText are the parts of a coin's JSON that never change.
type coinText struct {
	head      string // "id":1,"name":"Bitcoin","symbol":"BTC","slug":"bitcoin"
	tags      string // ["mineable"]
	tagsV2    string // [{"slug":…,"name":…,"category":…}]
	platform  string // object or null
	maxSupply string // number or null
}

func (c *coin) json() *coinText {
	if t := c.text.Load(); t != nil {
		return t
	}
	t := c.makeText()
	c.text.Store(t)
	return t
}

func (c *coin) makeText() *coinText {
	head := `"id":` + strconv.FormatUint(uint64(c.id), 10) + `,"name":` + quoteJSON(c.info.Name) +
		`,"symbol":` + quoteJSON(c.info.Symbol) + `,"slug":` + quoteJSON(c.info.Slug)
	t := &coinText{head: head, platform: c.platformJSON(), maxSupply: "null"}
	if c.maxSupply > 0 {
		t.maxSupply = market.Significant(c.maxSupply, 17).String()
	}
	var plain, rich []string
	for _, tag := range c.tags() {
		plain = append(plain, quoteJSON(tag))
		rich = append(rich, `{"slug":`+quoteJSON(tag)+`,"name":`+quoteJSON(title(tag))+`,"category":"CATEGORY"}`)
	}
	t.tags = "[" + strings.Join(plain, ",") + "]"
	t.tagsV2 = "[" + strings.Join(rich, ",") + "]"
	return t
}

func (c *coin) tags() []string {
	if c.stream == 0 {
		return nil // a recorded coin: tags are not known
	}
	var tags []string
	switch c.sector {
	case 1, 11:
		tags = append(tags, "mineable", "pow")
	}
	tags = append(tags, sectorTags[c.sector])
	if c.platform != nil {
		tags = append(tags, c.platform.info.Slug+"-ecosystem")
	}
	return tags
}

func (c *coin) platformJSON() string {
	if c.platform == nil {
		return "null"
	}
	p := c.platform.info
	return `{"id":` + strconv.FormatUint(uint64(c.platform.id), 10) + `,"name":` + quoteJSON(p.Name) +
		`,"symbol":` + quoteJSON(p.Symbol) + `,"slug":` + quoteJSON(p.Slug) + `,"token_address":` + quoteJSON(c.address()) + "}"
}

// address is the contract of a coin that lives on another coin's chain.
func (c *coin) address() string {
	const hex = "0123456789abcdef"
	b := []byte("0x")
	for i := range 40 {
		b = append(b, hex[hash2(c.stream, uint64(1000+i))&15])
	}
	return string(b)
}

func title(tag string) string {
	words := strings.Split(tag, "-")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

// priceOf is the price at a level of the path, USD.
func (c *coin) priceOf(level float64) float64 { return c.price * math.Exp(level) }

// total is the supply that exists, given the one that circulates.
func (c *coin) total(circulating float64) float64 {
	t := circulating * c.totalRatio
	if c.maxSupply > 0 && t > c.maxSupply && c.totalRatio > 1 {
		t = c.maxSupply
	}
	if c.whole {
		return math.Floor(t)
	}
	return t
}

// expm1pct turns a log return into a percentage.
func expm1pct(r float64) float64 { return 100 * math.Expm1(r) }
