package fanout

import (
	"sync"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
)

// wholes are the whole rows of one page: those who begin ask for the same ones
// again and again. A row is a function of (snapshot, source), so it is good for
// as long as its snapshot is current. All pages together keep at most
// Config.Cache bytes; what is above is encoded again for each who needs it.
type wholes struct {
	cached bool
	cache  *cache
	mu     sync.Mutex
	size   int64 // bytes of rows, counted in cache
	text   []byte
	order  *order   // what rows stand in; the newest that was asked for
	rows   []*whole // nil where nothing was encoded yet
}

type whole struct {
	seq    uint64 // of the snapshot: keeping a pointer would keep it alive
	source market.Source
	bytes  []byte
}

// wholeSize is what a row takes beside its bytes.
const wholeSize = 64

// cache is the room that the whole rows of all pages share.
type cache struct {
	used atomic.Int64
	most int64
}

// whole appends the row of the i-th token of an order with every field; nothing
// where there is no token.
func (p *page) whole(dst []byte, source market.Source, o *order, i int, s *market.Snapshot) []byte {
	if s == nil {
		return dst
	}
	w := &p.wholes
	if !w.cached {
		return p.encode(dst, source, s, nil, market.AllFields)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.of(o, i)
	if r == nil {
		return p.encode(dst, source, s, nil, market.AllFields)
	}
	if r.seq != s.Seq || r.source != source {
		w.text = p.encode(w.text[:0], source, s, nil, market.AllFields)
		if !w.put(r, s.Seq, source) {
			return append(dst, w.text...)
		}
	}
	return append(dst, r.bytes...)
}

// put keeps the text where there is room; mu is held.
func (w *wholes) put(r *whole, seq uint64, source market.Source) bool {
	if more := int64(len(w.text) - cap(r.bytes)); more > 0 {
		if w.cache.used.Add(more) > w.cache.most {
			w.cache.used.Add(-more)
			r.seq = 0
			return false
		}
		w.size += more
		r.bytes = make([]byte, 0, len(w.text))
	}
	r.bytes = append(r.bytes[:0], w.text...)
	r.seq, r.source = seq, source
	return true
}

// of returns the i-th token's row, or nil for an order of the past and where
// there is no room; mu is held.
func (w *wholes) of(o *order, i int) *whole {
	if w.order != o {
		if w.order != nil && o.seq < w.order.seq {
			return nil
		}
		w.move(o)
	}
	if w.rows[i] == nil {
		if w.cache.used.Add(wholeSize) > w.cache.most {
			w.cache.used.Add(-wholeSize)
			return nil
		}
		w.size += wholeSize
		w.rows[i] = new(whole)
	}
	return w.rows[i]
}

// move takes the rows over into a newer order; those of tokens that are gone
// are dropped.
func (w *wholes) move(o *order) {
	rows := make([]*whole, len(o.ids))
	if w.order != nil {
		i := 0
		for j, id := range w.order.ids {
			for i < len(o.ids) && o.ids[i] < id {
				i++
			}
			switch r := w.rows[j]; {
			case i < len(o.ids) && o.ids[i] == id:
				rows[i] = r
			case r != nil:
				w.free(wholeSize + int64(cap(r.bytes)))
			}
		}
	}
	w.order, w.rows = o, rows
}

// release gives the room back once nobody uses the page.
func (w *wholes) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free(w.size)
	w.order, w.rows = nil, nil
}

// free notes that bytes are no longer kept; mu is held.
func (w *wholes) free(n int64) {
	w.size -= n
	w.cache.used.Add(-n)
}
