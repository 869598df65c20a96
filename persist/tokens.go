package persist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Tokens yields the state of every token with the window samples of its closed
// hours, oldest first: every minute's last sample for the last 24 h before the
// hour of its newest one, every 5 minutes' before. So many workers share the tokens, each
// an ascending range of ids, and call fn side by side; what fn is given is valid
// during the call only. A damaged state is left out (Recovery.Damage names it);
// damaged cells are left out and make the error at the end, which is an
// ErrCorrupt: every token was yielded all the same.
func (s *Store) Tokens(workers int, fn func(ts market.TokenState, cells []market.Cell) error) error {
	ids := slices.Sorted(maps.Keys(s.tokens))
	workers = max(min(workers, len(ids)), 1)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for i := range workers {
		start, end := []byte{record.KindState}, []byte{record.KindState + 1}
		if i > 0 {
			start = record.StateKey(ids[i*len(ids)/workers])
		}
		if i+1 < workers {
			end = record.StateKey(ids[(i+1)*len(ids)/workers])
		}
		group.Go(func() { errs[i] = tokenReader{db: s.db, at: s.state.at, log: s.log}.read(start, end, fn) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// tokenReader reads the states of tokens with their cells.
type tokenReader struct {
	db  pebble.Reader
	at  market.Time // of the state
	log *slog.Logger
}

func (r tokenReader) read(start, end []byte, fn func(market.TokenState, []market.Cell) error) error {
	w := newWindowReader(r.db, r.at)
	var cells []market.Cell
	err := scanStates(r.db, start, end, func(ts market.TokenState) (err error) {
		if cells, err = w.read(cells[:0], &ts); err != nil {
			return err
		}
		return fn(ts, cells)
	})
	for _, d := range w.damage {
		r.log.Error("damaged window cells", "what", d)
	}
	return errors.Join(append([]error{err, w.close()}, w.damage...)...)
}

// scanStates yields the stored states between two keys, but for damaged ones, which
// Open has reported. What fn is given is valid during the call only.
func scanStates(r pebble.Reader, start, end []byte, fn func(market.TokenState) error) error {
	return scan(r, start, end, func(key, value []byte) error {
		id, ok := record.StateID(key)
		payload, bad := record.Open(key, value)
		if bad != nil || !ok {
			return nil //nolint:nilerr // Open has reported it
		}
		newest, n := binary.Uvarint(payload)
		if n <= 0 {
			return fmt.Errorf("%w: state of token %d", ErrCorrupt, id)
		}
		return fn(market.TokenState{ID: id, Blob: payload[n:], Newest: market.Time(newest)})
	})
}

// windowReader walks the cells of all days side by side, token by token.
type windowReader struct {
	db     pebble.Reader
	at     market.Time // of the state
	days   []dayCells
	damage []error
	err    error
}

// dayCells is an iterator over one kind and day, and the instants it is used for.
type dayCells struct {
	it       *pebble.Iterator
	kind     byte
	day      uint32
	begun    bool
	from, to market.Time
}

func newWindowReader(db pebble.Reader, now market.Time) *windowReader {
	w := &windowReader{db: db, at: now}
	before := max(now.Add(-market.Hour), 0)
	w.add(record.KindLast, lastFrom(before), fineFrom(before))
	w.add(record.KindCells, fineFrom(before), now.Add(market.Hour))
	return w
}

func (w *windowReader) add(kind byte, from, to market.Time) {
	for day := dayOf(from); dayStart(day) < to; day++ {
		it, err := w.db.NewIter(&pebble.IterOptions{LowerBound: record.PeriodKey(kind, day), UpperBound: record.PeriodKey(kind, day+1)})
		if err != nil {
			w.err = errors.Join(w.err, err)
			return
		}
		w.days = append(w.days, dayCells{it: it, kind: kind, day: day, from: from, to: to})
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

// read appends a token's cells; tokens come by ascending id. A token whose newest
// sample is not of late has days of its own.
func (w *windowReader) read(cells []market.Cell, ts *market.TokenState) (_ []market.Cell, err error) {
	if w.err != nil || ts.Newest == 0 {
		return cells, w.err
	}
	days := w.days
	if w.at.Sub(ts.Newest) > market.Hour {
		own := &windowReader{db: w.db}
		own.add(record.KindLast, lastFrom(ts.Newest), fineFrom(ts.Newest))
		own.add(record.KindCells, fineFrom(ts.Newest), ts.Newest.Add(market.Hour))
		defer func() { err = errors.Join(err, own.close()) }()
		days = own.days
	}
	for i := range days {
		if cells, err = days[i].read(cells, ts.ID, w.damaged); err != nil {
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
	if !d.begun { // the tokens before are others' to read
		d.begun = true
		d.it.SeekGE(record.ChunkKey(d.kind, d.day, id, 0))
	}
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
