package fanout

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
)

// view is a board with what is derived from it when it is first asked for. The
// rounds of all paces share it.
type view struct {
	board *market.Board

	orderOnce sync.Once
	tokens    atomic.Pointer[order]

	symbolOnce sync.Once
	symbols    map[string][]*market.Snapshot

	buriedOnce sync.Once
	graves     map[market.ID]struct{}

	rankMu sync.Mutex
	ranks  map[market.Field][]market.ID
}

// buried reports whether a token was retired not long ago.
func (v *view) buried(id market.ID) bool {
	v.buriedOnce.Do(func() {
		v.graves = make(map[market.ID]struct{}, len(v.board.Tombstones))
		for _, t := range v.board.Tombstones {
			v.graves[t.ID] = struct{}{}
		}
	})
	_, ok := v.graves[id]
	return ok
}

func (v *view) seq() uint64 { return v.board.Seq }

// order returns the tokens by id.
func (v *view) order() *order {
	if o := v.tokens.Load(); o != nil {
		return o
	}
	v.orderOnce.Do(func() { v.tokens.Store(newOrder(v.board)) })
	return v.tokens.Load()
}

// inherit takes the order of an earlier view where it has one that still holds.
func (v *view) inherit(last *view) {
	if o := last.tokens.Load(); o != nil && sameTokens(last.board, v.board) {
		v.tokens.Store(o)
	}
}

// bySymbol returns the tokens of a symbol, best rank first.
func (v *view) bySymbol(symbol string) []*market.Snapshot {
	v.symbolOnce.Do(func() {
		v.symbols = make(map[string][]*market.Snapshot, v.board.Len())
		for i := range v.order().ids {
			if s := v.token(i); s != nil && s.Info != nil {
				key := strings.ToLower(s.Info.Symbol)
				v.symbols[key] = append(v.symbols[key], s)
			}
		}
		for _, list := range v.symbols {
			slices.SortStableFunc(list, func(a, b *market.Snapshot) int { return cmp.Compare(rank(a), rank(b)) })
		}
	})
	return v.symbols[strings.ToLower(symbol)]
}

func rank(s *market.Snapshot) int64 {
	if v := s.Value(market.FieldRank); !v.IsNull() && v.Mant > 0 {
		return int64(v.Float())
	}
	return math.MaxInt64
}

// token returns the i-th token of the view's order, or nil.
func (v *view) token(i int) *market.Snapshot { return v.order().token(v.board, i) }

// removed returns the tokens of the selection whose tombstone is newer than
// since and that have not come back. A token that came back is in the rows, whole.
func (v *view) removed(sel *selection, since uint64) (dst []market.ID) {
	tombs := v.board.Tombstones
	for i := len(tombs) - 1; i >= 0 && tombs[i].Seq > since; i-- {
		if id := tombs[i].ID; sel.has(id) && v.board.Token(id) == nil {
			dst = append(dst, id)
		}
	}
	slices.Sort(dst)
	return slices.Compact(dst)
}

// round is one step of a pace: the market after one tick, or after several.
// Immutable.
type round struct {
	*view
	from uint64 // seq of the pace's round before
}

// selection is a set of tokens: all, or a sorted list. Shared, and immutable but
// for what was looked up last.
type selection struct {
	all   bool
	ids   []market.ID
	found atomic.Pointer[located]
	mean  atomic.Pointer[mean]
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
	if l == nil || l.order.seq < o.seq { // a view that a slow reader keeps is not the rule
		s.found.Store(fresh)
	}
	return fresh
}

// each calls fn with the places in the order of the selected tokens whose id is
// at least from, until fn returns false.
func (s *selection) each(o *order, from market.ID, fn func(i int) bool) {
	if s.all {
		i, _ := slices.BinarySearch(o.ids, from)
		for ; i < len(o.ids) && fn(i); i++ {
		}
		return
	}
	start := 0
	if from > 0 {
		start, _ = slices.BinarySearch(s.ids, from)
	}
	for _, i := range s.find(o).at[start:] {
		if i >= 0 && !fn(int(i)) {
			return
		}
	}
}

func changedSince(s *market.Snapshot, since uint64) market.Mask {
	if s == nil || s.Seq <= since {
		return 0
	}
	return s.ChangedSince(since)
}
