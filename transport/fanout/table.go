package fanout

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// key is what makes two subscriptions want the same bytes.
type key struct {
	form
	framing Framing
	every   bool
	top     wire.Top // zero: not ranked
	all     bool
	ids     string // sorted ids, four bytes each
}

func keyOf(f form, fr Framing, sel *selection) key {
	k := key{form: f, framing: fr}
	switch {
	case sel == nil:
	case sel.all:
		k.all = true
	default:
		ids := make([]byte, 0, 4*len(sel.ids))
		for _, id := range sel.ids {
			ids = binary.BigEndian.AppendUint32(ids, uint32(id))
		}
		k.ids = string(ids)
	}
	return k
}

// needsChain reports whether the messages cannot be assembled for one client alone.
func (k *key) needsChain() bool { return k.every || k.top.N > 0 }

// table holds the channels that are in use. A subscription to all tokens is
// shared from its first member on, a token list from its second: lists of one
// connection alone do not use up the shared channels.
type table struct {
	mu        sync.Mutex
	entries   map[key]*entry
	pages     map[form]*page
	records   map[*channel]struct{} // of mode every
	recording atomic.Int32          // their number
	shared    int
	next      uint64

	paces [wire.RateAuto]*pace
	cache cache

	maxShared, maxPages int
}

// entry counts the members of a key.
type entry struct {
	sel    *selection
	refs   int
	shared *channel
}

func newTable(cfg *Config) *table {
	return &table{
		entries: make(map[key]*entry), pages: make(map[form]*page), records: make(map[*channel]struct{}), paces: newPaces(),
		cache: cache{most: int64(cfg.Cache)}, maxShared: cfg.Channels, maxPages: cfg.Formats,
	}
}

// join returns the channel of a new member, which begins at the newest round,
// or nil where it must be a shared one and there are too many. The silence of a
// new channel counts from now.
func (t *table) join(k key, sel *selection, now time.Time) *channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[k]
	if e == nil {
		e = &entry{sel: sel}
	}
	if e.shared == nil && k.needsChain() && t.shared >= t.maxShared {
		return nil
	}
	t.entries[k] = e
	e.refs++
	c := e.shared
	if c == nil {
		c = t.open(k, e, now)
	}
	c.members++
	return c
}

func (t *table) open(k key, e *entry, now time.Time) *channel {
	t.next++
	p := t.page(k.form)
	seq := t.paces[wire.RateTick].cur.Load().seq()
	c := &channel{no: t.next, key: k, sel: e.sel, framing: k.framing, page: p, born: seq, seq: seq, through: seq, lastAt: now}
	if k.top.N > 0 {
		c.top = &ranking{Top: k.top}
	} else if !k.every {
		p.add(c.sel, 1)
	}
	if p.deadband > 0 || c.top != nil { // these begin where their page is
		l := p.newest()
		c.seq, c.through = l.seq(), l.seq()
		if c.top != nil {
			c.top.ids, c.top.at = c.top.best(l.view), l.round
		}
	}
	if k.needsChain() || (k.all || e.refs > 1) && t.shared < t.maxShared {
		c.chained, e.shared = true, c
		t.shared++
	}
	if k.every {
		t.records[c] = struct{}{}
		t.recording.Add(1)
	}
	return c
}

func (t *table) page(f form) *page {
	p := t.pages[f]
	if p == nil {
		at := t.paces[f.rate]
		if at.refs++; at.refs == 1 {
			at.start(t.paces[wire.RateTick].cur.Load())
		}
		p = newPage(f, at, &t.cache, len(t.pages) < t.maxPages)
		p.newest() // what changes next changes from here
		if p.kept {
			t.pages[f] = p
		}
	}
	p.refs++
	return p
}

// leave takes a member off its channel.
func (t *table) leave(c *channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[c.key]
	if e.refs--; e.refs == 0 {
		delete(t.entries, c.key)
	}
	if c.members--; c.members > 0 {
		return
	}
	if c.chained {
		e.shared = nil
		t.shared--
	}
	if c.key.every {
		delete(t.records, c)
		t.recording.Add(-1)
	}
	if c.top == nil && !c.key.every {
		c.page.add(c.sel, -1)
	}
	t.drop(c.page)
}

// drop gives up one use of a page.
func (t *table) drop(p *page) {
	if p.refs--; p.refs > 0 {
		return
	}
	if p.kept {
		delete(t.pages, p.form)
		p.wholes.release()
	}
	if p.pace.refs--; p.pace.refs == 0 {
		p.pace.stop()
	}
}

// recorded returns the channels of mode every.
func (t *table) recorded(dst []*channel) []*channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.records {
		dst = append(dst, c)
	}
	return dst
}

// sharedChannels returns how many channels are shared.
func (t *table) sharedChannels() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shared
}
