package rest

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// sortKey is a value of ?sort=.
type sortKey uint8

const (
	sortMarketCap sortKey = iota
	sortVolume
	sortVelocity
	sortPrice
	sortRank
	sortSymbol
	sortPercent1h
	sortPercent24h
	sortPercent7d
	sortChange1h // five periods follow one another
	sortChange4h
	sortChange12h
	sortChange24h
	sortChange7d
	numSorts
)

var sortNames = []string{
	"market_cap", "volume_24h", "velocity", "price", "rank", "symbol", "percent_change_1h", "percent_change_24h",
	"percent_change_7d", "velocity_change_1h", "velocity_change_4h", "velocity_change_12h", "velocity_change_24h", "velocity_change_7d",
}

var orderNames = []string{"asc", "desc"}

const (
	ascending = iota
	descending
)

var sortFields = [numSorts]market.Field{
	market.FieldMarketCap, market.FieldVolume24h, market.FieldVelocity, market.FieldPrice, market.FieldRank, market.FieldSymbol,
	market.FieldPercentChange1h, market.FieldPercentChange24h, market.FieldPercentChange7d,
	market.FieldChange1h, market.FieldChange4h, market.FieldChange12h, market.FieldChange24h, market.FieldChange7d,
}

// natural is the order that a key has when none is asked for: biggest first,
// but rank 1 and the letter A first.
func (k sortKey) natural() int {
	if k == sortRank || k == sortSymbol {
		return ascending
	}
	return descending
}

// orders holds the tokens of one board sorted by each key and order that was
// asked for, each sorted once. It is bounded by the number of keys and dies
// with its board.
type orders struct {
	board *market.Board
	lists [numSorts][2]struct {
		once   sync.Once
		tokens []*market.Snapshot
	}
}

// sorted returns the tokens: excluded ones after all others, nulls last within
// both, ties by id. The slice is shared and must not be written to.
func (o *orders) sorted(key sortKey, order int) []*market.Snapshot {
	l := &o.lists[key][order]
	l.once.Do(func() { l.tokens = sortBoard(o.board, key, order) })
	return l.tokens
}

// ranked is a token with what it is sorted by.
type ranked struct {
	class uint8 // 0 value, 1 null, 2 excluded with a value, 3 excluded with null
	value float64
	text  string
	exact market.Decimal
	snap  *market.Snapshot
}

func sortBoard(b *market.Board, key sortKey, order int) []*market.Snapshot {
	rows := make([]ranked, 0, b.Len())
	for s := range b.All {
		rows = append(rows, rank(s, key))
	}
	sign := 1
	if order == descending {
		sign = -1
	}
	slices.SortFunc(rows, func(a, b ranked) int { return compareRanked(&a, &b, sign) })
	tokens := make([]*market.Snapshot, len(rows))
	for i := range rows {
		tokens[i] = rows[i].snap
	}
	return tokens
}

func rank(s *market.Snapshot, key sortKey) ranked {
	r := ranked{snap: s}
	switch key {
	case sortSymbol:
		r.text = strings.ToUpper(infoOf(s).Symbol)
		if r.text == "" {
			r.class = 1
		}
	case sortRank:
		r.exact = rankOf(s)
	default:
		r.exact = s.Value(sortFields[key])
	}
	if r.exact.IsNull() {
		r.class, r.exact = 1, market.Decimal{}
	}
	r.value = r.exact.Float()
	if s.Flags().Excluded() {
		r.class += 2
	}
	return r
}

// compareRanked compares by float64 first and exactly only where those tie.
func compareRanked(a, b *ranked, sign int) int {
	if a.class != b.class {
		return cmp.Compare(a.class, b.class)
	}
	c := cmp.Compare(a.value, b.value)
	if c == 0 {
		c = a.exact.Cmp(b.exact)
	}
	if c == 0 {
		c = strings.Compare(a.text, b.text)
	}
	if c != 0 {
		return sign * c
	}
	return cmp.Compare(a.snap.ID, b.snap.ID)
}

// finite keeps a float out of JSON where it is no number.
func finite(f float64, digits int) market.Decimal {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return market.Null
	}
	return market.Significant(f, digits)
}
