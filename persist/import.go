package persist

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// ImportPolicy says what becomes of a row that the lineage has with other values.
type ImportPolicy uint8

// The policies.
const (
	// ImportStop is for a caller that writes nothing where there is a conflict.
	ImportStop ImportPolicy = iota
	// ImportKeep leaves what is there.
	ImportKeep
	// ImportReplace takes what the file says.
	ImportReplace
)

// ImportOptions say how rows are imported.
type ImportOptions struct {
	Granularity market.Granularity
	Policy      ImportPolicy
	// Write is false where it is only asked what would happen.
	Write bool
	// Newest is the beginning of the newest row of all, and Now the clock's time:
	// where no tick says what is over, they do.
	Newest, Now market.Time
	// Retention is the store's; what is older is refused.
	Retention Retention
	// Conflict is told of every one.
	Conflict func(*ImportConflict)
}

// ImportRow is a row from elsewhere. Of raw points Close, Seq and Flags count.
type ImportRow struct {
	Line   int
	ID     market.ID
	Symbol string
	Point  market.Point
}

// ImportConflict is a row that the lineage has with other values.
type ImportConflict struct {
	Line        int // first that speaks of it
	ID          market.ID
	Time        market.Time
	Granularity market.Granularity
	There, File market.Point
	// Made says that the file's point is one that its finer rows make.
	Made bool
}

// ImportSum counts what became of the rows. Raw ones count as the minutes they make.
type ImportSum struct {
	Rows      uint64 // given to Add
	Minutes   uint64 // that raw rows made
	Tokens    uint64
	Written   uint64 // or would be
	There     uint64 // already, the same
	Conflicts uint64
	Rounded   uint64 // rows with more digits than history keeps
	Old       uint64 // refused: beyond retention
	Open      uint64 // refused: not over
	Finer     uint64 // refused: 15 min or 4 h where finer rows are, which make them
}

// Import puts rows of one granularity into a lineage. Rows come by ascending id,
// those of a token in order of time. Every day of a token (32 days for daily rows)
// is written in one step with what is derived from it, so an import that was cut
// short leaves whole days, and is done again.
type Import struct {
	s   *Store // nil: nothing is there yet
	o   ImportOptions
	p   *past
	b   *pebble.Batch
	err error

	oldest      market.Time // that is kept
	hours, days market.Time // rows that end by then are over
	rolled      roll        // to be
	born        market.Time // of the lineage, 0 unknown
	coarse      stretch     // where coarser rows than minutes were imported

	sum   ImportSum
	unit  importUnit
	id    market.ID // newest
	named market.ID // whose symbol was seen to
	name  string

	acc    record.Acc // raw rows of one minute
	minute market.Time
	line   int
}

// NewImport begins an import. s may be nil, for an empty lineage, where nothing is
// written; it is read only then too, or opened by Open. End must be called.
// Errors: ErrNoSpace, ErrReadOnly, ErrFatal, ErrCorrupt.
func NewImport(ctx context.Context, s *Store, o ImportOptions) (*Import, error) {
	i := &Import{s: s, o: o}
	i.unit.i = i
	if s == nil {
		i.limits(mark{}, roll{})
		return i, nil
	}
	if o.Write {
		if _, err := s.Commit(); err != nil {
			return nil, err
		}
		if err := s.importable(); err != nil {
			return nil, err
		}
	}
	s.writer.Lock()
	defer s.writer.Unlock()
	i.limits(*s.durable.Load(), s.rolled)
	i.born = market.Time(s.born.Load())
	var err error
	if i.coarse, err = coarseStretch(s.db); err != nil {
		return nil, err
	}
	if o.Write {
		if err := i.begin(); err != nil {
			return nil, err
		}
		i.b = s.db.NewIndexedBatch()
	}
	durable := *s.durable.Load()
	durable.at = max(durable.at, i.rolled.hours-1)
	i.p = &past{ctx: ctx, db: s.db.NewSnapshot(), durable: durable, cutOff: s.cutOff}
	if err := i.p.readRoll(); err != nil {
		return nil, errors.Join(err, i.p.db.Close())
	}
	return i, nil
}

// importable says why nothing can be imported now, or nil.
func (s *Store) importable() error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	return s.roomy()
}

// limits finds out what is over and what is kept. Where there are ticks the
// newest one says it; else the newest row does, as far as the clock has come.
func (i *Import) limits(newest mark, rolled roll) {
	i.rolled = rolled
	if newest.seq > 0 {
		if !i.o.Write { // otherwise Commit has moved what is over
			i.rolled.hours = max(rolled.hours, record.Floor(newest.at, market.Hour))
		}
		i.hours = i.rolled.hours
	} else {
		i.hours = max(rolled.hours, record.Floor(i.o.Now, market.Hour))
		end := ceil(i.o.Newest.Add(max(i.o.Granularity.Width(), 1)), market.Hour)
		i.rolled.hours = max(rolled.hours, min(end, i.hours))
		newest.at = i.rolled.hours - 1
	}
	i.days = record.Floor(i.hours, market.Day)
	i.rolled.days = max(rolled.days, record.Floor(i.rolled.hours, market.Day))
	g := i.o.Granularity
	if g == market.GranularityRaw {
		g = market.Granularity1m
	}
	i.oldest = max(i.o.Retention.oldest(g, newest.at), 0)
}

// begin makes readers use the chunks that are to come. Days that are over now and
// hold hours get their rows first.
func (i *Import) begin() error {
	s := i.s
	if i.rolled == s.rolled {
		return nil
	}
	if err := s.closeDays(i.rolled.hours); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.put(b, record.MetaKey(record.MetaRoll), i.rolled.append); err != nil {
		return err
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return err
	}
	s.rolled = i.rolled
	s.at = max(s.at, i.rolled.hours-1)
	d := *s.durable.Load()
	s.durable.Store(&mark{seq: d.seq, at: max(d.at, i.rolled.hours-1)})
	return nil
}

// Add takes the next row.
func (i *Import) Add(r *ImportRow) error {
	if i.err != nil {
		return i.err
	}
	i.sum.Rows++
	if r.ID != i.id {
		i.fold() // the minute of the token before
		i.id = r.ID
		i.sum.Tokens++
	}
	i.setName(r.Symbol)
	if i.o.Granularity == market.GranularityRaw {
		i.addRaw(r)
		return i.err
	}
	row, rounded := record.RowOf(&r.Point)
	if rounded {
		i.sum.Rounded++
	}
	i.add(r.Line, r.Point.Time, &row)
	return i.err
}

func (i *Import) addRaw(r *ImportRow) {
	p := &r.Point
	minute := record.Floor(p.Time, market.Minute)
	if i.acc.Count() > 0 && minute != i.minute {
		i.fold()
	}
	if i.acc.Count() == 0 {
		i.minute, i.line = minute, r.Line
	}
	i.acc.Add(&record.Sample{Price: p.Price.Close, Cap: p.Cap.Close, Volume: p.Volume.Close, Velocity: p.Velocity.Close, Flags: p.Flags &^ record.Marks})
}

// fold ends the minute that raw rows made.
func (i *Import) fold() {
	if i.acc.Count() == 0 {
		return
	}
	row := i.acc.Row(0)
	i.acc = record.Acc{}
	i.sum.Minutes++
	i.add(i.line, i.minute, &row)
}

// add gathers the rows of one day.
func (i *Import) add(line int, at market.Time, row *record.Row) {
	if at < i.oldest {
		i.sum.Old++
		return
	}
	if i.err != nil {
		return
	}
	width := market.Day
	if i.o.Granularity == market.Granularity1d {
		width *= monthDays
	}
	u := &i.unit
	if start := record.Floor(at, width); len(u.rows) > 0 && (u.id != i.id || u.start != start) {
		i.flush()
	}
	u.id, u.start = i.id, record.Floor(at, width)
	u.rows = append(u.rows, importLine{line: line, at: at, row: *row})
}

func (i *Import) flush() {
	if len(i.unit.rows) == 0 || i.err != nil {
		return
	}
	err := i.unit.run()
	i.unit.rows = i.unit.rows[:0]
	if err != nil {
		i.err = fmt.Errorf("cannot import history of token %d: %w", i.unit.id, err)
	}
}

// setName keeps the symbol of a token that no state knows.
func (i *Import) setName(symbol string) {
	if symbol == "" || i.s == nil || !i.o.Write || i.err != nil {
		return
	}
	if i.named == i.id && i.name == symbol {
		return
	}
	i.named, i.name = i.id, symbol
	if _, known := i.s.tokens[i.id]; known {
		return
	}
	old, err := i.s.nameOf(i.b, i.id)
	if err == nil && old != symbol {
		err = i.s.put(i.b, record.NameKey(i.id), func(dst []byte) []byte { return append(dst, symbol...) })
	}
	i.err = err
}

// End writes what is left, and has it on disk when it returns. After an error
// what was written before it stays. It must be called once.
func (i *Import) End() (ImportSum, error) {
	i.fold()
	i.flush()
	if i.p != nil {
		i.err = errors.Join(i.err, i.p.db.Close())
	}
	if i.b != nil {
		if i.err == nil {
			i.err = i.apply()
		}
		i.err = errors.Join(i.err, i.b.Close())
		if err := i.s.db.LogData(nil, pebble.Sync); err != nil {
			i.s.h.fail(err)
		}
		if i.err = errors.Join(i.err, i.s.h.err()); i.err == nil {
			// No tick would tell that the end of the log is gone, so the rows do not stay there.
			i.err = i.s.h.guard(i.s.db.Flush)
		}
	}
	return i.sum, i.err
}

// wrote notes from when to when there are rows.
func (i *Import) wrote(at market.Time) {
	i.sum.Written++
	if !i.o.Write {
		return
	}
	if i.born == 0 || at < i.born {
		i.born = max(at, 1)
		i.err = errors.Join(i.err, i.s.setMeta(i.b, record.MetaBorn, record.AppendNumbers(nil, uint64(i.born))))
	}
	c := i.coarse
	if g := i.grain(); g > market.Granularity1m {
		if c.to == 0 {
			c.from = at
		}
		c.from, c.to = min(c.from, at), max(c.to, at.Add(g.Width()))
	}
	if c != i.coarse {
		i.coarse = c
		i.err = errors.Join(i.err, i.s.setMeta(i.b, record.MetaCoarse, record.AppendNumbers(nil, uint64(c.from), uint64(c.to))))
	}
}

// stretch is from ≤ time < to.
type stretch struct{ from, to market.Time }

func (s stretch) meets(from, to market.Time) bool { return s.from < to && from < s.to }

// add makes a stretch reach over another.
func (s *stretch) add(o stretch) {
	if *s == (stretch{}) {
		*s = o
	}
	s.from, s.to = min(s.from, o.from), max(s.to, o.to)
}

// coarseStretch returns where rows were imported that have no finer ones beneath.
func coarseStretch(r pebble.Reader) (stretch, error) {
	payload, err := getMeta(r, record.MetaCoarse)
	if err != nil || payload == nil {
		return stretch{}, err
	}
	n, err := record.ReadNumbers(payload, 2)
	if err != nil {
		return stretch{}, fmt.Errorf("cannot read meta record %q: %w", record.MetaCoarse, corrupt(err))
	}
	return stretch{from: n.Time(0), to: n.Time(1)}, nil
}

// apply hands the batch on.
func (i *Import) apply() error {
	s := i.s
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if i.b.Empty() {
		return nil
	}
	if err := s.roomy(); err != nil {
		return err
	}
	s.born.Store(int64(i.born))
	return s.apply(i.b, pebble.NoSync)
}

// nameOf returns an imported token's symbol, "" unknown.
func (s *Store) nameOf(r pebble.Reader, id market.ID) (symbol string, err error) {
	key := record.NameKey(id)
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read key %x: %w", key, storeError(err))
	}
	payload, err := record.Open(key, value)
	return string(payload), errors.Join(corrupt(err), closer.Close())
}

// Names yields the symbols of tokens whose history was imported, by ascending id.
func (s *Store) Names(fn func(id market.ID, symbol string)) error {
	return scan(s.db, record.NameKey(0), append(record.NameKey(math.MaxUint32), 0), func(key, value []byte) error {
		payload, err := record.Open(key, value)
		id, ok := record.NameID(key)
		if err != nil || !ok {
			return errors.Join(corrupt(err), fmt.Errorf("%w: key %x", ErrCorrupt, key))
		}
		fn(id, string(payload))
		return nil
	})
}
