package fanout

import (
	"cmp"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// ranking is the selection of a ranked channel: the first n tokens by a field.
type ranking struct {
	wire.Top
	ids  []market.ID // of the newest round, ascending; replaced, never changed
	at   *round      // that round
	step topStep     // how it came from the one before
}

// topStep is what a ranking was before its newest round.
type topStep struct {
	was   []market.ID
	from  *round
	since uint64
}

// ranked is a token with what it is ranked by.
type ranked struct {
	value float64
	exact market.Decimal
	id    market.ID
}

// best returns the ids of the first n tokens of a view, ascending.
func (t *ranking) best(v *view) []market.ID {
	all := v.ranked(t.By)
	return slices.Sorted(slices.Values(all[:min(t.N, len(all))]))
}

// ranked returns the first tokens by a field, MaxTop at most, in their order.
// Tokens that a flag excludes, and those without a value, are not ranked. Rank 1
// is the first; everything else begins with the largest. Ties are by id. All
// rankings of a view by one field share it.
func (v *view) ranked(by market.Field) []market.ID {
	v.rankMu.Lock()
	defer v.rankMu.Unlock()
	if ids, ok := v.ranks[by]; ok {
		return ids
	}
	h := firsts{sign: -1}
	if by == market.FieldRank {
		h.sign = 1
	}
	for s := range v.board.All {
		if x := s.Value(by); !x.IsNull() && !s.Flags().Excluded() {
			h.offer(ranked{x.Float(), x, s.ID})
		}
	}
	slices.SortFunc(h.list, h.compare)
	ids := make([]market.ID, len(h.list))
	for i := range ids {
		ids[i] = h.list[i].id
	}
	if v.ranks == nil {
		v.ranks = make(map[market.Field][]market.ID)
	}
	v.ranks[by] = ids
	return ids
}

// firsts keeps the first MaxTop of what it is offered in a heap with the last of
// them on top: a market of any size costs little more than reading it.
type firsts struct {
	sign int
	list []ranked
}

func (h *firsts) compare(a, b ranked) int {
	c := cmp.Compare(a.value, b.value)
	if c == 0 {
		c = a.exact.Cmp(b.exact)
	}
	return cmp.Or(h.sign*c, cmp.Compare(a.id, b.id))
}

func (h *firsts) offer(x ranked) {
	if len(h.list) < wire.MaxTop {
		h.list = append(h.list, x)
		for i := len(h.list) - 1; i > 0; {
			up := (i - 1) / 2
			if h.compare(h.list[up], h.list[i]) >= 0 {
				return
			}
			h.list[up], h.list[i] = h.list[i], h.list[up]
			i = up
		}
		return
	}
	if h.compare(x, h.list[0]) >= 0 {
		return
	}
	h.list[0] = x
	for i := 0; ; {
		last := i
		for _, down := range [...]int{2*i + 1, 2*i + 2} {
			if down < len(h.list) && h.compare(h.list[down], h.list[last]) > 0 {
				last = down
			}
		}
		if last == i {
			return
		}
		h.list[i], h.list[last] = h.list[last], h.list[i]
		i = last
	}
}

// composeTop makes the next message of a ranked channel: whole rows of tokens
// that enter, changed ones of those that stay, and the ids of those that leave.
func (c *channel) composeTop(h *Hub, l *leaf) *message {
	t := c.top
	t.step = topStep{was: t.ids, from: t.at, since: c.through}
	t.ids, t.at = t.best(l.view), l.round
	m := &message{prev: c.seq, from: c.through, seq: l.seq(), absolute: !c.page.binary()}
	return c.collectTop(h, l.view, m)
}

// collectTop encodes the newest step of a ranking into the message's frames; it
// returns nil where nothing changed.
func (c *channel) collectTop(h *Hub, v *view, m *message) *message {
	t := c.top
	p := c.parts(&leaf{round: t.at}, m)
	defer putParts(p)
	n := 0
	for _, id := range t.ids {
		s := v.board.Token(id)
		mask, before := market.AllFields, (*market.Snapshot)(nil)
		if contains(t.step.was, id) {
			if mask = changedSince(s, t.step.since); mask&(c.page.format.Fields|market.FieldSource.Bit()) == 0 {
				continue
			}
			if mask |= t.By.Bit(); !m.absolute && mask != market.AllFields {
				before = t.step.from.board.Token(id)
			}
		}
		if p.row = c.page.encode(p.row[:0], v.board.Source, s, before, mask); len(p.row) > 0 {
			p.RowOf(id, p.row)
			n++
		}
	}
	left := slices.DeleteFunc(slices.Clone(t.step.was), func(id market.ID) bool { return contains(t.ids, id) })
	if n == 0 && len(left) == 0 {
		return nil
	}
	p.End(left)
	h.stats.encodedRows.Add(uint64(n))
	return m
}

// contains reports whether a sorted list has an id.
func contains(ids []market.ID, id market.ID) bool {
	_, ok := slices.BinarySearch(ids, id)
	return ok
}

// absoluteTop returns the chain's newest message without differences, for
// members that have just begun; nil where that is none of a step.
func (c *channel) absoluteTop(h *Hub, pos uint64) *message {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last
	if last == nil || last.beat || last.prev > pos || pos > last.from || last.seq != c.top.at.seq() {
		return nil
	}
	if len(c.variants) > 0 {
		return c.variants[0]
	}
	m := &message{prev: last.prev, from: last.from, seq: last.seq, absolute: true, total: c.total}
	if c.collectTop(h, c.top.at.view, m) == nil {
		return nil
	}
	c.variants = append(c.variants, m)
	return m
}
