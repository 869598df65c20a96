package persist

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// errQuery marks a query that no caller should have let through.
var errQuery = errors.New("bad history query")

// History answers from what is durable; a page and the store's next commit do
// not mix. It may be called from any goroutine. A value that does not check out
// makes it an error, never a shorter answer. Errors: ErrCorrupt, ErrClosed, the
// context's.
func (s *Store) History(ctx context.Context, q market.HistoryQuery) (*market.HistoryPage, error) {
	page := &market.HistoryPage{}
	if err := s.readHistory(ctx, q, page, nil); err != nil {
		return nil, err
	}
	return page, nil
}

// EachPoint is History point by point, so that the page is nowhere in memory as
// a whole: page.Points stays as it is. A point is valid during its call only;
// page then holds DurableSeq, Truncated and the gaps in front of the point, which
// each may take out, and the rest once EachPoint returns. An error of each ends
// it and is its error.
func (s *Store) EachPoint(ctx context.Context, q market.HistoryQuery, page *market.HistoryPage, each func(*market.Point) error) error {
	return s.readHistory(ctx, q, page, each)
}

// readHistory collects the points in the page where each is nil.
func (s *Store) readHistory(ctx context.Context, q market.HistoryQuery, page *market.HistoryPage, each func(*market.Point) error) error {
	if q.Limit < 1 || q.Granularity >= market.NumGranularities {
		return fmt.Errorf("%w: limit %d, granularity %d", errQuery, q.Limit, q.Granularity)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	// The mark first: the snapshot may then hold more, which is filtered, never less.
	durable, pending := s.durable.Load(), s.stats.appended.Load()
	snap := s.db.NewSnapshot()
	p := past{
		ctx: ctx, db: snap, id: q.ID, durable: *durable, cutOff: s.cutOff,
		pending: pending > durable.seq, oldest: s.opts.Retention.oldest(q.Granularity, durable.at),
		pages: pages{page: page, limit: q.Limit, each: each},
	}
	page.Truncated = p.truncated(q, durable.at, market.Time(s.born.Load()))
	err := p.read(q)
	if err := errors.Join(err, snap.Close()); err != nil {
		return fmt.Errorf("cannot read history of token %d: %w", q.ID, err)
	}
	page.Lost = s.rec.Mended.lostIn(&q, page)
	return nil
}

// truncated reports whether retention has dropped some of what was asked for
// and once recorded, or some of it is not durable yet.
func (p *past) truncated(q market.HistoryQuery, durable, born market.Time) bool {
	return q.To > durable && p.pending || max(q.From, born) < min(q.To, p.oldest)
}

// past reads one token's history as of one instant.
type past struct {
	ctx     context.Context
	db      *pebble.Snapshot
	id      market.ID
	durable mark
	pending bool        // more was appended than is durable
	oldest  market.Time // retention keeps nothing before it
	cadence market.Millis
	rolled  roll
	cutOff  []LostRange
	rows    []record.Row
	pages
}

// pages counts points up to the limit and hands them on.
type pages struct {
	page     *market.HistoryPage
	limit    int
	each     func(*market.Point) error // nil: into the page
	n        int
	last     market.Time // of the newest point
	from, to market.Time // what points are looked for in; 0 raw
}

// full ends the page before a point.
func (p *pages) full() error {
	p.page.Next = p.last
	return errStop
}

func (p *pages) gap(from, to market.Time) {
	p.page.Gaps = append(p.page.Gaps, market.Gap{From: from, To: to})
}

// give hands the point on.
func (p *pages) give(point *market.Point) error {
	p.n++
	p.last = point.Time
	if p.each != nil {
		return p.each(point)
	}
	points := &p.page.Points
	if n := len(*points); n == cap(*points) && p.to != 0 {
		*points = slices.Grow(*points, growth(n, p.last.Sub(p.from), p.to.Sub(p.from), p.limit))
	}
	*points = append(*points, *point)
	return nil
}

// firstPoints are those that a page has room for from its first one on.
const firstPoints = 48

// growth is for how many more points than n a page needs room: as many as the
// rest of the stretch has if they go on as in what is done of it. Points are
// large, so copying them over and over would cost more than reading them.
func growth(n int, done, whole market.Millis, limit int) int {
	rest := firstPoints
	if n > 0 && done > 0 {
		rest = max(rest, int(1.02*float64(n)*float64(whole-done)/float64(done))+8)
	}
	return min(rest, limit-n)
}

// emit takes the row that begins at t.
type emit func(t market.Time, r *record.Row) error

func (p *past) read(q market.HistoryQuery) error {
	p.page.DurableSeq = p.durable.seq
	if q.To <= q.From || p.durable == (mark{}) {
		return nil
	}
	if err := p.readRoll(); err != nil {
		return err
	}
	p.page.DurableSeq = p.durable.seq
	end, err := p.end(q.To)
	if err != nil {
		return err
	}
	if q.Granularity == market.GranularityRaw {
		err = p.raw(q, end)
	} else {
		err = p.bars(q, end)
	}
	if errors.Is(err, errStop) {
		err = nil
	}
	return err
}

// readRoll finds out how far chunks go.
func (p *past) readRoll() error {
	rolled, err := getMeta(p.db, record.MetaRoll)
	if err != nil || rolled == nil {
		return err
	}
	n, err := record.ReadNumbers(rolled, 3)
	if err != nil {
		return corrupt(err)
	}
	p.rolled = roll{hours: n.Time(0), days: n.Time(1), seq: n[2]}
	// Chunks are made of durable ticks only, the newest possibly newer than the mark.
	p.durable.seq = max(p.durable.seq, p.rolled.seq)
	p.durable.at = max(p.durable.at, p.rolled.hours-1)
	return nil
}

// gapCadences is after how many cadences without a point the raw history shows
// a gap, and any history one behind the newest tick.
const gapCadences = 3

// end returns the instant up to which the answer speaks: what was not appended
// by then never will be. Behind the newest tick that is only so where the next
// one is overdue, and nothing waits to become durable.
func (p *past) end(to market.Time) (market.Time, error) {
	err := p.ticks(p.durable.seq, func(head *record.Head) error {
		p.cadence = head.Tick.Env.Cadence
		return nil
	})
	known := p.durable.at + 1
	if to > known && (p.pending || to.Sub(known) <= gapCadences*p.cadence) {
		to = known
	}
	return to, err
}

// bars lists gaps as it meets the points behind them, so a page speaks of the
// stretch up to its last point, and the last page of the one up to end.
func (p *past) bars(q market.HistoryQuery, end market.Time) error {
	width := q.Granularity.Width()
	cursor := ceil(q.From, width)
	if q.After != 0 {
		cursor = max(cursor, record.Floor(q.After, width).Add(width))
	}
	from, to := max(cursor, p.oldest), ceil(min(q.To, p.durable.at+1), width)
	p.from, p.to = from, to
	err := p.stream(q.Granularity, from, to, func(t market.Time, r *record.Row) error {
		if r.Flags&record.Wide != 0 { // of 15 min or 4 h: coarser than what was asked for
			return nil
		}
		if p.n == p.limit {
			return p.full()
		}
		if t > cursor {
			p.gap(cursor, t)
		}
		cursor = t.Add(width)
		return p.give(r.Place(t))
	})
	if p.page.Next == 0 && cursor < end {
		p.gap(cursor, end)
	}
	return err
}

func ceil(t market.Time, width market.Millis) market.Time {
	if f := record.Floor(t, width); f != t {
		return f.Add(width)
	}
	return t
}

// stream yields the rows of a granularity: stored ones as far as they go, then
// those made of the next finer ones. 5 min and 1 h are made of minutes, 15 min
// of 5 min, 4 h and 1 d of hours, always of their rounded rows, so that a point
// is the same before and after it is stored.
func (p *past) stream(g market.Granularity, from, to market.Time, yield emit) error {
	if from >= to {
		return nil
	}
	switch g {
	case market.Granularity1m:
		return p.minutes(from, to, yield)
	case market.Granularity5m:
		return p.stored(record.KindFive, g, market.Granularity1m, p.rolled.hours, from, to, yield)
	case market.Granularity1h:
		return p.stored(record.KindDay, g, market.Granularity1m, p.rolled.hours, from, to, yield)
	case market.Granularity15m:
		return p.merged(g, market.Granularity5m, from, to, yield)
	case market.Granularity4h:
		return p.merged(g, market.Granularity1h, from, to, yield)
	default:
		return p.stored(record.KindMonth, g, market.Granularity1h, p.rolled.days, from, to, yield)
	}
}

// stored yields chunk rows before the instant done, and merged ones after it.
func (p *past) stored(kind byte, g, finer market.Granularity, done, from, to market.Time, yield emit) error {
	if from < done {
		if err := p.chunks(kind, from, min(to, done), yield); err != nil {
			return err
		}
	}
	if from = max(from, done); from >= to {
		return nil
	}
	return p.merged(g, finer, from, to, yield)
}

func (p *past) merged(g, finer market.Granularity, from, to market.Time, yield emit) error {
	width := g.Width()
	var m record.Merge
	var start market.Time
	flush := func() error {
		if m.Empty() {
			return nil
		}
		row := m.Row(0)
		m = record.Merge{}
		return yield(start, &row)
	}
	err := p.stream(finer, from, to, func(t market.Time, r *record.Row) error {
		if at := record.Floor(t, width); m.Empty() || at != start {
			if err := flush(); err != nil {
				return err
			}
			start = at
		}
		m.Add(r)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// minutes yields the 1-minute rows: of chunks, of the minute blocks of hours
// that are not over, and of the journal for what no block holds yet.
func (p *past) minutes(from, to market.Time, yield emit) error {
	if from < p.rolled.hours {
		if err := p.chunks(record.KindHour, from, min(to, p.rolled.hours), yield); err != nil {
			return err
		}
	}
	if to <= p.rolled.hours {
		return nil
	}
	next := p.rolled.seq + 1
	start, end := record.TimeKey(record.KindMinute, p.rolled.hours), record.TimeKey(record.KindMinute, maxTime)
	err := scan(p.db, start, end, func(key, value []byte) error {
		minute, _, last, err := minuteSeqs(key, value)
		if err != nil {
			return err
		}
		if last > p.durable.seq || minute >= to {
			return errStop
		}
		next = last + 1
		if minute < from {
			return nil
		}
		return p.block(minute, yield)
	})
	if err != nil {
		return err
	}
	return p.tail(next, from, to, yield)
}

func (p *past) block(minute market.Time, yield emit) error {
	key := record.BlockKey(minute, record.Group(p.id))
	value, closer, err := p.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read block %x: %w", key, storeError(err))
	}
	p.rows = p.rows[:0]
	payload, err := record.Open(key, value)
	if err == nil {
		err = record.ReadBlock(payload, p.id, func(_ market.ID, row record.Row) { p.rows = append(p.rows, row) })
	}
	if err := errors.Join(corrupt(err), closer.Close()); err != nil {
		return err
	}
	for i := range p.rows {
		if err := yield(minute, &p.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// tail adds up the durable ticks from a seq on.
func (p *past) tail(seq uint64, from, to market.Time, yield emit) error {
	var acc record.Acc
	var minute market.Time
	flush := func() error {
		if acc.Count() == 0 {
			return nil
		}
		row := acc.Row(0)
		acc = record.Acc{}
		return yield(minute, &row)
	}
	err := p.ticks(seq, func(head *record.Head) error {
		at := record.Floor(head.At, market.Minute)
		if at < from {
			return nil
		}
		if at >= to {
			return errStop
		}
		sample, ok, err := head.Find(p.id)
		if err != nil || !ok {
			return corrupt(err)
		}
		if at != minute {
			if err := flush(); err != nil {
				return err
			}
			minute = at
		}
		acc.Add(&sample)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
