package fanout

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"

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

	sortOnce sync.Once
	sorted   []*market.Snapshot

	symbolOnce sync.Once
	symbols    map[string][]*market.Snapshot
}

func (r *round) seq() uint64 { return r.board.Seq }

// byID returns every snapshot in the order of ids.
func (r *round) byID() []*market.Snapshot {
	r.sortOnce.Do(func() {
		r.sorted = slices.AppendSeq(make([]*market.Snapshot, 0, r.board.Len()), r.board.All)
		slices.SortFunc(r.sorted, func(a, b *market.Snapshot) int { return cmp.Compare(a.ID, b.ID) })
	})
	return r.sorted
}

// bySymbol returns the tokens of a symbol, best rank first.
func (r *round) bySymbol(symbol string) []*market.Snapshot {
	r.symbolOnce.Do(func() {
		r.symbols = make(map[string][]*market.Snapshot, r.board.Len())
		for _, s := range r.byID() {
			if s.Info != nil {
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

// selection is a set of tokens: all, or a sorted list. Immutable and shared.
type selection struct {
	all bool
	ids []market.ID
}

func (s *selection) has(id market.ID) bool {
	if s.all {
		return true
	}
	_, ok := slices.BinarySearch(s.ids, id)
	return ok
}

// each calls fn with the selected snapshots whose id is at least from, in the
// order of ids, until fn returns false.
func (s *selection) each(r *round, from market.ID, fn func(*market.Snapshot) bool) {
	if s.all {
		list := r.byID()
		i, _ := slices.BinarySearchFunc(list, from, func(s *market.Snapshot, id market.ID) int { return cmp.Compare(s.ID, id) })
		for _, snap := range list[i:] {
			if !fn(snap) {
				return
			}
		}
		return
	}
	i, _ := slices.BinarySearch(s.ids, from)
	for _, id := range s.ids[i:] {
		if snap := r.board.Token(id); snap != nil && !fn(snap) {
			return
		}
	}
}
