package simulator

import (
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// call is one request under way.
type call struct {
	market  *Market
	now     market.Time
	version int
	account *account // nil on a keyless route
	params  params
	table   *table
	data    []byte // the data member, appended by the endpoint
	credits int
	total   int // status.total_count; below 0 for none
}

// endpoint is one path of the API.
type endpoint struct {
	version  int
	rules    endpointRules
	keyless  bool // also under /public-api
	excluded bool // known, but in no plan here
	answer   func(*call) *fault
}

// endpoints by path. History is sold by no plan of this market.
var endpoints = map[string]*endpoint{
	"/v1/cryptocurrency/listings/latest":                {version: 1, rules: rulesListings, keyless: true, answer: (*call).listings},
	"/v3/cryptocurrency/listings/latest":                {version: 3, rules: rulesListings, keyless: true, answer: (*call).listings},
	"/v1/cryptocurrency/quotes/latest":                  {version: 1, rules: rulesQuotes, keyless: true, answer: (*call).quotes},
	"/v2/cryptocurrency/quotes/latest":                  {version: 2, rules: rulesQuotes, keyless: true, answer: (*call).quotes},
	"/v1/cryptocurrency/map":                            {version: 1, rules: rulesMap, keyless: true, answer: (*call).idMap},
	"/v1/cryptocurrency/info":                           {version: 1, rules: rulesInfo, answer: (*call).info},
	"/v2/cryptocurrency/info":                           {version: 2, rules: rulesInfo, answer: (*call).info},
	"/v1/global-metrics/quotes/latest":                  {version: 1, rules: rulesGlobal, keyless: true, answer: (*call).global},
	"/v1/key/info":                                      {version: 1, rules: rulesNone, answer: (*call).keyInfo},
	"/v1/cryptocurrency/listings/historical":            {version: 1, excluded: true},
	"/v1/cryptocurrency/quotes/historical":              {version: 1, excluded: true},
	"/v2/cryptocurrency/quotes/historical":              {version: 2, excluded: true},
	"/v3/cryptocurrency/quotes/historical":              {version: 3, excluded: true},
	"/v2/cryptocurrency/ohlcv/historical":               {version: 2, excluded: true},
	"/v1/global-metrics/quotes/historical":              {version: 1, excluded: true},
	"/v1/cryptocurrency/listings/new":                   {version: 1, excluded: true},
	"/v2/cryptocurrency/ohlcv/latest":                   {version: 2, excluded: true},
	"/v2/cryptocurrency/price-performance-stats/latest": {version: 2, excluded: true},
}

// conversions reads convert or convert_id; USD without either.
func (c *call) conversions() ([]conversion, *fault) {
	list, byID := c.params["convert"], false
	if ids, ok := c.params["convert_id"]; ok {
		if list != "" {
			return nil, badRequest(`"value" contains a conflict between optional exclusive peers [convert, convert_id]`)
		}
		list, byID = ids, true
	}
	if list == "" {
		list = "USD"
	}
	items := strings.Split(list, ",")
	limit := 120
	if c.account != nil && c.account.key.Plan.Converts > 0 {
		limit = c.account.key.Plan.Converts
	}
	if c.account == nil {
		limit = 1
	}
	if len(items) > limit {
		return nil, badRequest("Your plan is limited to ", strconv.Itoa(limit), " convert options")
	}
	var out []conversion
	for _, item := range items {
		conv, ok := c.conversion(item, byID)
		if !ok {
			name := "convert"
			if byID {
				name = "convert_id"
			}
			return nil, badRequest("Invalid value for ", strconv.Quote(name), ": ", strconv.Quote(item))
		}
		out = append(out, conv)
	}
	return out, nil
}

// conversion finds a fiat currency or a coin by symbol or id.
func (c *call) conversion(item string, byID bool) (conversion, bool) {
	conv, ok := fiatBy(func(f *fiat) bool {
		return byID && strconv.Itoa(f.id) == item || !byID && strings.EqualFold(f.symbol, item)
	})
	if !ok {
		rows := c.find("symbol", strings.ToUpper(item))
		if byID {
			rows = c.find("id", item)
		}
		if len(rows) == 0 || !c.table.quotes[rows[0]].Price.Positive() {
			return conv, false
		}
		q := &c.table.quotes[rows[0]]
		conv = conversion{id: int(q.ID), symbol: q.Info.Symbol, rate: 1 / q.Price.Float(), base: q}
		conv.history = c.table.history(int(rows[0]), c.market.cfg.Digits)
	}
	conv.key = conv.symbol
	if byID {
		conv.key = strconv.Itoa(conv.id)
	}
	return conv, true
}

// find returns the rows of a coin by "id", "symbol" or "slug".
func (c *call) find(kind, value string) []int32 {
	c.table.index()
	switch kind {
	case "id":
		id, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil
		}
		if i, ok := c.table.byID[market.ID(id)]; ok {
			return []int32{i}
		}
	case "slug":
		if i, ok := c.table.bySlug[value]; ok {
			return []int32{i}
		}
	default:
		if rows := c.table.bySymbol[value]; rows != nil {
			return rows
		}
		return c.table.bySymbol[strings.ToUpper(value)]
	}
	return nil
}

// chosen are the coins that a request names, in its order.
type chosen struct {
	kind  string    // id, symbol or slug
	rows  [][]int32 // by name; more than one only for a symbol
	count int       // rows in all
}

// choose resolves id, symbol or slug, of which exactly one must be given.
func (c *call) choose() (chosen, *fault) {
	var ch chosen
	var given []string
	for _, kind := range []string{"id", "symbol", "slug"} {
		if _, ok := c.params[kind]; ok {
			given = append(given, kind)
			ch.kind = kind
		}
	}
	switch {
	case len(given) == 0:
		return ch, badRequest(`"value" must contain at least one of [id, symbol, slug]`)
	case len(given) > 1:
		return ch, badRequest(`"value" contains a conflict between exclusive peers [id, symbol, slug]`)
	}
	var unknown []string
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(c.params[ch.kind], ",") {
		if seen[name] {
			continue
		}
		seen[name] = true
		rows := c.find(ch.kind, name)
		if len(rows) == 0 {
			unknown = append(unknown, name)
			continue
		}
		ch.rows = append(ch.rows, rows)
		ch.count += len(rows)
	}
	if len(unknown) > 0 && c.params["skip_invalid"] != "true" {
		word := "value"
		if len(unknown) > 1 {
			word = "values"
		}
		return ch, badRequest("Invalid ", word, " for ", strconv.Quote(ch.kind), ": ", strconv.Quote(strings.Join(unknown, ",")))
	}
	return ch, nil
}

// appendByName appends an object with one member per chosen coin: by symbol
// under the symbol (an array of all its coins where many is set), else under the id.
func (c *call) appendByName(ch chosen, many bool, appendRow func(dst []byte, row int) []byte) {
	c.data = append(c.data, '{')
	for n := range ch.rows {
		if n > 0 {
			c.data = append(c.data, ',')
		}
		rows := ch.rows[n]
		key := c.table.coins[rows[0]].info.Symbol
		if ch.kind != "symbol" {
			key = strconv.FormatUint(uint64(c.table.coins[rows[0]].id), 10)
		}
		c.data = append(append(c.data, quoteJSON(key)...), ':')
		if !many || ch.kind != "symbol" {
			c.data = appendRow(c.data, int(rows[0]))
			continue
		}
		c.data = append(c.data, '[')
		for i, row := range rows {
			if i > 0 {
				c.data = append(c.data, ',')
			}
			c.data = appendRow(c.data, int(row))
		}
		c.data = append(c.data, ']')
	}
	c.data = append(c.data, '}')
}

// creditsFor is what n rows cost: one for every so many, rounded up, at least one.
func creditsFor(n, every int) int { return max(1, (n+every-1)/every) }
