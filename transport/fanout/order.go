package fanout

import (
	"cmp"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// order is the tokens of a board by id and where they stand on it. Rounds share
// it until a token comes or goes, so that nobody sorts or looks up what has not
// moved. Immutable.
type order struct {
	seq    uint64 // of the board that it was made of
	ids    []market.ID
	places []place
}

// place is where a snapshot was on the order's board. Another board may hold
// another token there: the id tells.
type place struct{ shard, pos int32 }

func newOrder(b *market.Board) *order {
	type entry struct {
		id market.ID
		at place
	}
	list := make([]entry, 0, b.Len())
	for i, shard := range b.Shards {
		for j, s := range shard {
			list = append(list, entry{s.ID, place{int32(i), int32(j)}})
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	o := &order{seq: b.Seq, ids: make([]market.ID, len(list)), places: make([]place, len(list))}
	for i, e := range list {
		o.ids[i], o.places[i] = e.id, e.at
	}
	return o
}

// token returns the board's snapshot of the i-th token, or nil.
func (o *order) token(b *market.Board, i int) *market.Snapshot {
	at := o.places[i]
	if int(at.shard) < len(b.Shards) && int(at.pos) < len(b.Shards[at.shard]) {
		if s := b.Shards[at.shard][at.pos]; s.ID == o.ids[i] {
			return s
		}
	}
	return b.Token(o.ids[i])
}

// sameTokens reports whether a later board holds the tokens that an earlier one
// held: none was retired since, unless it is back, and no shard has grown.
func sameTokens(earlier, later *market.Board) bool {
	if n := len(later.Tombstones); n > 0 && later.Tombstones[n-1].Seq > earlier.Seq {
		return false
	}
	return earlier.Epoch == later.Epoch && slices.EqualFunc(earlier.Shards, later.Shards,
		func(a, b []*market.Snapshot) bool { return len(a) == len(b) })
}

// located is a list of tokens found in an order.
type located struct {
	order *order
	at    []int32 // one for each id; −1 where the board has no such token
}

func (o *order) locate(ids []market.ID) *located {
	l := &located{order: o, at: make([]int32, len(ids))}
	from := 0
	for i, id := range ids {
		n, ok := slices.BinarySearch(o.ids[from:], id)
		if from += n; ok {
			l.at[i] = int32(from)
		} else {
			l.at[i] = -1
		}
	}
	return l
}

// find returns the place of a token, −1 where there is none.
func (o *order) find(id market.ID) int {
	if i, ok := slices.BinarySearch(o.ids, id); ok {
		return i
	}
	return -1
}
