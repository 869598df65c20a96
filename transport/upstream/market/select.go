package simulator

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// selection chooses the rows of a listing, in order.
func (t *table) selection(p params) []int32 {
	keep := t.filters(p)
	rows := make([]int32, 0, len(t.quotes))
	for i := range t.quotes {
		if keep(i) {
			rows = append(rows, int32(i))
		}
	}
	t.sort(rows, p.text("sort", "market_cap"), p["sort_dir"])
	return rows
}

// filters returns the test that a row has to pass.
func (t *table) filters(p params) func(i int) bool {
	type span struct {
		of     func(q *market.Quote) market.Decimal
		lo, hi float64
	}
	var spans []span
	for name, of := range filterable {
		lo, hasLo := p[name+"_min"]
		hi, hasHi := p[name+"_max"]
		if hasLo || hasHi {
			spans = append(spans, span{of: of, lo: floatOr(lo, math.Inf(-1)), hi: floatOr(hi, math.Inf(1))})
		}
	}
	kind, tag := p.text("cryptocurrency_type", "all"), p.text("tag", "all")
	return func(i int) bool {
		for _, s := range spans {
			// Comparisons with NaN (null) are false: a null value is in no range.
			if v := s.of(&t.quotes[i]).Float(); !(v >= s.lo && v <= s.hi) {
				return false
			}
		}
		c := t.coins[i]
		if kind != "all" && (kind == "tokens") != (c.platform != nil) {
			return false
		}
		return tag == "all" || slices.Contains(c.tags(), tag)
	}
}

var filterable = map[string]func(q *market.Quote) market.Decimal{
	"price":              func(q *market.Quote) market.Decimal { return q.Price },
	"market_cap":         func(q *market.Quote) market.Decimal { return q.MarketCap },
	"volume_24h":         func(q *market.Quote) market.Decimal { return q.Volume24h },
	"circulating_supply": func(q *market.Quote) market.Decimal { return q.CirculatingSupply },
	"percent_change_24h": func(q *market.Quote) market.Decimal { return q.PercentChange24h },
}

func floatOr(text string, missing float64) float64 {
	if text == "" {
		return missing
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return missing
	}
	return f
}

// sort orders rows, which come in the order of rank. Numbers and dates fall by
// default, names rise; nulls are last either way; ties keep the order of rank.
func (t *table) sort(rows []int32, by, dir string) {
	switch by {
	case "market_cap": // CoinMarketCap's default is its rank, not the cap
		if dir == "asc" {
			slices.Reverse(rows)
		}
		return
	case "name", "symbol":
		t.sortText(rows, dir == "desc", func(c *coin) string {
			if by == "name" {
				return strings.ToLower(c.info.Name)
			}
			return strings.ToLower(c.info.Symbol)
		})
		return
	case "date_added":
		t.sortText(rows, dir != "asc", func(c *coin) string { return c.added })
		return
	}
	value := t.sortValue(by)
	sign := -1
	if dir == "asc" {
		sign = 1
	}
	slices.SortStableFunc(rows, func(a, b int32) int {
		va, vb := value(a), value(b)
		if math.IsNaN(va) || math.IsNaN(vb) {
			return cmp.Compare(boolInt(math.IsNaN(va)), boolInt(math.IsNaN(vb)))
		}
		return sign * cmp.Compare(va, vb)
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *table) sortText(rows []int32, falling bool, key func(*coin) string) {
	slices.SortStableFunc(rows, func(a, b int32) int {
		c := cmp.Compare(key(t.coins[a]), key(t.coins[b]))
		if falling {
			return -c
		}
		return c
	})
}

// sortValue returns the number that a listing is sorted by. Volumes of 7 and
// 30 days are in proportion to that of a day.
func (t *table) sortValue(by string) func(i int32) float64 {
	of := map[string]func(q *market.Quote) market.Decimal{
		"market_cap_strict":  func(q *market.Quote) market.Decimal { return q.MarketCap },
		"price":              func(q *market.Quote) market.Decimal { return q.Price },
		"circulating_supply": func(q *market.Quote) market.Decimal { return q.CirculatingSupply },
		"total_supply":       func(q *market.Quote) market.Decimal { return q.TotalSupply },
		"max_supply":         func(q *market.Quote) market.Decimal { return q.MaxSupply },
		"volume_24h":         func(q *market.Quote) market.Decimal { return q.Volume24h },
		"volume_7d":          func(q *market.Quote) market.Decimal { return q.Volume24h },
		"volume_30d":         func(q *market.Quote) market.Decimal { return q.Volume24h },
		"percent_change_1h":  func(q *market.Quote) market.Decimal { return q.PercentChange1h },
		"percent_change_24h": func(q *market.Quote) market.Decimal { return q.PercentChange24h },
		"percent_change_7d":  func(q *market.Quote) market.Decimal { return q.PercentChange7d },
	}[by]
	switch {
	case of != nil:
		return func(i int32) float64 { return of(&t.quotes[i]).Float() }
	case by == "num_market_pairs":
		return func(i int32) float64 { return float64(t.coins[i].pairs) }
	}
	return func(i int32) float64 { return t.quotes[i].Price.Float() * t.quotes[i].TotalSupply.Float() }
}

// page cuts start (from 1) and limit out of rows.
func page[T any](rows []T, start, limit int) []T {
	from := min(start-1, len(rows))
	return rows[from:min(from+limit, len(rows))]
}
