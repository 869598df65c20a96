package fanout

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// round is one step of the fan-out: the market after one tick, or after several
// that arrived while the step before was still running. Immutable but for what
// is derived lazily.
type round struct {
	board *market.Board
	from  uint64       // seq of the round before
	tick  *market.Tick // the one tick between them; nil where several were merged

	orderOnce sync.Once
	tokens    atomic.Pointer[order]

	symbolOnce sync.Once
	symbols    map[string][]*market.Snapshot
}

func (r *round) seq() uint64 { return r.board.Seq }

// order returns the tokens by id.
func (r *round) order() *order {
	if o := r.tokens.Load(); o != nil {
		return o
	}
	r.orderOnce.Do(func() { r.tokens.Store(newOrder(r.board)) })
	return r.tokens.Load()
}

// inherit takes the order of an earlier round where it has one that still holds.
func (r *round) inherit(last *round) {
	if o := last.tokens.Load(); o != nil && sameTokens(last.board, r.board) {
		r.tokens.Store(o)
	}
}

// bySymbol returns the tokens of a symbol, best rank first.
func (r *round) bySymbol(symbol string) []*market.Snapshot {
	r.symbolOnce.Do(func() {
		r.symbols = make(map[string][]*market.Snapshot, r.board.Len())
		for i := range r.order().ids {
			if s := r.token(i); s != nil && s.Info != nil {
				key := strings.ToLower(s.Info.Symbol)
				r.symbols[key] = append(r.symbols[key], s)
			}
		}
		for _, list := range r.symbols {
			slices.SortStableFunc(list, func(a, b *market.Snapshot) int { return cmp.Compare(rank(a), rank(b)) })
		}
	})
	return r.symbols[strings.ToLower(symbol)]
}

func rank(s *market.Snapshot) int64 {
	if v := s.Value(market.FieldRank); !v.IsNull() && v.Mant > 0 {
		return int64(v.Float())
	}
	return math.MaxInt64
}

// token returns the i-th token of the round's order, or nil.
func (r *round) token(i int) *market.Snapshot { return r.order().token(r.board, i) }

// removed returns the tokens of the selection whose tombstone is newer than
// since and that have not come back. A token that came back is in the rows, whole.
func (r *round) removed(sel *selection, since uint64) (dst []market.ID) {
	tombs := r.board.Tombstones
	for i := len(tombs) - 1; i >= 0 && tombs[i].Seq > since; i-- {
		if id := tombs[i].ID; sel.has(id) && r.board.Token(id) == nil {
			dst = append(dst, id)
		}
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

func (r *round) head(ch uint64) wire.Head { return wire.HeadOf(r.board, ch) }

// selection is a set of tokens: all, or a sorted list. Shared, and immutable but
// for where the list was found last.
type selection struct {
	all   bool
	ids   []market.ID
	found atomic.Pointer[located]
}

func (s *selection) has(id market.ID) bool {
	if s.all {
		return true
	}
	_, ok := slices.BinarySearch(s.ids, id)
	return ok
}

// find returns where the list is in an order.
func (s *selection) find(o *order) *located {
	l := s.found.Load()
	if l != nil && l.order == o {
		return l
	}
	fresh := o.locate(s.ids)
	if l == nil || l.order.seq < o.seq { // a round that a slow reader keeps is not the rule
		s.found.Store(fresh)
	}
	return fresh
}

// each calls fn with the places in the round's order of the selected tokens
// whose id is at least from, until fn returns false.
func (s *selection) each(r *round, from market.ID, fn func(i int) bool) {
	o := r.order()
	if s.all {
		i, _ := slices.BinarySearch(o.ids, from)
		for ; i < len(o.ids) && fn(i); i++ {
		}
		return
	}
	start, _ := slices.BinarySearch(s.ids, from)
	for _, i := range s.find(o).at[start:] {
		if i >= 0 && !fn(int(i)) {
			return
		}
	}
}
