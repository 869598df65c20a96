package tick

import (
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
)

// RetireAfter is how long a token may be missing from its provider's accepted
// answers before it is retired.
const RetireAfter = market.Day

// Config is what an Engine needs to begin.
type Config struct {
	Epoch   string // identity of the lineage, told to clients
	Shards  int    // ≥ 1; the same number for every Part
	NextSeq uint64 // seq of the first tick, ≥ 1
	Quality quality.Config
}

// Engine numbers ticks and judges polls. Not safe for concurrent use.
type Engine struct {
	epoch      string
	seq        uint64 // of the last sealed tick, or the one before the first
	gate       *quality.Gate
	last       market.Env // of the last sealed tick: what clock ticks inherit
	board      *market.Board
	tombstones []market.Tombstone
	deadline   market.Time
	quotes     [][]*market.Quote // reused by every plan
	positions  [][]int32         // likewise
	rejections uint64
}

// New returns an engine without tokens.
func New(c Config) *Engine {
	shards := max(c.Shards, 1)
	return &Engine{
		epoch:  c.Epoch,
		seq:    max(c.NextSeq, 1) - 1,
		gate:   quality.NewGate(c.Quality),
		board:  emptyBoard(c.Epoch, shards),
		quotes: make([][]*market.Quote, shards), positions: make([][]int32, shards),
	}
}

func emptyBoard(epoch string, shards int) *market.Board {
	return &market.Board{
		Epoch: epoch, Shards: make([][]*market.Snapshot, shards), Index: make([]map[market.ID]int32, shards),
	}
}

// Plan is a tick in the making: what each shard has to do.
type Plan struct {
	env        market.Env
	kind       market.TickKind
	verdict    market.Verdict
	rejection  *market.PollRejection
	position   uint64
	sourceTime market.Time
	quotes     [][]*market.Quote
	positions  [][]int32 // of each quote's token in its shard, as the last board has it; negative if unknown
}

// Env returns what every token of this tick is told.
func (p *Plan) Env() *market.Env { return &p.env }

// Kind returns what caused the tick.
func (p *Plan) Kind() market.TickKind { return p.kind }

// Verdict returns what became of the poll as a whole, and why.
func (p *Plan) Verdict() (verdict market.Verdict, reason string) {
	if p.rejection != nil {
		reason = p.rejection.Reason
	}
	return p.verdict, reason
}

// Quotes returns the quotes of one shard, in the provider's order.
func (p *Plan) Quotes(shard int) []*market.Quote { return p.quotes[shard] }

// Seq returns the number of the newest sealed tick.
func (e *Engine) Seq() uint64 { return e.seq }

// Board returns the market after the newest sealed tick; it is empty, not nil,
// before the first.
func (e *Engine) Board() *market.Board { return e.board }

// Deadline returns the next instant at which Clock would change something, 0 if none.
func (e *Engine) Deadline() market.Time { return e.deadline }

// Rejections counts the polls that were rejected whole.
func (e *Engine) Rejections() uint64 { return e.rejections }

// Poll judges an answer and plans its tick. Engine time never goes back: a now
// before the last tick's counts as that tick's.
func (e *Engine) Poll(b *market.Batch, now market.Time) *Plan {
	now = max(now, e.last.Now)
	verdict := e.gate.Check(b, e.board, now)
	p := &Plan{
		kind: market.TickPoll, verdict: verdict.Verdict, position: b.Position,
		quotes: e.quotes, positions: e.positions,
		env: market.Env{
			Seq: e.seq + 1, Now: now, ReceivedAt: b.ReceivedAt, Source: b.Source, Simulated: b.Simulated,
			Cadence: b.Cadence, TotalCap: e.board.Totals.MarketCap, Moving: verdict.Moving, Confirmed: verdict.Confirmed,
		},
	}
	e.clearQuotes()
	if verdict.Verdict == market.Poisoned {
		e.rejections++
		p.rejection = &market.PollRejection{Reason: verdict.Reason, Rows: uint32(len(b.Quotes)), Lacking: verdict.Lacking}
		return p
	}
	if p.env.TotalCap == 0 {
		p.env.TotalCap = batchCap(b)
	}
	e.partition(b, verdict.Positions, p)
	return p
}

// partition gives every quote to its shard. An unchanged poll still names its
// tokens, so that none of them counts as missing. Second rows of an id are left out.
func (e *Engine) partition(b *market.Batch, positions []int32, p *Plan) {
	for i := range b.Quotes {
		if i < len(positions) && positions[i] == quality.DroppedRow {
			continue
		}
		q := &b.Quotes[i]
		s := market.ShardOf(q.ID, len(e.quotes))
		e.quotes[s] = append(e.quotes[s], q)
		at := quality.NewRow
		if i < len(positions) {
			at = positions[i]
		}
		e.positions[s] = append(e.positions[s], at)
		p.sourceTime = max(p.sourceTime, q.SourceTime)
	}
}

func (e *Engine) clearQuotes() {
	for i := range e.quotes {
		clear(e.quotes[i])
		e.quotes[i], e.positions[i] = e.quotes[i][:0], e.positions[i][:0]
	}
}

// Clock plans a tick that only time causes. It inherits what the last poll said
// about the provider.
func (e *Engine) Clock(now market.Time) *Plan {
	e.clearQuotes()
	p := &Plan{kind: market.TickClock, env: e.last, quotes: e.quotes, positions: e.positions}
	p.env.Seq = e.seq + 1
	p.env.Now = max(now, e.last.Now)
	p.env.TotalCap = e.board.Totals.MarketCap
	return p
}

// Part is what one shard made of a plan.
type Part struct {
	Changes   []market.Change
	Removed   []market.ID
	Presence  market.Presence
	Snapshots []*market.Snapshot  // every token of the shard after the tick; immutable
	Index     map[market.ID]int32 // position in Snapshots; immutable
	Totals    market.Totals       // of the shard
	Deadline  market.Time         // next clock-driven change of any of its tokens, 0 if none
}

// Seal joins the parts, one per shard in shard order, into a tick and makes it
// the newest. It returns nil for a clock plan that changed nothing: its number
// is then free again.
func (e *Engine) Seal(p *Plan, parts []Part) *market.Tick {
	t := &market.Tick{
		Env: p.env, Kind: p.kind, Verdict: p.verdict, Position: p.position, SourceTime: p.sourceTime, Rejection: p.rejection,
		Parts: make([][]market.Change, len(parts)),
	}
	e.deadline = 0
	for i := range parts {
		t.Parts[i] = parts[i].Changes
		t.Removed = append(t.Removed, parts[i].Removed...)
		t.Absent = append(t.Absent, parts[i].Presence.Absent...)
		t.Back = append(t.Back, parts[i].Presence.Back...)
		e.deadline = earlier(e.deadline, parts[i].Deadline)
	}
	if p.kind == market.TickClock && t.Rows() == 0 && len(t.Removed) == 0 {
		return nil
	}
	e.seq = p.env.Seq
	e.last = p.env
	e.bury(t)
	e.board = e.newBoard(t, parts)
	t.Board = e.board
	return t
}

// bury adds tombstones for what was removed and forgets old ones. The newest of
// the old ones stays: it says since when all of them are known. The slice is
// shared with older boards, so it is only ever appended to or cut at the front.
func (e *Engine) bury(t *market.Tick) {
	for _, id := range t.Removed {
		e.tombstones = append(e.tombstones, market.Tombstone{ID: id, Seq: t.Env.Seq, Time: t.Env.Now})
	}
	old := 0
	for old < len(e.tombstones) && t.Env.Now.Sub(e.tombstones[old].Time) > market.TombstoneAge {
		old++
	}
	e.tombstones = e.tombstones[max(old-1, 0):]
}

func (e *Engine) newBoard(t *market.Tick, parts []Part) *market.Board {
	b := &market.Board{
		Epoch: e.epoch, Seq: t.Env.Seq, Time: t.Env.Now, Source: t.Env.Source, Simulated: t.Env.Simulated,
		SourceTime: e.board.SourceTime, ReceivedAt: e.board.ReceivedAt,
		Shards: make([][]*market.Snapshot, len(parts)), Index: make([]map[market.ID]int32, len(parts)),
		Tombstones: slices.Clip(e.tombstones),
	}
	if t.Kind == market.TickPoll && t.Verdict != market.Poisoned {
		b.ReceivedAt = t.Env.ReceivedAt
		b.SourceTime = max(b.SourceTime, t.SourceTime)
	}
	for i := range parts {
		b.Shards[i], b.Index[i] = parts[i].Snapshots, parts[i].Index
		b.Totals.Tokens += parts[i].Totals.Tokens
		b.Totals.MarketCap = addSaturated(b.Totals.MarketCap, parts[i].Totals.MarketCap)
		b.Totals.Volume24h = addSaturated(b.Totals.Volume24h, parts[i].Totals.Volume24h)
	}
	return b
}

// earlier returns the earlier of two deadlines, where 0 means none.
func earlier(a, b market.Time) market.Time {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
