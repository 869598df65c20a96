package fanout

import (
	"sync"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// fragments are the rows of one format, encoded once and copied by whoever
// needs them. A row is a function of (snapshot, mask, source), so a fragment is
// good for as long as its snapshot is current. All formats together keep at most
// Config.Cache bytes; what is above is encoded again for each who needs it.
type fragments struct {
	format wire.Format
	refs   int // channels; guarded by table.mu

	cached bool
	cache  *cache
	mu     sync.Mutex
	size   int64       // bytes of rows, counted in cache
	text   []byte      // the row that is being encoded
	order  *order      // what rows stand in; the newest that was asked for
	rows   []*fragment // nil where nothing was encoded yet
}

// fragment holds the two rows of a token that are asked for again and again:
// the whole one, and what is newer than the round before.
type fragment struct{ whole, changed row }

// fragmentSize is what a fragment takes beside its bytes.
const fragmentSize = 128

type row struct {
	round  uint64 // seq of the newest round that it is good for: there nobody need look at the snapshot
	seq    uint64 // of the snapshot: keeping a pointer would keep it alive
	since  uint64
	source market.Source
	bytes  []byte
}

// cache is the room that the fragments of all formats share.
type cache struct {
	used atomic.Int64
	most int64
}

func newFragments(f wire.Format, c *cache, cached bool) *fragments {
	return &fragments{format: f, cached: cached, cache: c}
}

// whole appends the i-th token of the round with every field.
func (f *fragments) whole(dst []byte, at *round, i int) []byte {
	if !f.cached {
		return f.encode(dst, at, at.token(i), market.AllFields)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fr := f.of(at.order(), i)
	if fr == nil {
		return f.encode(dst, at, at.token(i), market.AllFields)
	}
	r := &fr.whole
	if r.round != at.seq() {
		if s := at.token(i); s == nil || r.seq != s.Seq || r.source != at.board.Source {
			if !f.put(r, at, s, market.AllFields) {
				return append(dst, f.text...)
			}
		}
		r.round = at.seq()
	}
	return append(dst, r.bytes...)
}

// changed appends the i-th token with the fields that are newer than since;
// nothing where the format has none of them. Connections that keep up all ask
// for the same since, so the versions are looked through once.
func (f *fragments) changed(dst []byte, at *round, i int, since uint64) []byte {
	if !f.cached {
		s := at.token(i)
		return f.encode(dst, at, s, changedSince(s, since))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fr := f.of(at.order(), i)
	if fr == nil {
		s := at.token(i)
		return f.encode(dst, at, s, changedSince(s, since))
	}
	r := &fr.changed
	if r.round != at.seq() || r.since != since {
		s := at.token(i)
		if s == nil || r.seq != s.Seq || r.since != since || r.source != at.board.Source {
			if !f.put(r, at, s, changedSince(s, since)) {
				return append(dst, f.text...)
			}
		}
		r.round, r.since = at.seq(), since
	}
	return append(dst, r.bytes...)
}

func changedSince(s *market.Snapshot, since uint64) market.Mask {
	if s == nil || s.Seq <= since {
		return 0
	}
	return s.ChangedSince(since)
}

// encode appends a row; nothing where there is no token or no field.
func (f *fragments) encode(dst []byte, at *round, s *market.Snapshot, mask market.Mask) []byte {
	if s == nil || mask == 0 {
		return dst
	}
	return wire.AppendRow(dst, s, mask, &f.format, at.board.Source)
}

// put encodes a row into text and keeps it where there is room; mu is held.
func (f *fragments) put(r *row, at *round, s *market.Snapshot, mask market.Mask) bool {
	f.text = f.encode(f.text[:0], at, s, mask)
	if more := int64(len(f.text) - cap(r.bytes)); more > 0 {
		if f.cache.used.Add(more) > f.cache.most {
			f.cache.used.Add(-more)
			*r = row{bytes: r.bytes}
			return false
		}
		f.size += more
		r.bytes = make([]byte, 0, len(f.text))
	}
	r.bytes = append(r.bytes[:0], f.text...)
	r.seq, r.source = 0, at.board.Source
	if s != nil {
		r.seq = s.Seq
	}
	return true
}

// release gives the room back once nobody uses the format.
func (f *fragments) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free(f.size)
	f.order, f.rows = nil, nil
}

// free notes that bytes are no longer kept; mu is held.
func (f *fragments) free(n int64) {
	f.size -= n
	f.cache.used.Add(-n)
}

// of returns the i-th token's fragment, or nil for an order of the past and where
// there is no room; mu is held.
func (f *fragments) of(o *order, i int) *fragment {
	if f.order != o {
		if f.order != nil && o.seq < f.order.seq {
			return nil
		}
		f.move(o)
	}
	if f.rows[i] == nil {
		if f.cache.used.Add(fragmentSize) > f.cache.most {
			f.cache.used.Add(-fragmentSize)
			return nil
		}
		f.size += fragmentSize
		f.rows[i] = new(fragment)
	}
	return f.rows[i]
}

// move takes the fragments over into a newer order; those of tokens that are
// gone are dropped.
func (f *fragments) move(o *order) {
	rows := make([]*fragment, len(o.ids))
	if f.order != nil {
		i := 0
		for j, id := range f.order.ids {
			for i < len(o.ids) && o.ids[i] < id {
				i++
			}
			switch fr := f.rows[j]; {
			case i < len(o.ids) && o.ids[i] == id:
				rows[i] = fr
			case fr != nil:
				f.free(fragmentSize + int64(cap(fr.whole.bytes)+cap(fr.changed.bytes)))
			}
		}
	}
	f.order, f.rows = o, rows
}
