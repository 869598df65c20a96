package rest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// entry is one encoded answer. Bodies are immutable: they are handed to the
// server without copying, and may outlive the entry's place in the cache.
type entry struct {
	key     string
	epoch   string
	seq     uint64
	asOf    market.Time // newest value on the board, for the Age header
	built   time.Time   // wall clock
	etag    []byte
	media   media
	link    []byte // Link header; nil where there is no next page
	raw     []byte
	packed  [numCompressed]atomic.Pointer[[]byte]
	packing sync.Mutex

	// The cache's own, under its lock.
	size       int
	prev, next *entry
	aliases    []string
	// touched gives an entry a second chance; set without the lock.
	touched atomic.Bool
}

// lifetime is how long a body may be served within one tick.
const lifetime = time.Second

// current reports whether the entry may still answer for the board.
func (e *entry) current(b *market.Board, wall time.Time) bool {
	return e.seq == b.Seq && e.epoch == b.Epoch && wall.Sub(e.built) < lifetime
}

// body returns the answer in the coding or, where that is not worth it, raw;
// used says which. The first user of a coding pays for it. grew is the memory
// that this call added, in bytes.
func (e *entry) body(c coding) (body []byte, used coding, grew int) {
	if c >= numCompressed || len(e.raw) <= minCompress {
		return e.raw, identity, 0
	}
	p := e.packed[c].Load()
	if p == nil {
		p, grew = e.pack(c)
	}
	if len(*p) >= len(e.raw) {
		return e.raw, identity, grew
	}
	return *p, c, grew
}

func (e *entry) pack(c coding) (p *[]byte, grew int) {
	e.packing.Lock()
	defer e.packing.Unlock()
	if p := e.packed[c].Load(); p != nil {
		return p, 0
	}
	packed := compress(e.raw, c)
	e.packed[c].Store(&packed)
	return &packed, cap(packed)
}

// entryOverhead estimates what an entry costs beside its bytes.
const entryOverhead = 512

func (e *entry) cost() int {
	n := entryOverhead + len(e.key) + cap(e.raw) + len(e.link) + len(e.etag)
	for c := range e.packed {
		if p := e.packed[c].Load(); p != nil {
			n += cap(*p)
		}
	}
	return n
}
