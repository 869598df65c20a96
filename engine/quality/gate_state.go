package quality

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

const gateVersion = 1

// AppendState appends the gate's state: the tokens of the last accepted list,
// the runs of polls, and the review list.
func (g *Gate) AppendState(dst []byte) []byte {
	dst = append(dst, gateVersion)
	for _, v := range [...]uint64{
		g.missHash, uint64(g.missRun), g.moving, uint64(g.confirmed), uint64(g.sourced), uint64(g.changed),
		uint64(g.stillRun), uint64(len(g.rejected)),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, r := range g.rejected {
		dst = binary.AppendUvarint(dst, uint64(r.Time))
		dst = append(dst, byte(r.Source))
		dst = binary.AppendUvarint(dst, r.Position)
		dst = binary.AppendUvarint(dst, uint64(r.Rows))
		dst = binary.AppendUvarint(dst, uint64(len(r.Reason)))
		dst = append(dst, r.Reason...)
	}
	dst = binary.AppendUvarint(dst, uint64(g.list))
	before := int64(0)
	for _, s := range g.slots {
		dst = binary.AppendVarint(dst, int64(s.id)-before)
		before = int64(s.id)
	}
	return dst
}

// Restore sets the gate to a state that AppendState wrote. After an error the
// gate is as before.
func (g *Gate) Restore(blob []byte) error {
	c := NewCursor(blob)
	if v := c.Byte(); v != gateVersion {
		return fmt.Errorf("cannot restore gate: state has version %d, not %d", v, gateVersion)
	}
	n := NewGate(g.cfg)
	n.missHash, n.missRun, n.moving = c.Uint(), int(c.Uint()), c.Uint()
	n.confirmed, n.sourced, n.changed = market.Time(c.Uint()), market.Time(c.Uint()), market.Time(c.Uint())
	n.stillRun = int(c.Uint())
	polls := c.Uint()
	if polls > MaxRejectedPolls {
		c.Fail("review list")
	}
	for i := uint64(0); i < polls && c.Err() == nil; i++ {
		r := Rejected{Time: market.Time(c.Uint()), Source: market.Source(c.Byte()), Position: c.Uint(), Rows: uint32(c.Uint())}
		r.Reason = string(c.Bytes(c.Uint()))
		n.rejected = append(n.rejected, r)
	}
	n.restoreList(c)
	if c.Len() > 0 {
		c.Fail("length")
	}
	if err := c.Err(); err != nil {
		return fmt.Errorf("cannot restore gate: %w", err)
	}
	*g = *n
	return nil
}

func (g *Gate) restoreList(c *Cursor) {
	count, id := c.Uint(), int64(0)
	if count > uint64(c.Len()) {
		c.Fail("list")
	}
	for i := uint64(0); i < count && c.Err() == nil; i++ {
		id += c.Int()
		if id != int64(market.ID(id)) {
			c.Fail("id")
			return
		}
		g.adopt(market.ID(id))
	}
	g.list = len(g.slots)
}

// adopt puts an id on the accepted list.
func (g *Gate) adopt(id market.ID) {
	if _, ok := g.index[id]; ok {
		return
	}
	g.index[id] = int32(len(g.slots))
	g.slots = append(g.slots, slot{id: id, pos: NewRow, on: true})
}

// Replay follows a tick of the journal, so that a gate restored from an older
// state ends where the running one was.
func (g *Gate) Replay(jt *market.JournalTick) {
	if jt.Kind != market.TickPoll {
		return
	}
	newest := min(jt.SourceTime, jt.Env.Now.Add(g.cfg.FutureLimit))
	switch jt.Verdict {
	case market.Poisoned:
		g.replayRejection(jt)
	case market.Unchanged:
		g.missHash, g.missRun = 0, 0
		g.stillRun++
		g.sourced = newest
	default:
		g.missHash, g.missRun = 0, 0
		g.changed, g.stillRun, g.sourced = jt.Env.ReceivedAt, 0, newest
		g.replayList(jt)
	}
	g.moving, g.confirmed = jt.Env.Moving, jt.Env.Confirmed
}

func (g *Gate) replayRejection(jt *market.JournalTick) {
	r := Rejected{Time: jt.Env.ReceivedAt, Source: jt.Env.Source, Position: jt.Position}
	if jt.Rejection != nil {
		r.Rows, r.Reason = jt.Rejection.Rows, jt.Rejection.Reason
	}
	if r.Reason == missingTokens {
		g.lack(jt.Rejection.Lacking)
	}
	g.reject(r)
}

func (g *Gate) replayList(jt *market.JournalTick) {
	for i := range jt.Rows {
		if jt.Rows[i].Quote != nil {
			g.adopt(jt.Rows[i].ID)
		}
	}
	for _, id := range jt.Back {
		g.adopt(id)
	}
	if len(jt.Absent)+len(jt.Removed) > 0 {
		g.slots = slices.DeleteFunc(g.slots, func(s slot) bool {
			return slices.Contains(jt.Absent, s.id) || slices.Contains(jt.Removed, s.id)
		})
		clear(g.index)
		for i, s := range g.slots {
			g.index[s.id] = int32(i)
		}
	}
	g.list = len(g.slots)
}
