package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// How far back window cells are kept and loaded, from a window's newest sample,
// which for most tokens is at the state's instant: windows reach back 24 h in
// minutes and 7 d in 5 minutes, a base may be a quarter of 7 d older, and closed
// hours need a margin.
const (
	fineBack  = 24 * market.Hour
	lastBack  = 8*market.Day + 18*market.Hour
	lastWidth = 5 * market.Minute
)

// fineFrom and lastFrom are the first hours whose cells a window needs.
func fineFrom(newest market.Time) market.Time {
	return max(record.Floor(newest, market.Hour).Add(-fineBack), 0)
}

func lastFrom(newest market.Time) market.Time {
	return max(record.Floor(newest, market.Hour).Add(-lastBack), 0)
}

// Save replaces the stored state in one step, after committing every tick up to
// it, and is durable when it returns. Hours of tokens that the state does not
// have are left out; those of others must be of their present lives. Errors:
// ErrOrder where the state is not one of a tick appended, ErrNoSpace, ErrFatal.
func (s *Store) Save(e *market.Export) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.roomy(); err != nil {
		return fmt.Errorf("cannot save the state of tick %d: %w", e.Seq, err)
	}
	if e.Seq > s.appended || e.Seq < s.state.seq {
		return fmt.Errorf("%w: state of tick %d, newest tick is %d", ErrOrder, e.Seq, s.appended)
	}
	if err := s.commit(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	kept, err := s.putState(b, e)
	if err != nil {
		return fmt.Errorf("cannot save the state of tick %d: %w", e.Seq, err)
	}
	lost, skipped, err := s.putLost(b, e.Seq)
	if err != nil {
		return fmt.Errorf("cannot save the state of tick %d: %w", e.Seq, err)
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return err
	}
	s.state = stateMark{seq: e.Seq, at: e.Time, filed: s.at, position: s.position, tokens: uint64(len(kept))}
	s.tokens, s.lost, s.skipped = kept, lost, skipped
	clear(s.retired)
	s.stats.saves.Add(1)
	s.stats.state.Store(e.Seq)
	if s.durable.Load().seq == s.appended {
		return nil
	}
	return s.reach()
}

// putLost notes the ticks up to the state that there was no space for: what they
// changed is in the state, so nothing that comes after depends on them. Those
// behind it stay: without a state a restart must not go on across them.
func (s *Store) putLost(b *pebble.Batch, seq uint64) (lost, skipped []LostRange, err error) {
	if lost = s.lost; lost == nil {
		lost = s.rec.Lost
	}
	for _, r := range s.skipped {
		if r.To > seq {
			skipped = append(skipped, r)
			continue
		}
		lost = record.AddLost(lost, r)
	}
	if len(skipped) == len(s.skipped) {
		return lost, skipped, nil
	}
	return lost, skipped, s.setMeta(b, record.MetaLost, record.AppendLost(nil, lost))
}

func (s *Store) putState(b *pebble.Batch, e *market.Export) (map[market.ID]struct{}, error) {
	kept := make(map[market.ID]struct{}, len(e.Tokens))
	set := record.StateSet{Seq: e.Seq, Tokens: make(map[market.ID]uint32, len(e.Tokens))}
	for i := range e.Tokens {
		t := &e.Tokens[i]
		kept[t.ID] = struct{}{}
		if err := s.put(b, record.StateKey(t.ID), func(dst []byte) []byte {
			return append(record.AppendNumbers(dst, uint64(max(t.Newest, 0))), t.Blob...)
		}); err != nil {
			return nil, err
		}
		set.Tokens[t.ID] = record.Sum(s.value)
	}
	for id := range s.tokens {
		if _, ok := kept[id]; ok {
			continue
		}
		if err := b.Delete(record.StateKey(id), nil); err != nil {
			return nil, err
		}
		s.retired[id] = struct{}{}
	}
	// Cells of a token's former life must not enter the windows of its next.
	for id := range s.retired {
		s.dropCells(b, id, e.Time)
	}
	if err := s.putCells(b, e.Hours, kept); err != nil {
		return nil, err
	}
	if err := errors.Join(s.cutCells(b, e, record.KindCells, fineFrom), s.cutCells(b, e, record.KindLast, lastFrom)); err != nil {
		return nil, err
	}
	if err := s.put(b, []byte{record.KindEngine}, func(dst []byte) []byte { return append(dst, e.Engine...) }); err != nil {
		return nil, err
	}
	set.Engine = record.Sum(s.value)
	if err := s.put(b, record.MetaKey(record.MetaSet), set.Append); err != nil {
		return nil, err
	}
	payload := record.AppendNumbers(nil, e.Seq, uint64(e.Time), s.position, uint64(len(kept)), uint64(s.at))
	return kept, s.setMeta(b, record.MetaState, payload)
}

func (s *Store) dropCells(b *pebble.Batch, id market.ID, now market.Time) {
	for _, kind := range []byte{record.KindCells, record.KindLast} {
		for day := dayOf(lastFrom(max(now.Add(-market.Hour), 0))); day <= dayOf(now); day++ {
			// An in-memory batch cannot refuse a range.
			_ = b.DeleteRange(record.ChunkKey(kind, day, id, 0), record.ChunkKey(kind, day, id, 24), nil)
		}
	}
}

// cutCells drops the cells of days that no window reaches back to. A token that
// has been kept out of its window for long, or is silent, still needs the days
// before its newest sample: where there are such, keys are dropped one by one.
func (s *Store) cutCells(b *pebble.Batch, e *market.Export, kind byte, from func(market.Time) market.Time) error {
	// An hour's margin: the newest samples of most are a little older than the state.
	day := dayOf(from(max(e.Time.Add(-market.Hour), 0)))
	if day <= s.cuts[kind] {
		return nil
	}
	needed := map[market.ID]uint32{}
	for i := range e.Tokens {
		if t := &e.Tokens[i]; t.Newest > 0 && dayOf(from(t.Newest)) < day {
			needed[t.ID] = dayOf(from(t.Newest))
		}
	}
	start, end := record.PeriodKey(kind, 0), record.PeriodKey(kind, day)
	s.cuts[kind] = day
	if len(needed) == 0 {
		return b.DeleteRange(start, end, nil)
	}
	return scan(s.db, start, end, func(key, _ []byte) error {
		of, id, _, _ := record.ParseChunkKey(key)
		if first, ok := needed[id]; ok && of >= first {
			return nil
		}
		return b.Delete(key, nil)
	})
}

// putCells writes the hours of the tokens that are kept. An export that was made
// up for a failed one may hold hours of a token that has retired since.
func (s *Store) putCells(b *pebble.Batch, hours []market.HourCells, kept map[market.ID]struct{}) error {
	var last []market.Cell
	for i := range hours {
		h := &hours[i]
		if _, ok := kept[h.ID]; !ok || h.Hour < 0 {
			continue
		}
		day, part := dayOf(h.Hour), byte(hourOfDay(h.Hour))
		last = record.LastOfCells(last[:0], h.Cells, lastWidth)
		for _, c := range []struct {
			kind  byte
			cells []market.Cell
		}{{record.KindCells, h.Cells}, {record.KindLast, last}} {
			err := s.put(b, record.ChunkKey(c.kind, day, h.ID, part), func(dst []byte) []byte {
				return record.AppendCells(dst, h.Hour, c.cells)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
