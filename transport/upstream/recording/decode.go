package recording

import (
	"errors"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/coinmarketcap"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// maxRows bounds the rows of one poll.
const maxRows = coinmarketcap.MaxRows

var errNoTime = errors.New("the poll has no time")

// decoder turns documents into batches. It remembers tokens by symbol.
type decoder struct {
	listings *coinmarketcap.Parser
	scan     jsonscan.Scanner
	tokens   map[string]*token
	poll     uint64
	recorded bool // the last document was one that Writer wrote
	rows     int  // of the last poll, to size the next one

	symbol, name []byte
}

// token is what is known of a symbol.
type token struct {
	id     market.ID
	flags  market.Flags
	info   *market.Info
	seenIn uint64 // the poll that had it last
}

// decode reads one document: a listings answer or a poll of a series. Errors of
// the text are *jsonscan.Error.
func (d *decoder) decode(text []byte) (*market.Batch, error) {
	d.scan.Reset(text)
	s := &d.scan
	if s.Kind() != jsonscan.Object {
		return d.listing(text)
	}
	b := &market.Batch{}
	var rec recorded
	d.recorded = false
	series, found := false, false
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			break
		}
		switch string(key) {
		case "coins":
			if series {
				s.Fail("coins comes twice")
			}
			series = true
			b.Quotes = d.coins()
		case "last_updated", "generated_at", "received_at":
			d.time(b)
		case "answers", "simulated", "cadence_ms":
			d.recordedMember(string(key), &rec)
		case "source", "kaynak":
			b.Source = d.source()
		case "data", "status":
			found = true
			s.Skip()
		default:
			s.Skip()
		}
	}
	if err := s.End(); err != nil {
		return nil, err
	}
	if rec.answers != nil && !series && !found {
		return d.answers(text, b, &rec)
	}
	if !series {
		if !found {
			return nil, &jsonscan.Error{What: "neither a listings answer (data) nor a poll of a series (coins)"}
		}
		return d.listing(text)
	}
	if b.ReceivedAt == 0 {
		return nil, errNoTime
	}
	for i := range b.Quotes {
		b.Quotes[i].SourceTime = b.ReceivedAt
	}
	return b, nil
}

// begin starts a batch of listings answers whose quotes all have flags.
func (d *decoder) begin(flags market.Flags) {
	if d.listings == nil {
		d.listings = coinmarketcap.NewParser()
		d.listings.Bare = true
	}
	d.listings.Flags = flags
	d.listings.Begin()
}

// page appends the quotes of one listings answer.
func (d *decoder) page(text []byte, quotes []market.Quote, now market.Time) ([]market.Quote, coinmarketcap.Answer, error) {
	quotes, answer, err := d.listings.Parse(text, quotes, now)
	switch {
	case err != nil:
	case answer.Status.Code != 0:
		err = &jsonscan.Error{What: "an error answer: code " + strconv.Itoa(answer.Status.Code) + " " + answer.Status.Message}
	case !answer.HasData:
		err = &jsonscan.Error{What: "a listings answer without data"}
	}
	return quotes, answer, err
}

// listing reads a CoinMarketCap listings answer.
func (d *decoder) listing(text []byte) (*market.Batch, error) {
	d.begin(0)
	quotes, answer, err := d.page(text, nil, 0)
	if err != nil {
		return nil, err
	}
	b := &market.Batch{Source: market.SourceCoinMarketCap, ReceivedAt: answer.Status.Timestamp, Quotes: quotes}
	if b.ReceivedAt == 0 {
		for i := range quotes {
			b.ReceivedAt = max(b.ReceivedAt, quotes[i].SourceTime)
		}
	}
	if b.ReceivedAt == 0 {
		return nil, errNoTime
	}
	return b, nil
}

func (d *decoder) time(b *market.Batch) {
	if d.scan.Kind() != jsonscan.String {
		d.scan.Skip()
		d.scan.Fail("the poll's time is not a string")
		return
	}
	t, ok := coinmarketcap.ParseTime(d.scan.String())
	if !ok {
		d.scan.Fail("the poll's time is not an instant")
	}
	b.ReceivedAt = t
}

func (d *decoder) source() market.Source {
	if d.scan.Kind() != jsonscan.String {
		d.scan.Skip()
		return market.SourceUnknown
	}
	switch strings.ToLower(string(d.scan.String())) {
	case "coinlore":
		return market.SourceCoinLore
	case "coinmarketcap":
		return market.SourceCoinMarketCap
	case "market":
		return market.SourceMarket
	}
	return market.SourceUnknown
}

// coins reads the rows of a poll.
func (d *decoder) coins() []market.Quote {
	s := &d.scan
	d.poll++
	quotes := make([]market.Quote, 0, d.rows)
	for ok := s.Enter(jsonscan.Array); ok && s.More(); {
		if len(quotes) >= maxRows {
			s.Fail("too many rows")
			return nil
		}
		quotes = append(quotes, blank)
		if !d.coin(&quotes[len(quotes)-1]) {
			quotes = quotes[:len(quotes)-1]
		}
	}
	d.rows = len(quotes)
	return quotes
}

var blank = market.Quote{
	Price: market.Null, MarketCap: market.Null, Volume24h: market.Null,
	PercentChange1h: market.Null, PercentChange24h: market.Null, PercentChange7d: market.Null,
	CirculatingSupply: market.Null, TotalSupply: market.Null, MaxSupply: market.Null,
	FullyDiluted: market.Null, Dominance: market.Null, SelfReportedCap: market.Null, SelfReportedSupply: market.Null,
}

// coin reads a row; false for a second one of its token in the poll.
func (d *decoder) coin(q *market.Quote) bool {
	s := &d.scan
	d.symbol, d.name = d.symbol[:0], d.name[:0]
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			break
		}
		switch string(key) {
		case "symbol":
			d.symbol = d.word(d.symbol, "symbol", 64)
		case "name":
			d.name = d.word(d.name, "name", 256)
		case "rank":
			d.rank(q)
		case "price_usd":
			d.figure(q, &q.Price, market.FieldPrice)
		case "market_cap_usd":
			d.figure(q, &q.MarketCap, market.FieldMarketCap)
		case "volume_24h", "spot_volume_24h_usd":
			d.figure(q, &q.Volume24h, market.FieldVolume24h)
		case "percent_change_1h":
			d.figure(q, &q.PercentChange1h, market.FieldPercentChange1h)
		case "percent_change_24h":
			d.figure(q, &q.PercentChange24h, market.FieldPercentChange24h)
		case "percent_change_7d":
			d.figure(q, &q.PercentChange7d, market.FieldPercentChange7d)
		default:
			s.Skip()
		}
	}
	if s.Err() == nil && len(d.symbol) == 0 {
		s.Fail("a row has no symbol")
	}
	if s.Err() != nil {
		return false
	}
	t := d.token()
	q.ID, q.Info = t.id, t.info
	q.Flags |= t.flags
	fresh := t.seenIn != d.poll
	t.seenIn = d.poll
	return fresh
}

func (d *decoder) word(dst []byte, what string, limit int) []byte {
	if d.scan.Kind() != jsonscan.String {
		d.scan.Fail(what + " is not a string")
		return dst
	}
	if len(dst) > 0 {
		d.scan.Fail(what + " comes twice")
	}
	return append(dst, coinmarketcap.Clean(d.scan.String(), limit)...)
}

// figure reads a number or null.
func (d *decoder) figure(q *market.Quote, dst *market.Decimal, f market.Field) {
	s := &d.scan
	if q.Has.Has(f) {
		s.Fail(f.String() + " comes twice")
	}
	q.Has |= f.Bit()
	if s.SkipNull() {
		return
	}
	if s.Kind() != jsonscan.Number {
		s.Fail(f.String() + " is not a number")
		return
	}
	n, rounded, err := market.ParseDecimal(s.Number())
	if err != nil {
		s.Fail(f.String() + " is out of range")
		return
	}
	if *dst = n; rounded {
		q.Flags |= market.FlagRounded
	}
}

func (d *decoder) rank(q *market.Quote) {
	s := &d.scan
	if q.Has.Has(market.FieldRank) {
		s.Fail("rank comes twice")
	}
	q.Has |= market.FieldRank.Bit()
	if s.SkipNull() {
		return
	}
	n, err := strconv.ParseUint(string(s.Number()), 10, 32)
	if err != nil {
		s.Fail("rank is not an integer")
	}
	q.Rank = uint32(n)
}

// token returns what is known of the row's symbol, with the row's name.
func (d *decoder) token() *token {
	t := d.tokens[string(d.symbol)]
	if t != nil && t.info.Name == string(d.name) {
		return t
	}
	symbol, name := string(d.symbol), string(d.name)
	id, slug, known := lookup(symbol)
	if t == nil {
		if d.tokens == nil || len(d.tokens) >= 4*maxRows {
			d.tokens = make(map[string]*token)
		}
		t = &token{id: id}
		if !known {
			t.id, t.flags = UnmappedID(symbol), market.FlagUnmappedID
		}
		d.tokens[symbol] = t
	}
	if !known {
		slug = slugOf(name, symbol)
	}
	t.info = &market.Info{Symbol: symbol, Name: name, Slug: slug}
	return t
}

// UnmappedID returns the id of a token whose CoinMarketCap id is not known:
// 2³¹ plus the 32-bit FNV-1a hash of its symbol modulo 2³¹.
func UnmappedID(symbol string) market.ID {
	h := fnv.New32a()
	_, _ = h.Write([]byte(symbol))
	return market.ID(1<<31 | h.Sum32()&(1<<31-1))
}

// slugOf makes a slug of a name: lower case, everything that is neither letter
// nor digit of any script a dash, none doubled or at the ends.
func slugOf(name, symbol string) string {
	if name == "" {
		name = symbol
	}
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return r < '0' || r > '9' && r < 'a' || r > 'z' && r < 0x80
	})
	if len(words) == 0 {
		return strings.ToLower(symbol)
	}
	return strings.Join(words, "-")
}
