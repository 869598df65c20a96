package fanout

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// key is what makes two subscriptions want the same bytes.
type key struct {
	format  wire.Format
	framing Framing
	all     bool
	ids     string // sorted ids, four bytes each
}

func keyOf(f wire.Format, fr Framing, sel *selection) key {
	k := key{format: f, framing: fr, all: sel.all}
	if !sel.all {
		ids := make([]byte, 0, 4*len(sel.ids))
		for _, id := range sel.ids {
			ids = binary.BigEndian.AppendUint32(ids, uint32(id))
		}
		k.ids = string(ids)
	}
	return k
}

// table holds the channels that are in use. A subscription to all tokens is
// shared from its first member on, a token list from its second: lists of one
// connection alone do not use up the shared channels.
type table struct {
	mu      sync.Mutex
	entries map[key]*entry
	formats map[wire.Format]*fragments
	shared  int
	next    uint64

	cache cache

	maxShared, maxFormats int
}

// entry counts the members of a key.
type entry struct {
	sel    *selection
	refs   int
	shared *channel
}

func newTable(cfg *Config) *table {
	return &table{
		entries: make(map[key]*entry), formats: make(map[wire.Format]*fragments),
		cache: cache{most: int64(cfg.Cache)}, maxShared: cfg.Channels, maxFormats: cfg.Formats,
	}
}

// join returns the channel of a new member whose snapshot will be of seq. The
// silence of a new channel counts from now.
func (t *table) join(k key, sel *selection, seq uint64, now time.Time) *channel {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[k]
	if e == nil {
		e = &entry{sel: sel}
		t.entries[k] = e
	}
	e.refs++
	c := e.shared
	if c == nil {
		c = t.open(k, e, seq, now)
	}
	c.members++
	return c
}

func (t *table) open(k key, e *entry, seq uint64, now time.Time) *channel {
	t.next++
	c := &channel{
		no: t.next, key: k, sel: e.sel, framing: k.framing, rows: t.fragments(k.format),
		seq: seq, through: seq, lastAt: now,
	}
	if (k.all || e.refs > 1) && t.shared < t.maxShared {
		c.shared, e.shared = true, c
		t.shared++
	}
	return c
}

func (t *table) fragments(f wire.Format) *fragments {
	fr := t.formats[f]
	if fr == nil {
		fr = newFragments(f, &t.cache, len(t.formats) < t.maxFormats)
		if fr.cached {
			t.formats[f] = fr
		}
	}
	fr.refs++
	return fr
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
	if c.shared {
		e.shared = nil
		t.shared--
	}
	if c.rows.refs--; c.rows.refs == 0 && c.rows.cached {
		delete(t.formats, c.rows.format)
		c.rows.release()
	}
}

// sharedChannels returns how many channels are shared.
func (t *table) sharedChannels() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shared
}
