package fanout

import (
	"slices"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// ring is what a channel of mode every keeps for members that are behind: its
// last messages, bounded in number and bytes.
type ring struct {
	list []*message // oldest first
	size int
}

// Limits of a ring.
const (
	ringMessages = 256
	ringBytes    = 8 << 20
)

// ringMost is how many bytes each ring may hold: all of them together stay
// within Config.Rings.
func (t *table) ringMost() int {
	return min(ringBytes, t.rings/max(1, int(t.recording.Load())))
}

func (r *ring) push(m *message, most int) {
	r.list = append(r.list, m)
	r.size += m.size
	drop := 0
	for len(r.list)-drop > ringMessages || r.size > most && len(r.list)-drop > 1 {
		r.size -= r.list[drop].size
		drop++
	}
	r.list = slices.Delete(r.list, 0, drop)
}

// after returns the oldest message that a client at a position has not; lost
// says that it is no longer kept.
func (r *ring) after(pos uint64) (m *message, lost bool) {
	i, _ := slices.BinarySearchFunc(r.list, pos, func(m *message, pos uint64) int {
		if m.seq <= pos {
			return -1
		}
		return 1
	})
	if i == len(r.list) {
		return nil, false
	}
	if m = r.list[i]; m.prev > pos {
		return nil, true
	}
	return m, false
}

// record makes the message of one tick for a channel of mode every. All of its
// values are absolute: a client may come back to any message of the ring. After a
// gap, ticks that had to be given up, no client can go on: the message says so.
func (c *channel) record(h *Hub, r *round, gap bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken || r.seq() <= c.through {
		return
	}
	c.broken = true // until all went well
	defer func() {
		if e := recover(); e != nil { // its members are closed, nobody else notices
			h.panicked(e)
		}
	}()
	l := &leaf{round: r, from: c.through, order: r.order()}
	m := &message{prev: c.seq, from: c.through, seq: r.seq(), absolute: true}
	l.stale = newlyStale(c.sel, l)
	if gap {
		m.prev = max(m.prev, r.seq()-1)
	}
	m = c.collect(h, l, m, c.through)
	if m == nil && len(l.stale) > 0 {
		m = c.beat(r.seq())
	}
	if m != nil {
		if text := staleEvent(c.no, c.sel, l); text != nil {
			m.add(c.frame(wire.KindStale, 0, true, text))
		}
		c.take(m, now)
		c.ring.push(m, h.table.ringMost())
	}
	c.through, c.broken = r.seq(), false
}

// failed reports whether making a message did.
func (c *channel) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// newlyStale returns the places of the selected tokens that have become stale.
func newlyStale(sel *selection, l *leaf) (places []int32) {
	sel.each(l.order, 0, func(i int) bool {
		if s := l.order.token(l.board, i); changedSince(s, l.from).Has(market.FieldFreshness) && s.Freshness() == market.Stale {
			places = append(places, int32(i))
		}
		return true
	})
	return places
}

// nextRecorded returns the message that a member of a channel of mode every is
// due, or the code to close it with.
func (c *channel) nextRecorded(h *Hub, pos uint64, now time.Time) (*message, wire.CloseCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return nil, wire.CloseInternal
	}
	m, lost := c.ring.after(pos)
	if lost || m == nil && pos < c.seq {
		return nil, wire.CloseSlow
	}
	if m == nil && c.through > c.seq && now.Sub(c.lastAt) >= h.cfg.Heartbeat {
		m = c.beat(c.through)
		c.take(m, now)
		c.ring.push(m, h.table.ringMost())
	}
	return m, 0
}
