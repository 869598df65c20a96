package quality

import (
	"unsafe"

	"github.com/velocimeter/velocimeter/engine/cacheline"
	"github.com/velocimeter/velocimeter/engine/market"
)

// Positions of rows that the board does not hold, and of rows to skip.
const (
	// NewRow marks a quote of a token that the board does not hold.
	NewRow int32 = -1
	// DroppedRow marks a later row of an id that the same batch had before.
	DroppedRow int32 = -2
)

// Result is what the gate made of one batch.
type Result struct {
	Verdict market.Verdict
	// Reason says in a few words why a poll was rejected; "" otherwise.
	Reason string
	// Moving and Confirmed belong into the Env of the tick (see market.Env).
	Moving    uint64
	Confirmed market.Time
	// SourceTime is the newest source time among the quotes.
	SourceTime market.Time
	// Duplicates counts the rows dropped because an earlier row has their id.
	Duplicates int
	// Missing counts the tokens of the last accepted list that this poll lacks.
	Missing int
	// Lacking identifies their set where it is why the poll was rejected, else 0.
	Lacking uint64
	// Positions tells for every quote of the batch where the board holds its
	// token: the index in its shard, or NewRow or DroppedRow. It is valid until
	// the next Check.
	Positions []int32
}

// MaxRejectedPolls bounds the review list of rejected polls.
const MaxRejectedPolls = 64

// Rejected is one poll that was rejected whole, for the review list.
type Rejected struct {
	Time     market.Time // when the answer was complete
	Source   market.Source
	Position uint64 // replay: number of the poll; 0 when live
	Rows     uint32 // 0 where only the journal knew of it
	Reason   string
}

// Gate gives every poll its verdict against what the board shows. It is not
// safe for concurrent use.
type Gate struct {
	cfg Config

	// Slots hold the tokens of the last accepted list, in the provider's order,
	// and after them whatever else the poll at hand brought.
	slots []slot
	index map[market.ID]int32
	list  int    // slots in the last accepted list
	gen   uint32 // number of the current Check

	positions []int32
	twins     twins

	missHash uint64 // set of tokens that the poll before lacked
	missRun  int    // consecutive polls that lacked it

	moving    uint64
	confirmed market.Time
	sourced   market.Time // newest source time of the poll before
	changed   market.Time // when the last accepted poll that changed something arrived
	stillRun  int         // unchanged polls since

	rejected []Rejected // newest first
}

type slot struct {
	id    market.ID
	shard int32
	pos   int32  // where the board held it last; a hint
	seen  uint32 // gen of the last poll that had it
	on    bool   // in the last accepted list
}

// NewGate returns a gate that has seen nothing; members of cfg that are 0 take
// their defaults.
func NewGate(cfg Config) *Gate {
	return &Gate{cfg: cfg.withDefaults(), index: make(map[market.ID]int32)}
}

// tally is what one pass over the rows of a poll counts.
type tally struct {
	rows, known, kept int  // distinct rows, those on the board, those on the last list
	vanished          int  // rows with a zero or null where the board has a value
	moved             int  // rows that differ from the board in price or volume
	equal             int  // changed rows that are equal to another one
	same              bool // nothing differs from the board
	duplicates        int
	newest            market.Time
}

// Check gives the verdict on a batch. The board is the market before it, or
// nil; now is the engine's time.
func (g *Gate) Check(b *market.Batch, board *market.Board, now market.Time) Result {
	g.begin(len(b.Quotes))
	t := g.count(b, board)
	missing := g.list - t.kept
	reason := g.judge(&t, missing)
	r := Result{
		Verdict: market.Accepted, Reason: reason, SourceTime: min(t.newest, now.Add(g.cfg.FutureLimit)),
		Duplicates: t.duplicates, Missing: missing, Positions: g.positions,
	}
	switch {
	case reason != "":
		r.Verdict = market.Poisoned
		if reason == missingTokens {
			r.Lacking = g.missHash
		}
		g.reject(Rejected{Time: b.ReceivedAt, Source: b.Source, Position: b.Position, Rows: uint32(len(b.Quotes)), Reason: reason})
	case t.same && t.kept == t.rows && missing == 0:
		r.Verdict = market.Unchanged
		g.stand(b.ReceivedAt, t.rows, r.SourceTime)
	default:
		g.accept(b.ReceivedAt, &t, r.SourceTime)
	}
	r.Moving, r.Confirmed = g.moving, g.confirmed
	g.end(r.Verdict == market.Accepted)
	return r
}

func (g *Gate) begin(rows int) {
	g.gen++
	if cap(g.positions) < rows {
		g.positions = make([]int32, 0, rows)
	}
	g.positions = g.positions[:0]
	g.twins.reset(rows)
}

// chunk is how many rows are looked up before they are compared: a board does
// not fit a cache, and lookups that follow one another closely wait for memory
// together.
const chunk = 64

func (g *Gate) count(b *market.Batch, board *market.Board) tally {
	t := tally{same: true}
	if board == nil {
		board = &market.Board{}
	}
	var snaps [chunk]*market.Snapshot
	at := int32(0)
	for from := 0; from < len(b.Quotes); from += chunk {
		rows := b.Quotes[from:min(from+chunk, len(b.Quotes))]
		at = g.lookup(&t, rows, board, &snaps, at)
		for i := range rows {
			if g.positions[from+i] != DroppedRow {
				g.compare(&t, b, from+i, snaps[i])
			}
		}
	}
	return t
}

// lookup finds the snapshots of a chunk of rows, nil for tokens that the board
// does not hold. It begins at slot at, where the next row most likely is, and
// returns where the row after it most likely is.
func (g *Gate) lookup(t *tally, rows []market.Quote, board *market.Board, snaps *[chunk]*market.Snapshot, at int32) int32 {
	for i := range rows {
		g.ahead(at, board)
		id := rows[i].ID
		if int(at) >= len(g.slots) || g.slots[at].id != id {
			at = g.find(id)
		}
		s := &g.slots[at]
		at++
		if s.seen == g.gen {
			t.duplicates++
			g.positions = append(g.positions, DroppedRow)
			continue
		}
		s.seen = g.gen
		snaps[i] = s.lookup(board)
		g.positions = append(g.positions, s.pos)
		if s.on {
			t.kept++
		}
	}
	return at
}

const (
	// early is how many rows before its lookup a snapshot is asked for.
	early = 24
	// compared is how much of a snapshot a row is compared with, in bytes.
	compared = int(unsafe.Offsetof(market.Snapshot{}.AcceptedPrice))
)

// ahead asks for what the lookup of a later row will touch, if rows come in the
// order of the list.
func (g *Gate) ahead(at int32, board *market.Board) {
	if int(at)+early < len(g.slots) {
		cacheline.PrefetchFirst(g.slots[at+early].hinted(board), compared)
	}
}

// find returns the slot of an id, making one that is not on the list.
func (g *Gate) find(id market.ID) int32 {
	at, ok := g.index[id]
	if !ok {
		at = int32(len(g.slots))
		g.slots = append(g.slots, slot{id: id, pos: NewRow, seen: g.gen - 1})
		g.index[id] = at
	}
	return at
}

// lookup finds the token on the board, first where it was the last time.
func (s *slot) lookup(board *market.Board) *market.Snapshot {
	if snap := s.hinted(board); snap != nil && snap.ID == s.id {
		return snap
	}
	s.pos = NewRow
	if len(board.Shards) == 0 {
		return nil
	}
	s.shard = int32(market.ShardOf(s.id, len(board.Shards)))
	pos, ok := board.Index[s.shard][s.id]
	if !ok {
		return nil
	}
	s.pos = pos
	return board.Shards[s.shard][pos]
}

// hinted returns what the board holds where the token was the last time, nil
// for nothing. It does not look into it.
func (s *slot) hinted(board *market.Board) *market.Snapshot {
	if int(s.shard) >= len(board.Shards) || s.pos < 0 || int(s.pos) >= len(board.Shards[s.shard]) {
		return nil
	}
	return board.Shards[s.shard][s.pos]
}
