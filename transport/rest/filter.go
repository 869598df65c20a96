package rest

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// filtered reports whether the query leaves any token out.
func (q *listQuery) filtered() bool {
	open := bounds{market.Null, market.Null}
	return q.cap != open || q.volume != open || q.velocity != open || q.classes != 0 || q.ids != nil ||
		q.symbols != nil || q.search != "" || q.flagged != unset
}

// selectFrom returns the page of the query and how many tokens match in all.
func (q *listQuery) selectFrom(sorted []*market.Snapshot) (page []*market.Snapshot, total int) {
	if q.filtered() {
		kept := make([]*market.Snapshot, 0, min(len(sorted), q.limit))
		for _, s := range sorted {
			if q.matches(s) {
				kept = append(kept, s)
			}
		}
		sorted = kept
	}
	first := min(q.start-1, len(sorted))
	return sorted[first:min(first+q.limit, len(sorted))], len(sorted)
}

func (q *listQuery) matches(s *market.Snapshot) bool {
	if !q.cap.holds(s.Value(market.FieldMarketCap)) || !q.volume.holds(s.Value(market.FieldVolume24h)) ||
		!q.velocity.holds(s.Value(market.FieldVelocity)) {
		return false
	}
	if q.classes != 0 && q.classes>>classOf(s.Value(market.FieldMarketCap))&1 == 0 {
		return false
	}
	if q.flagged != unset && (q.flagged == yes) != (s.Flags()&^market.FlagSimulated != 0) {
		return false
	}
	return q.named(s)
}

// named applies ids, symbols and search.
func (q *listQuery) named(s *market.Snapshot) bool {
	if q.ids != nil {
		if _, ok := slices.BinarySearch(q.ids, s.ID); !ok {
			return false
		}
	}
	info := infoOf(s)
	if q.symbols != nil {
		if _, ok := slices.BinarySearch(q.symbols, strings.ToUpper(info.Symbol)); !ok {
			return false
		}
	}
	return q.search == "" || containsFold(info.Symbol, q.search) || containsFold(info.Name, q.search) || containsFold(info.Slug, q.search)
}

// holds reports whether d lies in the range; null lies only in an open one.
func (b bounds) holds(d market.Decimal) bool {
	if !b.min.IsNull() && (d.IsNull() || d.Cmp(b.min) < 0) {
		return false
	}
	return b.max.IsNull() || !d.IsNull() && d.Cmp(b.max) <= 0
}

// containsFold reports whether s contains sub, which is lower case, in any case.
func containsFold(s, sub string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strings.Contains(strings.ToLower(s), sub)
		}
	}
	for i := 0; i+len(sub) <= len(s); i++ {
		if hasPrefixFold(s[i:], sub) {
			return true
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// absent returns, as JSON texts, the asked ids and symbols that no token bears.
func (q *listQuery) absent(b *market.Board) []string {
	var out []string
	for _, id := range q.ids {
		if b.Token(id) == nil {
			out = append(out, market.FromInt(int64(id)).String())
		}
	}
	if q.symbols == nil {
		return out
	}
	known := make(map[string]bool, len(q.symbols))
	for s := range b.All {
		symbol := strings.ToUpper(infoOf(s).Symbol)
		if _, ok := slices.BinarySearch(q.symbols, symbol); ok {
			known[symbol] = true
		}
	}
	for _, symbol := range q.symbols {
		if !known[symbol] {
			out = append(out, string(appendString(nil, symbol)))
		}
	}
	return out
}
