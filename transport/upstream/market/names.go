package simulator

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// mapRow is one coin of /cryptocurrency/map.
type mapRow struct {
	coin   *coin
	rank   uint32
	active bool
	last   market.Time
}

// idMap answers /cryptocurrency/map. Without a limit it returns every coin.
func (c *call) idMap() *fault {
	rows := c.mapRows()
	if symbols, ok := c.params["symbol"]; ok {
		var unknown []string
		if rows, unknown = bySymbols(rows, symbols); len(unknown) > 0 {
			return badRequest(`Invalid value for "symbol": `, strconv.Quote(strings.Join(unknown, ",")))
		}
	} else {
		if c.params["sort"] != "cmc_rank" {
			slices.SortStableFunc(rows, func(a, b mapRow) int { return cmp.Compare(a.coin.id, b.coin.id) })
		}
		rows = page(rows, c.params.integer("start", 1), c.params.integer("limit", len(rows)))
	}
	aux := c.params.text("aux", "platform,first_historical_data,last_historical_data,is_active")
	has := func(name string) bool { return slices.Contains(strings.Split(aux, ","), name) }
	show := [...]bool{has("is_active"), has("status"), has("first_historical_data"), has("last_historical_data"), has("platform")}
	c.data = append(c.data, '[')
	for i := range rows {
		if i > 0 {
			c.data = append(c.data, ',')
		}
		c.data = rows[i].append(c.data, show)
	}
	c.data = append(c.data, ']')
	c.credits = 1
	return nil
}

// mapRows lists the coins with the asked status: active ones by rank, then
// inactive ones. Nothing here is untracked.
func (c *call) mapRows() []mapRow {
	var rows []mapRow
	status := strings.Split(c.params.text("listing_status", "active"), ",")
	if slices.Contains(status, "active") {
		c.table.index()
		for i := range c.table.quotes {
			q := &c.table.quotes[i]
			if c.table.byID[q.ID] == int32(i) {
				rows = append(rows, mapRow{coin: c.table.coins[i], rank: q.Rank, active: true, last: q.SourceTime})
			}
		}
	}
	if slices.Contains(status, "inactive") && c.market.synthetic != nil {
		for _, gone := range c.market.synthetic.delisted(c.table.time) {
			rows = append(rows, mapRow{coin: gone, last: gone.delisted})
		}
	}
	return rows
}

func bySymbols(rows []mapRow, symbols string) (found []mapRow, unknown []string) {
	for symbol := range strings.SplitSeq(symbols, ",") {
		before := len(found)
		for _, r := range rows {
			if strings.EqualFold(r.coin.info.Symbol, symbol) {
				found = append(found, r)
			}
		}
		if len(found) == before {
			unknown = append(unknown, symbol)
		}
	}
	return found, unknown
}

// append appends the row; show tells is_active, status, first and last
// historical data and platform.
func (r *mapRow) append(dst []byte, show [5]bool) []byte {
	text := r.coin.json()
	dst = append(append(append(dst, '{'), text.head...), `,"rank":`...)
	dst = appendRank(dst, r.rank)
	status := "inactive"
	if r.active {
		status = "active"
	}
	if show[0] {
		dst = strconv.AppendInt(append(dst, `,"is_active":`...), int64(boolInt(r.active)), 10)
	}
	if show[1] {
		dst = append(append(append(dst, `,"status":"`...), status...), '"')
	}
	if show[2] {
		dst = append(append(append(dst, `,"first_historical_data":"`...), r.coin.added...), '"')
	}
	if show[3] {
		dst = append(r.last.AppendRFC3339(append(dst, `,"last_historical_data":"`...)), '"')
	}
	if show[4] {
		dst = append(append(dst, `,"platform":`...), text.platform...)
	}
	return append(dst, '}')
}

// info answers /cryptocurrency/info.
func (c *call) info() *fault {
	if _, ok := c.params["address"]; ok {
		return badRequest(`Invalid value for "address": `, strconv.Quote(c.params["address"]))
	}
	ch, f := c.choose()
	if f != nil {
		return f
	}
	aux := strings.Split(c.params.text("aux", "urls,logo,description,tags,platform,date_added,notice"), ",")
	c.appendByName(ch, c.version >= 2, func(dst []byte, row int) []byte {
		return c.table.coins[row].appendInfo(dst, &c.table.quotes[row], aux)
	})
	c.credits = creditsFor(ch.count, 100)
	return nil
}

func (c *coin) appendInfo(dst []byte, q *market.Quote, aux []string) []byte {
	has := func(name string) bool { return slices.Contains(aux, name) }
	text := c.json()
	category := "coin"
	if c.platform != nil {
		category = "token"
	}
	dst = append(append(append(dst, '{'), text.head...), `,"category":"`+category+`"`...)
	add := func(ok bool, name, value string) {
		if ok {
			dst = append(append(append(dst, `,"`...), name...), `":`...)
			dst = append(dst, value...)
		}
	}
	id := strconv.FormatUint(uint64(c.id), 10)
	name := c.info.Name
	add(has("description"), "description", quoteJSON(name+" ("+c.info.Symbol+") is a cryptocurrency of a simulated market."))
	add(has("logo"), "logo", quoteJSON("https://s2.coinmarketcap.com/static/img/coins/64x64/"+id+".png"))
	add(true, "subreddit", `""`)
	add(has("notice"), "notice", `""`)
	add(has("tags"), "tags", text.tags)
	add(has("urls"), "urls", `{"website":[],"twitter":[],"message_board":[],"chat":[],"facebook":[],"explorer":[],"reddit":[],`+
		`"technical_doc":[],"source_code":[],"announcement":[]}`)
	add(has("platform"), "platform", text.platform)
	add(has("date_added"), "date_added", quoteJSON(c.added))
	add(true, "twitter_username", `""`)
	add(true, "is_hidden", "0")
	add(has("status"), "status", `"active"`)
	add(true, "date_launched", "null")
	contracts := "[]"
	if c.platform != nil {
		contracts = `[{"contract_address":` + quoteJSON(c.address()) + `,"platform":{"name":` + quoteJSON(c.platform.info.Name) +
			`,"coin":{"id":"` + strconv.FormatUint(uint64(c.platform.id), 10) + `","name":` + quoteJSON(c.platform.info.Name) +
			`,"symbol":` + quoteJSON(c.platform.info.Symbol) + `,"slug":` + quoteJSON(c.platform.info.Slug) + `}}}]`
	}
	add(true, "contract_address", contracts)
	add(true, "self_reported_circulating_supply", string(appendNumber(nil, q.SelfReportedSupply)))
	add(true, "self_reported_tags", "null")
	add(true, "self_reported_market_cap", string(appendNumber(nil, q.SelfReportedCap)))
	add(true, "infinite_supply", strconv.FormatBool(c.growth > 0 && c.maxSupply == 0))
	return append(dst, '}')
}
