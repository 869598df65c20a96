package coinmarketcap

import (
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// Members of a coin that are no published field take the bits above the fields
// in the set of what a row has had, which refuses repetitions.
const (
	hasID market.Field = market.NumFields + 1 + iota
	hasTime
	hasQuote
	hasQuoteTime
	hasSelfCap
	hasSelfSupply
)

const (
	usdName = "USD"
	usdID   = 2781 // CoinMarketCap's id of the US dollar
)

// row is a coin while it is read.
type row struct {
	q          market.Quote
	seen       market.Mask
	name       []byte
	symbol     []byte
	slug       []byte
	coinTime   market.Time
	quoteTime  market.Time
	usd        bool // the quote in USD was there
	fault      string
	faultKey   string
	fields     int  // values left out
	fatal      bool // the row is to be left out
	isCurrency bool // of a quote in an array: its currency is USD
}

var blank = market.Quote{
	Price: market.Null, MarketCap: market.Null, Volume24h: market.Null,
	PercentChange1h: market.Null, PercentChange24h: market.Null, PercentChange7d: market.Null,
	CirculatingSupply: market.Null, TotalSupply: market.Null, MaxSupply: market.Null,
	FullyDiluted: market.Null, Dominance: market.Null, SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
}

func (r *row) reset() {
	*r = row{q: blank, name: r.name[:0], symbol: r.symbol[:0], slug: r.slug[:0]}
}

// reject notes why a value was left out; fatal leaves the row out.
func (r *row) reject(key, why string, fatal bool) {
	if r.fault == "" || fatal && !r.fatal {
		r.faultKey, r.fault = key, why
	}
	r.fatal = r.fatal || fatal
	r.fields++
}

// coin reads one coin and appends it to the quotes, or counts why not.
func (p *Parser) coin() {
	s, r := &p.scan, &p.row
	if p.answer.Rows >= MaxRows {
		s.Fail("more than " + strconv.Itoa(MaxRows) + " rows")
		return
	}
	p.answer.Rows++
	r.reset()
	if s.Kind() == jsonscan.Object {
		for ok := s.Enter(jsonscan.Object); ok; {
			var key []byte
			if key, ok = s.Key(); ok {
				p.member(key)
			}
		}
	} else {
		s.Skip()
		r.reject("row", "is not an object", true)
	}
	if s.Err() == nil {
		p.finish()
	}
}

// member reads one member of a coin.
func (p *Parser) member(key []byte) {
	s, r := &p.scan, &p.row
	switch string(key) {
	case "id":
		p.once(r, hasID)
		r.q.ID = market.ID(p.integer(1<<31-1, r, "id", true))
	case "name":
		r.name = p.text(r.name, market.FieldName, "name", maxName)
	case "symbol":
		r.symbol = p.text(r.symbol, market.FieldSymbol, "symbol", maxSymbol)
	case "slug":
		r.slug = p.text(r.slug, market.FieldSlug, "slug", maxSlug)
	case "cmc_rank":
		p.once(r, market.FieldRank)
		fields := r.fields
		r.q.Rank = uint32(p.integer(1<<32-1, r, "cmc_rank", false))
		if r.fields == fields {
			r.q.Has |= market.FieldRank.Bit()
		}
	case "circulating_supply":
		p.figure(r, &r.q.CirculatingSupply, market.FieldCirculatingSupply, "circulating_supply")
	case "total_supply":
		p.figure(r, &r.q.TotalSupply, market.FieldTotalSupply, "total_supply")
	case "max_supply":
		p.figure(r, &r.q.MaxSupply, market.FieldMaxSupply, "max_supply")
	case "self_reported_circulating_supply":
		p.figure(r, &r.q.SelfReportedSupply, hasSelfSupply, "self_reported_circulating_supply")
	case "self_reported_market_cap":
		p.figure(r, &r.q.SelfReportedCap, hasSelfCap, "self_reported_market_cap")
	case "last_updated":
		p.once(r, hasTime)
		r.coinTime = p.time(r)
	case "quote":
		p.once(r, hasQuote)
		p.quote()
	default:
		s.Skip()
	}
}

// quote reads the quotes of a coin: an object keyed by symbol or id of the
// currency (v1, v2), or an array (v3). Only USD is taken.
func (p *Parser) quote() {
	s := &p.scan
	switch s.Kind() {
	case jsonscan.Object:
		for ok := s.Enter(jsonscan.Object); ok; {
			var key []byte
			if key, ok = s.Key(); !ok {
				return
			}
			if string(key) != usdName && string(key) != "2781" || s.Kind() != jsonscan.Object {
				s.Skip()
				continue
			}
			p.currency()
			p.figures(&p.row)
		}
	case jsonscan.Array:
		for ok := s.Enter(jsonscan.Array); ok && s.More(); {
			if s.Kind() != jsonscan.Object {
				s.Skip()
				continue
			}
			p.side.reset()
			p.figures(&p.side)
			if p.side.isCurrency {
				p.currency()
				p.adopt()
			}
		}
	default:
		s.Skip()
	}
}

func (p *Parser) currency() {
	if p.row.usd {
		p.scan.Fail("the quote in USD comes twice")
	}
	p.row.usd = true
}

// adopt takes the figures of a quote whose currency turned out to be USD.
func (p *Parser) adopt() {
	r, q := &p.row, &p.side.q
	r.q.Price, r.q.MarketCap, r.q.Volume24h = q.Price, q.MarketCap, q.Volume24h
	r.q.PercentChange1h, r.q.PercentChange24h, r.q.PercentChange7d = q.PercentChange1h, q.PercentChange24h, q.PercentChange7d
	r.q.FullyDiluted, r.q.Dominance = q.FullyDiluted, q.Dominance
	r.q.Has |= q.Has
	r.q.Flags |= q.Flags
	r.quoteTime = p.side.quoteTime
	if p.side.fault != "" {
		fields := r.fields + p.side.fields
		r.reject(p.side.faultKey, p.side.fault, p.side.fatal)
		r.fields = fields
	}
}

// figures reads one quote into r.
func (p *Parser) figures(r *row) {
	s := &p.scan
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			return
		}
		switch string(key) {
		case "price":
			p.figure(r, &r.q.Price, market.FieldPrice, "price")
		case "market_cap":
			p.figure(r, &r.q.MarketCap, market.FieldMarketCap, "market_cap")
		case "volume_24h":
			p.figure(r, &r.q.Volume24h, market.FieldVolume24h, "volume_24h")
		case "percent_change_1h":
			p.figure(r, &r.q.PercentChange1h, market.FieldPercentChange1h, "percent_change_1h")
		case "percent_change_24h":
			p.figure(r, &r.q.PercentChange24h, market.FieldPercentChange24h, "percent_change_24h")
		case "percent_change_7d":
			p.figure(r, &r.q.PercentChange7d, market.FieldPercentChange7d, "percent_change_7d")
		case "market_cap_dominance":
			p.figure(r, &r.q.Dominance, market.FieldDominance, "market_cap_dominance")
		case "fully_diluted_market_cap":
			p.figure(r, &r.q.FullyDiluted, market.FieldFullyDilutedMarketCap, "fully_diluted_market_cap")
		case "last_updated":
			p.once(r, hasQuoteTime)
			r.quoteTime = p.time(r)
		case "symbol":
			if s.Kind() == jsonscan.String {
				r.isCurrency = string(s.String()) == usdName || r.isCurrency
				continue
			}
			s.Skip()
		case "id":
			r.isCurrency = readInt(s) == usdID || r.isCurrency
		default:
			s.Skip()
		}
	}
}

// finish checks what was read of a coin and appends it, or replaces an earlier
// row of the same token in this batch.
func (p *Parser) finish() {
	r := &p.row
	switch {
	case r.fatal: // one reason is enough
	case r.q.ID == 0:
		r.reject("id", "is missing or not an id", true)
	case len(r.symbol) == 0:
		r.reject("symbol", "is missing", true)
	case !r.usd:
		r.reject("quote", "has no USD", true)
	}
	if r.fault != "" {
		p.bad++
		p.answer.Fields += r.fields
		if p.answer.Reason == "" {
			p.answer.Reason = "row " + strconv.Itoa(p.answer.Rows) + ": " + r.faultKey + " " + r.fault
		}
	}
	if r.fatal {
		p.answer.Rejected++
		return
	}
	r.q.Flags |= p.Flags
	if r.q.SourceTime = r.quoteTime; r.quoteTime == 0 {
		r.q.SourceTime = r.coinTime
	}
	k := p.known(r)
	r.q.Info = k.info
	if k.round == p.round && int(k.at) < len(p.quotes) && p.quotes[k.at].ID == r.q.ID {
		if old := &p.quotes[k.at]; r.q.SourceTime >= old.SourceTime {
			*old = r.q
		}
		return
	}
	k.round, k.at = p.round, int32(len(p.quotes))
	p.quotes = append(p.quotes, r.q)
}

// known returns what is remembered of the row's token, with its present names.
func (p *Parser) known(r *row) *known {
	k := p.infos[r.q.ID]
	if k == nil {
		k = new(known)
		p.infos[r.q.ID] = k
	}
	if i := k.info; i == nil || i.Symbol != string(r.symbol) || i.Name != string(r.name) || i.Slug != string(r.slug) {
		k.info = &market.Info{Symbol: string(r.symbol), Name: string(r.name), Slug: string(r.slug)}
	}
	return k
}
