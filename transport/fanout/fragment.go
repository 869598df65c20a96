package fanout

import (
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// fragments are the rows of one format, encoded once and copied by whoever
// needs them. A row is a function of (snapshot, mask, source), so a fragment is
// good for as long as its snapshot is current. Bounded by the number of tokens.
type fragments struct {
	format wire.Format
	refs   int // channels; guarded by table.mu

	mu   sync.Mutex
	rows map[market.ID]*fragment // nil: not cached
}

// fragment holds the two rows of a token that are asked for again and again.
type fragment struct{ whole, changed row }

type row struct {
	seq    uint64 // of the snapshot: keeping a pointer would keep it alive
	mask   market.Mask
	source market.Source
	bytes  []byte
}

func newFragments(f wire.Format, cached bool) *fragments {
	fr := &fragments{format: f}
	if cached {
		fr.rows = make(map[market.ID]*fragment)
	}
	return fr
}

// append appends a row; nothing where the format has none of the mask's fields.
func (f *fragments) append(dst []byte, s *market.Snapshot, mask market.Mask, source market.Source) []byte {
	mask &= f.format.Fields | market.FieldSource.Bit()
	if f.rows == nil || mask == 0 {
		return wire.AppendRow(dst, s, mask, &f.format, source)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fr := f.rows[s.ID]
	if fr == nil {
		fr = new(fragment)
		f.rows[s.ID] = fr
	}
	r := &fr.changed
	if mask&f.format.Fields == f.format.Fields {
		r = &fr.whole
	}
	if r.seq != s.Seq || r.mask != mask || r.source != source {
		r.seq, r.mask, r.source = s.Seq, mask, source
		r.bytes = wire.AppendRow(r.bytes[:0], s, mask, &f.format, source)
	}
	return append(dst, r.bytes...)
}

// forget drops the fragments of tokens that are gone from the board.
func (f *fragments) forget(b *market.Board) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.rows {
		if b.Token(id) == nil {
			delete(f.rows, id)
		}
	}
}
