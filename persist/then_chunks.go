package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// chunksBefore yields the newest row with first ≤ start ≤ last of each wanted
// token. It walks the periods, newest first, and in each the tokens, with one or
// two short seeks a token and never back.
func (t *then) chunksBefore(kind byte, first, last market.Time, take func(market.ID, market.Time, *record.Row)) error {
	l := layouts[kind]
	from, to := dayOf(max(first, 0))/l.days, dayOf(max(last, 0))/l.days
	for period := to; ; period-- {
		w := chunkWalk{then: t, kind: kind, layout: l, period: period, first: first, last: last, highest: 23, take: take}
		if l.hourly && period == to {
			w.highest = byte(hourOfDay(last))
		}
		if l.hourly && period == from {
			w.lowest = byte(hourOfDay(max(first, 0)))
		}
		if err := w.run(); err != nil {
			return err
		}
		if period == from || t.complete() {
			return nil
		}
	}
}

// chunkWalk goes through the chunks of one kind and period, last token first.
type chunkWalk struct {
	*then
	kind            byte
	layout          layout
	period          uint32
	lowest, highest byte // parts of interest
	first, last     market.Time
	take            func(market.ID, market.Time, *record.Row)
}

func (w *chunkWalk) key(id market.ID, part byte) []byte {
	return record.ChunkKey(w.kind, w.period, id, part)
}

func (w *chunkWalk) run() (err error) {
	lower, upper := record.PeriodKey(w.kind, w.period), record.PeriodKey(w.kind, w.period+1)
	if w.id != 0 {
		lower, upper = w.key(w.id, 0), w.key(w.id, 24)
	}
	it, err := w.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("cannot read store: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.Last(); ok; {
		if n++; n%64 == 0 {
			if err := w.ctx.Err(); err != nil {
				return err
			}
		}
		_, id, part, known := record.ParseChunkKey(it.Key())
		switch {
		case !known:
			return fmt.Errorf("%w: key %x", ErrCorrupt, it.Key())
		case !w.wants(id) || part < w.lowest:
			ok = it.SeekLT(w.key(id, 0))
			continue
		case part > w.highest:
			ok = it.SeekLT(w.key(id, w.highest+1))
			continue
		}
		if err := w.chunk(it, id, part); err != nil {
			return err
		}
		ok = it.Prev()
	}
	return storeError(it.Error())
}

// chunk takes the last row of interest of a chunk, if there is one.
func (w *chunkWalk) chunk(it *pebble.Iterator, id market.ID, part byte) error {
	value, err := it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("cannot read chunk %x: %w", it.Key(), storeError(err))
	}
	payload, err := record.Open(it.Key(), value)
	if err == nil {
		w.rows, err = record.ReadRows(w.rows[:0], payload, w.layout.rows)
	}
	if err != nil {
		return fmt.Errorf("chunk %x: %w", it.Key(), corrupt(err))
	}
	start := dayStart(w.period*w.layout.days) + market.Time(part)*market.Time(market.Hour)
	for i := len(w.rows) - 1; i >= 0; i-- {
		t := start + market.Time(w.rows[i].Index)*market.Time(w.layout.width)
		if t < w.first {
			return nil
		}
		if t <= w.last && w.layout.end(t, &w.rows[i]) <= w.at {
			w.take(id, t, &w.rows[i])
			return nil
		}
	}
	return nil
}
