package tick

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/engine/token"
	"github.com/velocimeter/velocimeter/engine/window"
)

// Export appends the shard's tokens as of the end of the last tick to dst, and
// the closed hours whose samples changed since the export before.
func (s *Shard) Export(dst *market.Export) {
	for i, t := range s.tokens {
		blob := binary.AppendUvarint(nil, uint64(s.slots[i].gone))
		dst.Tokens = append(dst.Tokens, market.TokenState{ID: t.ID(), Blob: t.AppendState(blob), Newest: t.Window().Now()})
		for _, hour := range t.DirtyHours() {
			dst.Hours = append(dst.Hours, market.HourCells{ID: t.ID(), Hour: hour, Cells: t.HourCells(hour)})
		}
		t.ClearDirty()
	}
}

// Restore takes over a token from the store: its state and the samples of its
// closed hours, oldest first. The shard must not have the token yet. An error
// that wraps window.ErrCells says that samples are missing: the token is there,
// its windows hold what was given.
func (s *Shard) Restore(ts market.TokenState, cells []market.Cell) error {
	gone, n := binary.Uvarint(ts.Blob)
	if n <= 0 {
		return fmt.Errorf("cannot restore token %d: state of %d bytes is too short", ts.ID, len(ts.Blob))
	}
	if s.Has(ts.ID) {
		return fmt.Errorf("cannot restore token %d: it is there already", ts.ID)
	}
	t, err := token.DecodeWith(ts.ID, s.cfg, ts.Blob[n:], cells)
	if err != nil {
		err = fmt.Errorf("cannot restore token %d whole: %w", ts.ID, err)
		if t == nil || !errors.Is(err, window.ErrCells) {
			return err
		}
	}
	i := s.add(t)
	slot := &s.slots[i]
	slot.gone = market.Time(gone)
	slot.deadline = t.Deadline()
	if snap := t.Snapshot(); snap != nil {
		slot.cap, slot.vol = wholeUSD(snap.AcceptedCap), wholeUSD(snap.AcceptedVolume)
	}
	return err
}

// InfoOf returns the names that an exported token has, without restoring its
// windows; nil where it has none. The error says what is wrong with the state.
func InfoOf(ts market.TokenState) (*market.Info, error) {
	_, n := binary.Uvarint(ts.Blob)
	if n <= 0 {
		return nil, fmt.Errorf("cannot read names of token %d: state of %d bytes is too short", ts.ID, len(ts.Blob))
	}
	t, err := token.Decode(ts.ID, ts.Blob[n:], nil)
	if err != nil && !errors.Is(err, window.ErrCells) { // names need no samples
		return nil, fmt.Errorf("cannot read names of token %d: %w", ts.ID, err)
	}
	if s := t.Snapshot(); s != nil {
		return s.Info, nil
	}
	return nil, nil //nolint:nilnil // documented: a token that has no names
}

// refresh tells every token what the provider last said about all of them:
// the journal does not name tokens that were merely present.
func (s *Shard) refresh(env *market.Env) {
	s.begin(env, market.TickClock, market.Accepted)
	for i := range s.tokens {
		snap, mask := s.tokens[i].Clock(env)
		s.record(int32(i), snap, mask, nil)
	}
}

// Replay applies a journaled tick to the shard's own tokens and returns how
// many of them came out other than the journal says (0 unless the rules changed
// since it was written).
func (s *Shard) Replay(jt *market.JournalTick, mine func(market.ID) bool) (diverged int) {
	s.begin(&jt.Env, jt.Kind, jt.Verdict)
	s.quiet, s.poll = false, false // rows only: who was absent is in the journal
	for i := range jt.Rows {
		row := &jt.Rows[i]
		if !mine(row.ID) {
			continue
		}
		if s.replayRow(row) != row.Mask {
			diverged++
		}
	}
	for _, id := range jt.Back {
		if i, ok := s.index[id]; ok && mine(id) {
			s.slots[i].gone = 0
		}
	}
	for _, id := range jt.Absent {
		if i, ok := s.index[id]; ok && mine(id) {
			s.slots[i].gone = jt.Env.Now
		}
	}
	for _, id := range jt.Removed {
		if s.past != nil {
			s.retired[id] = struct{}{}
		}
		if i, ok := s.index[id]; ok && mine(id) {
			s.drop(i)
		}
	}
	return diverged
}

func (s *Shard) replayRow(row *market.JournalRow) market.Mask {
	before := len(s.changes)
	if row.Quote != nil {
		s.Step(row.Quote)
	} else if i, ok := s.index[row.ID]; ok {
		snap, mask := s.tokens[i].Clock(&s.env)
		s.record(i, snap, mask, nil)
	}
	if len(s.changes) == before {
		return 0
	}
	return s.changes[before].Mask
}

// engineVersion is the version of the engine blob's encoding.
const engineVersion = 1

// AppendState appends the market-wide counters as of the last sealed tick.
func (e *Engine) AppendState(dst []byte) []byte {
	dst = append(dst, engineVersion)
	dst = binary.AppendUvarint(dst, e.last.Seq) // not e.seq: numbers may have been skipped since
	dst = appendEnv(dst, &e.last)
	dst = binary.AppendVarint(dst, int64(e.board.SourceTime))
	dst = binary.AppendVarint(dst, int64(e.board.ReceivedAt))
	dst = binary.AppendUvarint(dst, e.rejections)
	dst = binary.AppendUvarint(dst, uint64(len(e.tombstones)))
	for _, t := range e.tombstones {
		dst = binary.AppendUvarint(dst, uint64(t.ID))
		dst = binary.AppendUvarint(dst, t.Seq)
		dst = binary.AppendVarint(dst, int64(t.Time))
	}
	return e.gate.AppendState(dst)
}

func appendEnv(dst []byte, v *market.Env) []byte {
	dst = binary.AppendVarint(dst, int64(v.Now))
	dst = binary.AppendVarint(dst, int64(v.ReceivedAt))
	dst = append(dst, byte(v.Source), boolByte(v.Simulated))
	dst = binary.AppendVarint(dst, int64(v.Cadence))
	dst = binary.AppendVarint(dst, v.TotalCap)
	dst = binary.AppendUvarint(dst, v.Moving)
	return binary.AppendVarint(dst, int64(v.Confirmed))
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Restore takes over the counters of a stored engine; tokens are restored by
// the shards, and Resume makes the board of both. Call it before the first tick.
func (e *Engine) Restore(blob []byte) error {
	c := quality.NewCursor(blob)
	if v := c.Byte(); v != engineVersion {
		return fmt.Errorf("cannot restore engine: state has version %d, this program reads %d", v, engineVersion)
	}
	seq := c.Uint()
	last := readEnv(c)
	last.Seq = seq
	sourceTime, receivedAt := market.Time(c.Int()), market.Time(c.Int())
	rejections := c.Uint()
	n := c.Uint()
	if n > uint64(c.Len()) {
		c.Fail("number of tombstones")
		n = 0
	}
	graves := make([]market.Tombstone, n)
	for i := range graves {
		graves[i] = market.Tombstone{ID: market.ID(c.Uint()), Seq: c.Uint(), Time: market.Time(c.Int())}
	}
	rest := c.Bytes(uint64(c.Len()))
	if err := c.Err(); err != nil {
		return fmt.Errorf("cannot restore engine: %w", err)
	}
	if err := e.gate.Restore(rest); err != nil {
		return fmt.Errorf("cannot restore engine: %w", err)
	}
	e.seq, e.last, e.rejections, e.tombstones = seq, last, rejections, graves
	e.board.SourceTime, e.board.ReceivedAt = sourceTime, receivedAt
	return nil
}

func readEnv(c *quality.Cursor) market.Env {
	return market.Env{
		Now: market.Time(c.Int()), ReceivedAt: market.Time(c.Int()),
		Source: market.Source(c.Byte()), Simulated: c.Byte() == 1,
		Cadence: market.Millis(c.Int()), TotalCap: c.Int(), Moving: c.Uint(), Confirmed: market.Time(c.Int()),
	}
}

// Replay follows a journaled tick that the shards have replayed.
func (e *Engine) Replay(jt *market.JournalTick) {
	e.gate.Replay(jt)
	e.seq, e.last = jt.Env.Seq, jt.Env
	if jt.Kind == market.TickPoll && jt.Verdict == market.Poisoned {
		e.rejections++
	}
	if jt.Kind == market.TickPoll && jt.Verdict != market.Poisoned {
		e.board.ReceivedAt = jt.Env.ReceivedAt
		e.board.SourceTime = max(e.board.SourceTime, jt.SourceTime)
	}
	e.bury(&market.Tick{Env: jt.Env, Removed: jt.Removed})
}

// Resume makes the board of restored shards, one part per shard in shard order,
// and continues with nextSeq.
func (e *Engine) Resume(nextSeq uint64, parts []Part) {
	t := &market.Tick{Env: e.last, Kind: market.TickClock}
	e.deadline = 0
	for i := range parts {
		e.deadline = earlier(e.deadline, parts[i].Deadline)
	}
	board := e.newBoard(t, parts)
	board.Seq = e.seq
	e.board = board
	e.seq = max(e.seq, nextSeq-1)
}
