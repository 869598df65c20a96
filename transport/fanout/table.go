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

// heavy reports whether the channel costs more than copying rows.
func (k *key) heavy() bool { return k.needsChain() || k.deadband > 0 }

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

	open int                    // pages, kept or not
	idle map[*channel]time.Time // of mode every, since when they have no member

	maxShared, maxPages, maxEvery, rings int
}

// pagesPerKept is how many pages there may be for each that is kept.
const pagesPerKept = 16

// entry counts the members of a key.
type entry struct {
	sel    *selection
	refs   int
	shared *channel
}

func newTable(cfg *Config) *table {
	return &table{
		entries: make(map[key]*entry), pages: make(map[form]*page), records: make(map[*channel]struct{}), paces: newPaces(),
		cache: cache{most: int64(cfg.Cache)}, maxShared: cfg.Channels, maxPages: cfg.Formats, maxEvery: cfg.Every, rings: cfg.Rings,
		idle: make(map[*channel]time.Time),
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
	if e.shared == nil && !t.room(&k) {
		return nil
	}
	t.entries[k] = e
	e.refs++
	c := e.shared
	if c == nil {
		c = t.make(k, e, now)
	}
	c.members++
	delete(t.idle, c)
	return c
}

// room reports whether a channel may be made. Whole markets are encoded for kept
// pages only: each takes megabytes.
func (t *table) room(k *key) bool {
	known := t.pages[k.form] != nil
	switch {
	case k.needsChain() && t.shared >= t.maxShared:
		return false
	case k.every && (len(t.records) >= t.maxEvery || k.all && t.wholeRecords() >= max(1, t.maxEvery/everyPerWhole)):
		return false
	case k.all && !k.every && !known && len(t.pages) >= t.maxPages:
		return false
	}
	return known || t.open < t.maxPages*pagesPerKept
}

// everyPerWhole is how many channels of mode every there may be for each that
// takes the whole market.
const everyPerWhole = 8

// wholeRecords counts the channels of mode every for the whole market.
func (t *table) wholeRecords() (n int) {
	for c := range t.records {
		if c.key.all {
			n++
		}
	}
	return n
}

func (t *table) make(k key, e *entry, now time.Time) *channel {
	t.next++
	p := t.page(k.form)
	seq := t.paces[wire.RateTick].cur.Load().seq()
	c := &channel{
		no: t.next, key: k, sel: e.sel, framing: k.framing, style: styleOf(k.framing), page: p, born: seq, seq: seq, through: seq, lastAt: now,
	}
	if k.top.N > 0 {
		c.top = &ranking{Top: k.top}
	} else if !k.every {
		c.wanted = p.add(c.sel, 1)
	}
	// A channel begins where its page is: what changed after that is in its rows.
	l := p.newest()
	c.born, c.seq, c.through = l.seq(), l.seq(), l.seq()
	if c.top != nil {
		c.top.ids, c.top.at = c.top.best(l.view), l.round
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
		t.open++
		p.newest() // what changes next changes from here
		if p.kept {
			t.pages[f] = p
		}
	}
	p.refs++
	return p
}

// linger is how long a channel of mode every goes on without members: who lost
// its connection finds what it missed.
const linger = 30 * time.Second

// leave takes a member off its channel.
func (t *table) leave(c *channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[c.key].refs--
	if c.members--; c.members > 0 {
		return
	}
	if c.key.every && !c.failed() {
		t.idle[c] = time.Now()
		return
	}
	t.close(c)
}

// expire closes channels of mode every that nobody came back to.
func (t *table) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, since := range t.idle {
		if now.Sub(since) >= linger {
			delete(t.idle, c)
			t.close(c)
		}
	}
}

// close gives a channel up that has no members.
func (t *table) close(c *channel) {
	e := t.entries[c.key]
	if e.refs == 0 {
		delete(t.entries, c.key)
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
	t.open--
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
