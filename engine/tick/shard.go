package tick

import (
	"maps"

	"github.com/velocimeter/velocimeter/engine/cacheline"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/token"
)

// slot is what a shard keeps beside each token, small and contiguous so that
// the sweep over all tokens touches little memory.
type slot struct {
	deadline market.Time // freshness would change class; 0 never
	gone     market.Time // first accepted poll that lacked the token; 0 while present
	seen     uint64      // seq of the last tick that stepped the token
	present  uint64      // seq of the last tick that named it in vain
	cap, vol int64       // whole USD, last accepted
	id       market.ID
}

// Shard owns some of the tokens and makes its part of every tick. Not safe for
// concurrent use.
type Shard struct {
	cfg    *quality.Config
	tokens []*token.Token
	pool   token.Pool // of their snapshots
	slots  []slot
	snaps  []*market.Snapshot  // copied before a change while shared with a board
	index  map[market.ID]int32 // likewise
	env    market.Env
	poll   bool // the tick is an accepted or unchanged poll: absence counts
	quiet  bool // the poll equals the one before: quotes only say who is there

	// The plan's quotes for this shard, in order, and where the gate saw their
	// tokens: hints, good for quotes that are stepped in that order.
	quotes []*market.Quote
	at     []int32
	next   int // the first that was not stepped yet

	swept       int32 // slots that the sweep of this tick has done
	changes     []market.Change
	removed     []market.ID
	presence    market.Presence
	snapsShared bool
	indexShared bool

	// What a start without states goes by, see Recall.
	past    func(id market.ID, before market.Time) (cells []market.Cell, fresh market.Time) // see Machine.Recall
	retired map[market.ID]struct{}
	asleep  map[market.ID]*token.Token // windows without anything to show

	mark    token.Mark
	before  slot  // of the last Step's token
	undo    int32 // slot of the last Step, −1 when there is nothing to undo
	born    bool  // the last Step made its token
	changed int   // len(changes) before the last Step
	backs   int   // len(presence.Back) before it
}

// NewShard returns a shard without tokens.
func NewShard(cfg quality.Config) *Shard {
	return &Shard{cfg: &cfg, index: map[market.ID]int32{}, undo: -1}
}

// Len returns the number of tokens.
func (s *Shard) Len() int { return len(s.tokens) }

// Has reports whether the shard tracks a token.
func (s *Shard) Has(id market.ID) bool {
	_, ok := s.index[id]
	return ok
}

// IDs yields the tracked tokens in no particular order.
func (s *Shard) IDs(yield func(market.ID) bool) {
	for id := range s.index {
		if !yield(id) {
			return
		}
	}
}

// Begin opens a plan's tick; the shard is the i-th.
func (s *Shard) Begin(p *Plan, i int) {
	s.begin(&p.env, p.kind, p.verdict)
	s.quotes, s.at = p.quotes[i], p.positions[i]
}

func (s *Shard) begin(env *market.Env, kind market.TickKind, verdict market.Verdict) {
	s.env = *env
	s.poll = kind == market.TickPoll && verdict != market.Poisoned
	s.quiet = s.poll && verdict == market.Unchanged
	s.changes, s.removed = make([]market.Change, 0, len(s.changes)+8), nil
	s.presence = market.Presence{}
	s.undo, s.swept = -1, 0
	s.quotes, s.at, s.next = nil, nil, 0
}

// Step hands a quote to its token, making the token if it is new. If the token
// panics, Undo puts it back exactly as it was.
func (s *Shard) Step(q *market.Quote) {
	s.undo = -1
	s.ahead()
	i, ok := s.find(q)
	if !ok {
		i = s.add(s.newborn(q))
	}
	t := s.save(i)
	s.born = !ok
	var snap *market.Snapshot
	var mask market.Mask
	if !s.quiet {
		snap, mask = t.Step(q, &s.env)
	}
	if mask == 0 {
		t.Seen(&s.env)
		snap, mask = t.Clock(&s.env)
		q = nil
	}
	s.record(i, snap, mask, q)
	s.slots[i].seen = s.env.Seq
	s.arrive(i, q != nil)
}

// A Step asks for the memory of the quotes after its own: for far of them what
// it finds without looking into it, for near then what the token points to.
const (
	far  = 6
	near = 1
)

// ahead asks for what the next Steps will need.
func (s *Shard) ahead() {
	if n := s.next + far; n < len(s.quotes) {
		cacheline.Prefetch(s.quotes[n])
		if i := s.at[n]; i >= 0 && int(i) < len(s.tokens) {
			cacheline.Prefetch(s.tokens[i])
			cacheline.Prefetch(s.snaps[i])
		}
	}
	if n := s.next + near; n < len(s.quotes) {
		if i := s.at[n]; i >= 0 && int(i) < len(s.tokens) {
			s.tokens[i].Prefetch()
		}
	}
}

// arrive notes that the poll names a token; without a row the journal is told
// where that is news.
func (s *Shard) arrive(i int32, row bool) {
	slot := &s.slots[i]
	if slot.gone != 0 && !row {
		s.presence.Back = append(s.presence.Back, s.tokens[i].ID())
	}
	slot.gone = 0
}

// find returns the slot of a quote's token: where the gate saw it, if the quote
// is the plan's next one and the token is still there, else by its id.
func (s *Shard) find(q *market.Quote) (int32, bool) {
	if s.next < len(s.quotes) && s.quotes[s.next] == q {
		i := s.at[s.next]
		s.next++
		if s.holds(i, q.ID) {
			return i, true
		}
	}
	i, ok := s.index[q.ID]
	return i, ok
}

// holds reports whether slot i is that of a token.
func (s *Shard) holds(i int32, id market.ID) bool {
	return i >= 0 && int(i) < len(s.slots) && s.slots[i].id == id
}

// save notes what Undo needs to put a token back.
func (s *Shard) save(i int32) *token.Token {
	s.undo = -1
	t := s.tokens[i]
	t.Save(&s.mark)
	s.undo, s.born, s.changed, s.before = i, false, len(s.changes), s.slots[i]
	s.backs = len(s.presence.Back)
	return t
}

// Present notes that the poll names a token whose quote was given up, so that
// it does not count as gone.
func (s *Shard) Present(id market.ID) {
	if s.next < len(s.quotes) && s.quotes[s.next].ID == id {
		s.next++ // it will not be stepped
	}
	if i, ok := s.index[id]; ok {
		s.slots[i].present = s.env.Seq
		s.arrive(i, false)
	}
}

// record notes a token's part of the tick.
func (s *Shard) record(i int32, snap *market.Snapshot, mask market.Mask, q *market.Quote) {
	slot := &s.slots[i]
	slot.deadline = s.tokens[i].Deadline()
	if mask == 0 {
		return
	}
	if s.snapsShared {
		s.snaps = append(make([]*market.Snapshot, 0, len(s.snaps)+len(s.snaps)/8+8), s.snaps...)
		s.snapsShared = false
	}
	s.snaps[i] = snap
	slot.cap, slot.vol = wholeUSD(snap.AcceptedCap), wholeUSD(snap.AcceptedVolume)
	s.changes = append(s.changes, market.Change{Snap: snap, Mask: mask, Quote: q})
}

// Undo puts the token of the last Step back as it was before it: after a panic,
// or when its quote is refused. A token that the Step made is gone again.
func (s *Shard) Undo() {
	if s.undo < 0 {
		return
	}
	i := s.undo
	s.undo = -1
	clear(s.changes[s.changed:])
	s.changes = s.changes[:s.changed]
	s.presence.Back = s.presence.Back[:s.backs]
	if s.born {
		s.drop(i)
		return
	}
	s.tokens[i].Restore(&s.mark)
	s.slots[i] = s.before
	if snap := s.tokens[i].Snapshot(); s.snaps[i] != snap {
		s.snaps[i] = snap // record had made the slice our own
	}
}

// add gives a token a slot.
func (s *Shard) add(t *token.Token) int32 {
	if s.indexShared {
		s.index = maps.Clone(s.index)
		s.indexShared = false
	}
	i := int32(len(s.tokens))
	s.index[t.ID()] = i
	s.tokens = append(s.tokens, t)
	t.Share(&s.pool)
	s.slots = append(s.slots, slot{id: t.ID()})
	if s.snapsShared {
		s.snaps = append(make([]*market.Snapshot, 0, 2*len(s.snaps)+8), s.snaps...)
		s.snapsShared = false
	}
	s.snaps = append(s.snaps, t.Snapshot())
	return i
}

// drop removes a slot, moving the last one into its place.
func (s *Shard) drop(i int32) {
	if s.indexShared {
		s.index = maps.Clone(s.index)
		s.indexShared = false
	}
	if s.snapsShared {
		s.snaps = append([]*market.Snapshot(nil), s.snaps...)
		s.snapsShared = false
	}
	last := int32(len(s.tokens) - 1)
	delete(s.index, s.tokens[i].ID())
	if i != last {
		s.tokens[i], s.slots[i], s.snaps[i] = s.tokens[last], s.slots[last], s.snaps[last]
		s.index[s.tokens[i].ID()] = i
	}
	s.tokens[last], s.snaps[last] = nil, nil
	s.tokens, s.slots, s.snaps = s.tokens[:last], s.slots[:last], s.snaps[:last]
}

// Sweep does what time and absence cause: freshness, frozen, retirement. It
// comes after the Steps of the tick and returns the retired tokens. If a token
// panics, Undo puts it back and another call goes on after it.
func (s *Shard) Sweep() []market.ID {
	for s.swept < int32(len(s.tokens)) {
		i := s.swept
		s.swept++
		if !s.sweep(i) {
			s.swept--
		}
	}
	s.undo = -1
	return s.removed
}

// sweep does one slot; false means that it holds another token now.
func (s *Shard) sweep(i int32) bool {
	slot := &s.slots[i]
	if slot.seen == s.env.Seq && s.poll {
		return true
	}
	if s.poll && slot.gone == 0 && slot.present != s.env.Seq {
		slot.gone = s.env.Now
		s.presence.Absent = append(s.presence.Absent, s.tokens[i].ID())
	}
	if slot.gone != 0 && s.env.Now.Sub(slot.gone) >= RetireAfter {
		s.removed = append(s.removed, s.tokens[i].ID())
		s.drop(i)
		return false
	}
	if s.poll || slot.deadline != 0 && slot.deadline <= s.env.Now {
		snap, mask := s.save(i).Clock(&s.env)
		s.record(i, snap, mask, nil)
	}
	return true
}

// Finish closes the tick. The returned slices belong to the caller.
func (s *Shard) Finish() Part {
	p := Part{Changes: s.changes, Removed: s.removed, Presence: s.presence, Snapshots: s.snaps, Index: s.index}
	s.snapsShared, s.indexShared = true, true
	p.Totals.Tokens = len(s.tokens)
	for i := range s.slots {
		slot := &s.slots[i]
		p.Totals.MarketCap = addSaturated(p.Totals.MarketCap, slot.cap)
		p.Totals.Volume24h = addSaturated(p.Totals.Volume24h, slot.vol)
		p.Deadline = earlier(p.Deadline, slot.deadline)
		if slot.gone != 0 {
			p.Deadline = earlier(p.Deadline, slot.gone.Add(RetireAfter))
		}
	}
	return p
}
