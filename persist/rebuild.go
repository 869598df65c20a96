package persist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Rebuilt is what of the state was made anew from history, since what was stored
// of it was missing, damaged or of another version.
type Rebuilt struct {
	Engine  bool   // the engine's own
	Tokens  int    // tokens that came back from ticks and window cells
	Waiting int    // tokens of which no tick is left: their next quote shows them again
	From    uint64 // first tick that they were made of; 0 none
}

// Early yields the ticks before those of Journal, in order, from the first after
// which none is missing: what a state can be rebuilt from. Ticks are kept for two
// hours at least.
func (s *Store) Early(fn func(*market.JournalTick) error) error {
	first, err := s.runStart(s.rec.StateSeq)
	if err != nil || first == 0 {
		return err
	}
	return s.readTicks(first, s.rec.StateSeq, fn)
}

// runStart returns the first tick from which on all up to a seq are there and
// intact, but for lost ones; 0 where there is none.
func (s *Store) runStart(upTo uint64) (first uint64, err error) {
	last := uint64(0)
	err = scan(s.db, record.JournalKey(0), record.JournalKey(upTo+1), func(key, value []byte) error {
		seq, ok := record.JournalSeq(key)
		payload, err := record.Open(key, value)
		if err == nil {
			_, err = record.ReadHead(payload)
		}
		switch {
		case err != nil || !ok || inRanges(s.cutOff, seq):
			first = 0
			return nil //nolint:nilerr // a run begins behind it
		case first == 0 || !follows(s.rec.Lost, last, seq):
			first = seq
		}
		last = seq
		return nil
	})
	return first, err
}

// missingState sets a store whose state is gone to begin before the newest ticks
// that follow one another.
func (s *Store) missingState() error {
	oldest := uint64(0)
	err := scan(s.db, record.JournalKey(0), []byte{record.KindJournal + 1}, func(key, _ []byte) error {
		oldest, _ = record.JournalSeq(key)
		return errStop
	})
	if err != nil || oldest == 0 || follows(s.rec.Lost, 0, oldest) {
		return err // nothing was ever saved, or there is nothing to go by
	}
	s.rec.StateDamaged = true
	s.damaged(record.MetaKey(record.MetaState), fmt.Errorf("%w: the state is missing", ErrCorrupt))
	first, err := s.runStart(maxSeq)
	if err != nil || first == 0 {
		return err
	}
	s.state.seq = first - 1
	return nil
}

const maxSeq = ^uint64(0) - 1

// Cells reads window samples one token after another. It belongs to one
// goroutine, before anything is written.
type Cells struct {
	s             *Store
	snap          *pebble.Snapshot
	fine, last    *windowReader // every minute's samples, every 5 minutes'
	cells, coarse []market.Cell
}

// NewCells begins to read the samples of windows as of the newest durable tick.
func (s *Store) NewCells() *Cells {
	at := max(s.rec.Time, s.state.at, s.at)
	c := &Cells{s: s, snap: s.db.NewSnapshot(), fine: &windowReader{db: s.db, at: at}, last: &windowReader{db: s.db, at: at}}
	from, to := lastFrom(max(at.Add(-market.Hour), 0)), at.Add(market.Hour)
	c.fine.add(record.KindCells, from, to)
	c.last.add(record.KindLast, from, to)
	return c
}

// Of returns what is stored of a token's window before an instant, oldest first,
// valid until the next call: the samples of closed hours, and for the hour that
// was open in the state, and others of which no cells are there, what the rows of
// their minutes closed with: from the instant fresh on no sample is stored as a
// cell. Damaged samples are left out.
func (c *Cells) Of(id market.ID, before market.Time) (cells []market.Cell, fresh market.Time, err error) {
	cells, err = c.stored(id)
	from := max(record.Floor(before.Add(-fineBack), market.Hour), 0)
	if n := len(cells); n > 0 {
		from = max(from, record.Floor(cells[n-1].Time, market.Hour).Add(market.Hour))
	}
	if c.cells = cells; err != nil || from >= before {
		return cells, from, err
	}
	p := past{ctx: context.Background(), db: c.snap, id: id, durable: mark{seq: c.s.appended, at: c.s.at}, cutOff: c.s.cutOff, oldest: from}
	if err := p.readRoll(); err != nil {
		return cells, from, err
	}
	err = p.stream(market.Granularity1m, from, min(before, p.durable.at+1), func(t market.Time, r *record.Row) error {
		if r.Flags&keptOut == 0 {
			cells = append(cells, market.Cell{
				Time: t.Add(market.Minute / 2), Price: float32(r.Price.Close.Float()),
				Volume: float32(r.Volume.Close.Float()), Velocity: float32(r.Velocity.Close.Float()),
			})
		}
		return nil
	})
	c.cells = cells
	return cells, from, err
}

// stored returns the samples of closed hours, as fine as they are kept.
func (c *Cells) stored(id market.ID) (cells []market.Cell, err error) {
	read := func(w *windowReader, into []market.Cell) []market.Cell {
		for i := range w.days {
			w.days[i].begun = false
		}
		into, bad := w.read(into[:0], &market.TokenState{ID: id, Newest: w.at})
		err = errors.Join(err, bad)
		return into
	}
	c.coarse = read(c.last, c.coarse)
	fine := read(c.fine, nil)
	hour := func(at market.Time) market.Time { return record.Floor(at, market.Hour) }
	cells = c.cells[:0]
	for _, x := range c.coarse {
		for len(fine) > 0 && hour(fine[0].Time) < hour(x.Time) {
			cells, fine = append(cells, fine[0]), fine[1:]
		}
		if len(fine) == 0 || hour(fine[0].Time) != hour(x.Time) {
			if n := len(cells); n == 0 || cells[n-1].Time < x.Time {
				cells = append(cells, x)
			}
		}
	}
	return append(cells, fine...), err
}

// keptOut are the flags of samples that are kept out of windows.
const keptOut = market.FlagOutlierPrice | market.FlagOutlierCap | market.FlagOutlierVolume

// IDs returns the tokens that have samples, ascending.
func (c *Cells) IDs() ([]market.ID, error) {
	ids := map[market.ID]struct{}{}
	days := slices.Concat(c.fine.days, c.last.days)
	for i := range days {
		d := &days[i]
		for ok := d.it.First(); ok; {
			_, id, _, known := record.ParseChunkKey(d.it.Key())
			if !known {
				return nil, fmt.Errorf("%w: key %x", ErrCorrupt, d.it.Key())
			}
			ids[id] = struct{}{}
			ok = d.it.SeekGE(record.ChunkKey(d.kind, d.day, id, 255))
		}
		if err := d.it.Error(); err != nil {
			return nil, storeError(err)
		}
	}
	return slices.Sorted(maps.Keys(ids)), nil
}

// Close lets go of the store; errors of reading are among what it returns.
func (c *Cells) Close() error {
	return errors.Join(append([]error{c.fine.close(), c.last.close(), c.snap.Close()}, slices.Concat(c.fine.damage, c.last.damage)...)...)
}

// NoteRebuilt writes down that the state was made anew: what it derives need not be,
// to the bit, what clients were shown, so that no position of before can be gone
// on from. Call it before the first tick.
func (s *Store) NoteRebuilt(r Rebuilt) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	s.rec.Rebuilt, s.rec.Anew = &r, s.rec.NextSeq-1
	s.log.Warn("state was rebuilt from history", "lineage", s.opts.Lineage, "engine", r.Engine, "tokens", r.Tokens,
		"waiting", r.Waiting, "from_seq", r.From, "durable_seq", s.rec.DurableSeq)
	if err := s.writable(); err != nil {
		return err
	}
	return s.putMeta(record.MetaAnew, record.AppendNumbers(nil, s.rec.Anew))
}
