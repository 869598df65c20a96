package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// layout says what a chunk of a kind covers.
type layout struct {
	days   uint32        // of a period
	rows   int32         // of a chunk
	width  market.Millis // of a row
	wide   market.Millis // of a row that is marked as such
	hourly bool          // one chunk an hour instead of one a period
}

var layouts = map[byte]layout{
	record.KindHour:  {days: 1, rows: 60, width: market.Minute, hourly: true},
	record.KindFive:  {days: 1, rows: 12, width: 5 * market.Minute, wide: 15 * market.Minute, hourly: true},
	record.KindDay:   {days: 1, rows: 24, width: market.Hour, wide: 4 * market.Hour},
	record.KindMonth: {days: monthDays, rows: monthDays, width: market.Day},
}

// end is when the stretch of a row that begins at t is over.
func (l layout) end(t market.Time, r *record.Row) market.Time {
	if r.Flags&record.Wide != 0 {
		return t.Add(l.wide)
	}
	return t.Add(l.width)
}

// chunks yields the stored rows of a kind with from ≤ start < to.
func (p *past) chunks(kind byte, from, to market.Time, yield emit) (err error) {
	l := layouts[kind]
	period, last := dayOf(max(from, 0))/l.days, dayOf(to-1)/l.days
	it, err := p.db.NewIter(&pebble.IterOptions{
		LowerBound: record.PeriodKey(kind, period), UpperBound: record.PeriodKey(kind, last+1),
	})
	if err != nil {
		return fmt.Errorf("cannot read store: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	part := byte(0)
	if l.hourly {
		part = byte(hourOfDay(max(from, 0)))
	}
	for ok := it.SeekGE(record.ChunkKey(kind, period, p.id, part)); ok; {
		at, id, part, known := record.ParseChunkKey(it.Key())
		switch {
		case !known:
			return fmt.Errorf("%w: key %x", ErrCorrupt, it.Key())
		case id < p.id: // a later period begins with other tokens
			ok = it.SeekGE(record.ChunkKey(kind, at, p.id, 0))
			continue
		case id > p.id:
			ok = it.SeekGE(record.ChunkKey(kind, at+1, p.id, 0))
			continue
		}
		start := dayStart(at*l.days) + market.Time(part)*market.Time(market.Hour)
		if start >= to {
			return nil
		}
		if err := p.chunk(it, start, from, to, l, yield); err != nil {
			return err
		}
		ok = it.Next()
	}
	return storeError(it.Error())
}

func (p *past) chunk(it *pebble.Iterator, start, from, to market.Time, l layout, yield emit) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("cannot read chunk %x: %w", it.Key(), storeError(err))
	}
	payload, err := record.Open(it.Key(), value)
	if err != nil {
		return corrupt(err)
	}
	rows, err := record.ReadRows(p.rows[:0], payload, l.rows)
	if err != nil {
		return fmt.Errorf("chunk %x: %w", it.Key(), corrupt(err))
	}
	p.rows = rows
	for i := range rows {
		t := start + market.Time(rows[i].Index)*market.Time(l.width)
		if t < from || t >= to {
			continue
		}
		if err := yield(t, &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// ticks yields the durable ticks from a seq on. Ticks that damage made
// unreadable were reported and are among the lost ones; any other that does
// not check out is an error.
func (p *past) ticks(seq uint64, fn func(*record.Head) error) error {
	n := 0
	return scan(p.db, record.JournalKey(seq), record.JournalKey(p.durable.seq+1), func(key, value []byte) error {
		if n++; n%64 == 0 {
			if err := p.ctx.Err(); err != nil {
				return err
			}
		}
		payload, err := record.Open(key, value)
		var head *record.Head
		if err == nil {
			head, err = record.ReadHead(payload)
		}
		if err != nil {
			if seq, _ := record.JournalSeq(key); inRanges(p.cutOff, seq) {
				return nil
			}
			return corrupt(err)
		}
		return fn(head)
	})
}

func (p *past) raw(q market.HistoryQuery, end market.Time) error {
	cursor := max(q.From, 0)
	if q.After != 0 {
		cursor = max(cursor, q.After+1)
	}
	from := max(cursor, p.oldest)
	gap := func(to market.Time) {
		if to.Sub(cursor) > gapCadences*p.cadence {
			p.gap(cursor, to)
		}
	}
	first, _, _, err := lastMinute(p.db, max(from, 0)+1)
	if err != nil {
		return err
	}
	err = p.ticks(first, func(head *record.Head) error {
		if head.At < from {
			return nil
		}
		if head.At >= q.To {
			return errStop
		}
		sample, ok, err := head.Find(p.id)
		if err != nil || !ok {
			return corrupt(err)
		}
		// Stores of before instants were unique may have points of the same one:
		// they stay on one page, After could not tell them apart.
		if p.n >= p.limit && p.last != head.At {
			return p.full()
		}
		if cadence := head.Tick.Env.Cadence; cadence > 0 {
			p.cadence = cadence
		}
		gap(head.At)
		cursor = head.At + 1
		point := sample.Point(head.At, head.Tick.Env.Seq)
		return p.give(&point)
	})
	if p.page.Next == 0 {
		gap(end)
	}
	return err
}
