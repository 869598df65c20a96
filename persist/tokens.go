package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Tokens yields the state of every token by ascending id, with the window
// samples of its closed hours, oldest first: every minute's last sample for the
// last 25 h before the state's instant, every 5 minutes' before. Cells are
// valid during the call only. A damaged state is left out (Recovery.Damage
// names it); damaged cells are left out and make the error at the end, which
// is an ErrCorrupt: every token was yielded all the same.
//
// Reading runs ahead of fn by a few tokens, so that both can use a core each.
func (s *Store) Tokens(fn func(ts market.TokenState, cells []market.Cell) error) error {
	full, free := make(chan *loaded, loadAhead), make(chan *loaded, loadAhead)
	for range loadAhead {
		free <- &loaded{}
	}
	quit := make(chan struct{})
	var readErr error
	go func() {
		defer close(full)
		readErr = s.readTokens(free, full, quit)
	}()
	var err error
	for l := range full {
		if err == nil {
			if err = fn(l.state, l.cells); err != nil {
				close(quit)
			}
		}
		free <- l
	}
	return errors.Join(err, readErr)
}

// loadAhead bounds the tokens in memory while they are loaded, some 80 KiB each.
const loadAhead = 8

type loaded struct {
	state market.TokenState
	cells []market.Cell
}

func (s *Store) readTokens(free <-chan *loaded, full chan<- *loaded, quit <-chan struct{}) error {
	w := newWindowReader(s.db, s.state.at)
	err := scan(s.db, []byte{record.KindState}, []byte{record.KindState + 1}, func(key, value []byte) error {
		id, ok := record.StateID(key)
		blob, err := record.Open(key, value)
		if err != nil || !ok {
			return nil
		}
		var l *loaded
		select {
		case l = <-free:
		case <-quit:
			return errStop
		}
		l.state = market.TokenState{ID: id, Blob: append([]byte{}, blob...)}
		if l.cells, err = w.read(l.cells[:0], id); err != nil {
			return err
		}
		full <- l
		return nil
	})
	for _, d := range w.damage {
		s.log.Error("damaged window cells", "what", d)
	}
	return errors.Join(append([]error{err, w.close()}, w.damage...)...)
}

// windowReader walks the cells of all days side by side, token by token.
type windowReader struct {
	days   []dayCells
	damage []error
	err    error
}

// dayCells is an iterator over one kind and day, and the instants it is used for.
type dayCells struct {
	it       *pebble.Iterator
	day      uint32
	from, to market.Time
}

func newWindowReader(db *pebble.DB, now market.Time) *windowReader {
	w := &windowReader{}
	fine := record.Floor(max(now.Add(-cellsBack), 0), market.Hour)
	w.add(db, record.KindLast, record.Floor(max(now.Add(-lastBack), 0), market.Hour), fine)
	w.add(db, record.KindCells, fine, now.Add(market.Hour))
	return w
}

func (w *windowReader) add(db *pebble.DB, kind byte, from, to market.Time) {
	for day := dayOf(from); dayStart(day) < to; day++ {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: record.PeriodKey(kind, day), UpperBound: record.PeriodKey(kind, day+1)})
		if err != nil {
			w.err = errors.Join(w.err, err)
			return
		}
		it.First()
		w.days = append(w.days, dayCells{it: it, day: day, from: from, to: to})
	}
}

func (w *windowReader) close() error {
	err := w.err
	for i := range w.days {
		err = errors.Join(err, w.days[i].it.Close())
	}
	w.days = nil
	return err
}

// read appends a token's cells; tokens come by ascending id.
func (w *windowReader) read(cells []market.Cell, id market.ID) ([]market.Cell, error) {
	if w.err != nil {
		return cells, w.err
	}
	for i := range w.days {
		var err error
		if cells, err = w.days[i].read(cells, id, w.damaged); err != nil {
			return cells, err
		}
	}
	return cells, nil
}

func (w *windowReader) damaged(err error) {
	if len(w.damage) < maxDamage {
		w.damage = append(w.damage, corrupt(err))
	}
}

func (d *dayCells) read(cells []market.Cell, id market.ID, damaged func(error)) ([]market.Cell, error) {
	for ; d.it.Valid(); d.it.Next() {
		_, at, part, ok := record.ParseChunkKey(d.it.Key())
		if at > id {
			return cells, nil
		}
		hour := dayStart(d.day) + market.Time(part)*market.Time(market.Hour)
		if at < id || !ok || hour < d.from || hour >= d.to {
			continue
		}
		value, err := d.it.ValueAndErr()
		if err != nil {
			return cells, fmt.Errorf("cannot read cells %x: %w", d.it.Key(), storeError(err))
		}
		payload, err := record.Open(d.it.Key(), value)
		var more []market.Cell
		if err == nil {
			more, err = record.ReadCells(cells, hour, payload)
		}
		if err != nil {
			damaged(fmt.Errorf("cells %x: %w", d.it.Key(), err))
			continue
		}
		cells = more
	}
	return cells, storeError(d.it.Error())
}
