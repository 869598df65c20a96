package quality

import "github.com/velocimeter/velocimeter/engine/market"

// compare adds one row to the tally.
func (g *Gate) compare(t *tally, b *market.Batch, i int, snap *market.Snapshot) {
	q := &b.Quotes[i]
	t.rows++
	t.newest = max(t.newest, q.SourceTime)
	if snap == nil {
		t.same = false
		t.equal += g.twins.add(b.Quotes, i)
		return
	}
	t.known++
	if vanished(q, snap) {
		t.vanished++
	}
	moved := differs(q, market.FieldPrice, q.Price, snap) || differs(q, market.FieldVolume24h, q.Volume24h, snap)
	if moved {
		t.moved++
	}
	if moved || differs(q, market.FieldMarketCap, q.MarketCap, snap) {
		t.same = false
		t.equal += g.twins.add(b.Quotes, i)
		return
	}
	t.same = t.same && sameRest(q, b.Source, b.Simulated, snap)
}

const missingTokens = "tokens are missing"

// judge returns why the poll must be rejected, or "".
func (g *Gate) judge(t *tally, missing int) string {
	share := func(n, of int) bool { return of >= g.cfg.MinRows && float64(n) > g.cfg.PoisonShare*float64(of) }
	switch {
	case t.rows == 0 && g.list > 0:
		return "no rows"
	case share(t.vanished, t.rows):
		return "values are zero or null where they were not"
	case share(t.equal, t.rows):
		return "rows are equal to one another"
	case share(missing, g.list) && !g.agreed():
		return missingTokens
	}
	return ""
}

// agreed reports whether enough consecutive polls lacked the same tokens.
func (g *Gate) agreed() bool {
	var hash uint64
	for i := range g.slots {
		if s := &g.slots[i]; s.on && s.seen != g.gen {
			hash += mix(uint64(s.id))
		}
	}
	g.lack(hash)
	return g.missRun >= g.cfg.MissingPolls
}

// lack counts the consecutive polls that lack the same tokens.
func (g *Gate) lack(hash uint64) {
	if hash != g.missHash {
		g.missHash, g.missRun = hash, 0
	}
	g.missRun++
}

func (g *Gate) reject(r Rejected) {
	if r.Reason != missingTokens {
		g.missHash, g.missRun = 0, 0
	}
	if len(g.rejected) < MaxRejectedPolls {
		g.rejected = append(g.rejected, Rejected{})
	}
	copy(g.rejected[1:], g.rejected)
	g.rejected[0] = r
}

// accept notes that the poll changed something.
func (g *Gate) accept(at market.Time, t *tally, newest market.Time) {
	g.missHash, g.missRun = 0, 0
	g.confirmed, g.sourced, g.changed, g.stillRun = 0, newest, at, 0
	if t.known >= 2 && float64(t.moved) >= g.cfg.MovingShare*float64(t.known) {
		g.moving++
	}
}

// stand notes that the poll repeated the one before. A provider with a list of
// tokens is believed for a while; a smaller one, where standing still proves
// nothing, for as long as its own times go on.
func (g *Gate) stand(at market.Time, rows int, newest market.Time) {
	g.missHash, g.missRun = 0, 0
	if rows == 0 {
		return // it vouches for nothing
	}
	g.stillRun++
	limited := rows >= g.cfg.MinRows || newest <= g.sourced
	g.sourced = newest
	if limited && g.stillRun >= g.cfg.StillPolls && at.Sub(g.changed) >= g.cfg.StillFor {
		g.confirmed = 0
		return
	}
	g.confirmed = at
}

// end makes the poll at hand the accepted list, or forgets what it brought.
func (g *Gate) end(adopt bool) {
	if adopt && g.list == len(g.slots) && g.whole() {
		return
	}
	kept := g.slots[:0]
	for _, s := range g.slots {
		s.on = s.on && !adopt || adopt && s.seen == g.gen
		if !s.on {
			delete(g.index, s.id)
			continue
		}
		g.index[s.id] = int32(len(kept))
		kept = append(kept, s)
	}
	g.slots, g.list = kept, len(kept)
}

// whole reports whether the poll at hand had every slot.
func (g *Gate) whole() bool {
	for i := range g.slots {
		if g.slots[i].seen != g.gen {
			return false
		}
	}
	return true
}

// Rejections returns the polls rejected last, newest first, at most
// MaxRejectedPolls. The slice must not be written to.
func (g *Gate) Rejections() []Rejected { return g.rejected }
