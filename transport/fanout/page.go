package fanout

import (
	"sync"
	"sync/atomic"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// form is what a row depends on beside its token: the format, and which values
// of the market it shows.
type form struct {
	format   wire.Format
	rate     wire.Rate
	deadband int // bps; 0 for none
}

// page encodes the rows of one form, once for everybody: at each round of its
// pace those that changed, and whole rows when somebody begins. A page with a
// deadband also decides what its rows show.
type page struct {
	form
	pace   *pace
	kept   bool // in table.pages, else of one channel alone
	refs   int  // channels; guarded by table.mu
	wholes wholes

	mu    sync.Mutex
	all   int                 // channels that want every token
	want  map[market.ID]int32 // channels that want a token, beside these
	leaf  atomic.Pointer[leaf]
	board *market.Board // binary: of the newest leaf; differences are taken from it
}

// leaf is what a page encoded in one round. Immutable.
type leaf struct {
	*round
	from    uint64         // seq of the leaf before: rows hold what changed in (from, seq]
	filled  bool           // the rows are made; the first leaf of a page has none
	rows    []span         // by place in the order; empty where nothing changed or nobody asked
	few     map[int32]span // instead, where few tokens are wanted
	arena   []byte
	stale   []int32 // places of tokens that have become stale
	isStale []bool  // by place; nil where none has
	shown   []shown // by place, where the page has a deadband
	order   *order  // of the rows
	head    wire.Head
}

type span struct{ from, to uint32 }

// shown is what a deadband shows of a token, and since when.
type shown struct {
	snap *market.Snapshot
	at   uint64
}

func newPage(f form, p *pace, c *cache, kept bool) *page {
	return &page{form: f, pace: p, kept: kept, want: make(map[market.ID]int32), wholes: wholes{cache: c, cached: kept}}
}

// add counts a channel of the selection.
func (p *page) add(sel *selection, by int32) (wanted uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted = p.leaf.Load().seq()
	if sel == nil || sel.all {
		p.all += int(by)
		return wanted
	}
	for _, id := range sel.ids {
		if p.want[id] += by; p.want[id] == 0 {
			delete(p.want, id)
		}
	}
	return wanted
}

// newest returns the rows of the pace's newest round. Whoever comes first in a
// round does the work.
func (p *page) newest() *leaf {
	if l := p.leaf.Load(); l != nil && l.seq() >= p.pace.cur.Load().seq() {
		return l
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r, last := p.pace.cur.Load(), p.leaf.Load()
	if last != nil && last.seq() >= r.seq() {
		return last
	}
	l := p.build(r, last)
	p.leaf.Store(l)
	return l
}

// build encodes what changed since the last leaf; mu is held.
func (p *page) build(r *round, last *leaf) *leaf {
	l := &leaf{round: r, from: r.seq(), order: r.order()}
	if p.deadband > 0 {
		p.show(l, last)
	}
	if last != nil {
		l.from = last.seq()
		p.fill(l, last)
	}
	l.head = wire.HeadOf(r.board, 0)
	l.head.Encoding = p.format.Encoding
	if p.stepwise() && p.deadband == 0 {
		p.board = r.board
	}
	return l
}

// fewWants is below which part of the market a page walks what is wanted instead
// of everything.
const fewWants = 32

// fill encodes the changed rows that somebody wants.
func (p *page) fill(l, last *leaf) {
	o := l.order
	l.filled = true
	if last.arena != nil {
		l.arena = make([]byte, 0, len(last.arena)+len(last.arena)/8)
	}
	if p.all == 0 && len(p.want) < len(o.ids)/fewWants {
		l.few = make(map[int32]span, len(p.want))
		for id := range p.want {
			if i := o.find(id); i >= 0 {
				p.fillRow(l, last, i)
			}
		}
		return
	}
	l.rows = make([]span, len(o.ids))
	for i, id := range o.ids {
		if p.all > 0 || p.want[id] > 0 {
			p.fillRow(l, last, i)
		}
	}
}

func (p *page) fillRow(l, last *leaf, i int) {
	s, mask, old := p.changed(l, last, i)
	if mask == 0 {
		return
	}
	if mask.Has(market.FieldFreshness) && s.Freshness() == market.Stale {
		l.tellStale(i)
	}
	at := span{from: uint32(len(l.arena))}
	l.arena = p.encode(l.arena, l.board.Source, s, old, mask)
	at.to = uint32(len(l.arena))
	if l.few != nil {
		l.few[int32(i)] = at
	} else {
		l.rows[i] = at
	}
}

// tellStale notes that the i-th token has become stale.
func (l *leaf) tellStale(i int) {
	if l.isStale == nil {
		l.isStale = make([]bool, len(l.order.ids))
	}
	l.stale, l.isStale[i] = append(l.stale, int32(i)), true
}

// changed returns the i-th token with the fields that are not as the last leaf
// shows them, and what that shows: nil where a client has no such row.
func (p *page) changed(l, last *leaf, i int) (s *market.Snapshot, mask market.Mask, old *market.Snapshot) {
	if p.deadband > 0 {
		now := l.shown[i]
		if now.snap == nil || now.at <= last.seq() {
			return nil, 0, nil
		}
		if old = last.shownAt(l.order, i).snap; old == nil || now.snap.VersionBase() >= old.Seq {
			return now.snap, market.AllFields, nil
		}
		return now.snap, now.snap.ChangedSince(old.Seq), old
	}
	s = l.token(i)
	if mask = changedSince(s, last.seq()); mask == 0 || mask == market.AllFields || p.board == nil {
		return s, mask, nil
	}
	old = l.order.token(p.board, i)
	if old != nil && !p.binary() {
		mask = wire.Differing(s, old, mask, &p.format)
	}
	return s, mask, old
}

// encode appends the body of a row: differences from old, absolute where old is
// nil, which is for absolute messages and for whole rows.
func (p *page) encode(dst []byte, source market.Source, s, old *market.Snapshot, mask market.Mask) []byte {
	if p.binary() {
		return wire.AppendBinary(dst, s, old, mask, &p.format, source)
	}
	return wire.AppendRow(dst, s, mask, &p.format, source)
}

// row returns the changed row of the i-th token, empty where there is none.
func (l *leaf) row(i int) []byte {
	at := l.place(i)
	return l.arena[at.from:at.to]
}

// place returns where the changed row of the i-th token is.
func (l *leaf) place(i int) span {
	switch {
	case l.rows != nil:
		return l.rows[i]
	case l.few != nil:
		return l.few[int32(i)]
	}
	return span{}
}

// token returns what the leaf shows of the i-th token, or nil.
func (l *leaf) token(i int) *market.Snapshot {
	if l.shown != nil {
		return l.shown[i].snap
	}
	return l.order.token(l.board, i)
}

// binary reports whether rows may be differences.
func (p *page) binary() bool { return p.format.Encoding == wire.EncodingBinary }

// stepwise reports whether the rows of a leaf say only what is different from the
// leaf before as it was shown: a client must have had exactly that. Binary rows
// are differences, and compact digits leave out what looks the same.
func (p *page) stepwise() bool { return p.binary() || p.format.Digits == wire.DigitsCompact }

// row appends the whole row of the i-th token, or what of it is newer than since.
func (p *page) row(dst []byte, l *leaf, i int, whole bool, since uint64) []byte {
	if whole {
		return p.whole(dst, l.board.Source, l.order, i, l.token(i))
	}
	return p.since(dst, l, i, since)
}

// since appends the i-th token with the fields that are newer than a client's
// position, absolute; nothing where it has them all.
func (p *page) since(dst []byte, l *leaf, i int, since uint64) []byte {
	s := l.token(i)
	if s == nil {
		return dst
	}
	if l.shown != nil { // which of the values before it the client saw is not known
		if l.shown[i].at <= since {
			return dst
		}
		return p.encode(dst, l.board.Source, s, nil, market.AllFields)
	}
	mask := changedSince(s, since)
	if mask == 0 {
		return dst
	}
	return p.encode(dst, l.board.Source, s, nil, mask)
}
