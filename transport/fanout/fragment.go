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

// fragment holds the two rows of a token that are asked for again and again:
// the whole one, and what is newer than the round before.
type fragment struct{ whole, changed row }

type row struct {
	seq    uint64 // of the snapshot: keeping a pointer would keep it alive
	since  uint64
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

// whole appends the row with every field.
func (f *fragments) whole(dst []byte, s *market.Snapshot, source market.Source) []byte {
	if f.rows == nil {
		return wire.AppendRow(dst, s, market.AllFields, &f.format, source)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.of(s.ID).whole
	if r.seq != s.Seq || r.source != source {
		r.seq, r.source = s.Seq, source
		r.bytes = wire.AppendRow(r.bytes[:0], s, market.AllFields, &f.format, source)
	}
	return append(dst, r.bytes...)
}

// changed appends the row with the fields that are newer than since; nothing
// where the format has none of them. Connections that keep up all ask for the
// same since, so the versions are looked through once.
func (f *fragments) changed(dst []byte, s *market.Snapshot, since uint64, source market.Source) []byte {
	if s.Seq <= since {
		return dst
	}
	if f.rows == nil {
		return wire.AppendRow(dst, s, s.ChangedSince(since), &f.format, source)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.of(s.ID).changed
	if r.seq != s.Seq || r.since != since || r.source != source {
		r.seq, r.since, r.source = s.Seq, since, source
		r.bytes = wire.AppendRow(r.bytes[:0], s, s.ChangedSince(since), &f.format, source)
	}
	return append(dst, r.bytes...)
}

// of returns the token's fragment; mu is held.
func (f *fragments) of(id market.ID) *fragment {
	fr := f.rows[id]
	if fr == nil {
		fr = new(fragment)
		f.rows[id] = fr
	}
	return fr
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
