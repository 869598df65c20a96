package persist

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// repair makes chunks again of what they were made of, where that is still there:
// of the minutes' blocks, and of finer chunks.
func (m *mender) repair() error {
	if err := m.flush(0); err != nil {
		return err
	}
	hours, err := m.loose()
	if err != nil {
		return err
	}
	for _, hour := range hours {
		if err := m.unfinished(hour); err != nil {
			return err
		}
	}
	if m.rolled.hours > 0 {
		if err := m.batch.DeleteRange([]byte{record.KindBlock}, record.TimeKey(record.KindBlock, m.rolled.hours), nil); err != nil {
			return err
		}
	}
	for _, days := range []bool{false, true} { // days are made of what hours are then
		for i := range m.report.Lost {
			if l := &m.report.Lost[i]; (l.Kind == "1d") == days {
				if err := m.derive(l); err != nil {
					return err
				}
			}
		}
	}
	m.settle()
	return nil
}

// loose lists the hours of which blocks are left although they are over, and those
// that no roll record told to be finished.
func (m *mender) loose() ([]market.Time, error) {
	hours := map[market.Time]struct{}{}
	for h := m.meta.roll.hours; h < m.rolled.hours && m.rolled.hours.Sub(h) <= market.Day; h = h.Add(market.Hour) {
		hours[h] = struct{}{}
	}
	err := scan(m.db, []byte{record.KindBlock}, record.TimeKey(record.KindBlock, m.rolled.hours), func(key, _ []byte) error {
		at, _ := record.KeyTime(key)
		hour := record.Floor(at, market.Hour)
		hours[hour] = struct{}{}
		return skipError{record.TimeKey(record.KindBlock, hour.Add(market.Hour))}
	})
	return slices.Sorted(maps.Keys(hours)), err
}

// unfinished moves an hour's blocks into chunks where those are missing.
func (m *mender) unfinished(hour market.Time) error {
	for group := range byte(record.Groups) {
		rows := map[market.ID][]record.Row{}
		err := scan(m.db, record.TimeKey(record.KindBlock, hour), record.TimeKey(record.KindBlock, hour.Add(market.Hour)), func(key, value []byte) error {
			if key[len(key)-1] != group {
				return nil
			}
			payload, err := record.Open(key, value)
			if err == nil {
				err = record.ReadBlock(payload, 0, func(id market.ID, row record.Row) { rows[id] = append(rows[id], row) })
			}
			return corrupt(err)
		})
		if err != nil {
			return err
		}
		for _, id := range slices.Sorted(maps.Keys(rows)) {
			if err := m.hour(hour, id, rows[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hour puts what is missing of a token's hour: rows are its minutes, if it has no
// chunk of them.
func (m *mender) hour(hour market.Time, id market.ID, rows []record.Row) error {
	day, part := dayOf(hour), hourOfDay(hour)
	fine := record.ChunkKey(record.KindHour, day, id, byte(part))
	if stored, err := m.chunk(fine); err != nil {
		return err
	} else if len(stored) > 0 {
		rows = stored
	} else if err := m.put(fine, rows); err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	five := record.ChunkKey(record.KindFive, day, id, byte(part))
	if stored, err := m.chunk(five); err != nil {
		return err
	} else if len(stored) == 0 {
		if err := m.put(five, mergeRows(rows, 5)); err != nil {
			return err
		}
	}
	whole := mergeRows(rows, 60)[0]
	whole.Index = part
	return m.insert(record.ChunkKey(record.KindDay, day, id, 0), whole)
}

// insert puts a row into a chunk that has none of its index.
func (m *mender) insert(key []byte, row record.Row) error {
	rows, err := m.chunk(key)
	if err != nil {
		return err
	}
	at, found := slices.BinarySearchFunc(rows, row.Index, func(r record.Row, index int32) int { return int(r.Index - index) })
	if found {
		return nil
	}
	if err := m.put(key, slices.Insert(rows, at, row)); err != nil {
		return err
	}
	return m.flush(0)
}

// chunk returns the rows of a chunk, nil for none.
func (m *mender) chunk(key []byte) (rows []record.Row, err error) {
	value, closer, err := m.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read chunk %x: %w", key, err)
	}
	payload, err := record.Open(key, value)
	if err == nil {
		rows, err = record.ReadRows(nil, payload, layouts[key[0]].rows)
	}
	return rows, errors.Join(corrupt(err), closer.Close())
}

func (m *mender) put(key []byte, rows []record.Row) error {
	if len(rows) == 0 {
		return nil
	}
	value := record.AppendRows(record.Begin(nil), rows)
	record.Seal(key, value)
	if err := m.batch.Set(key, value, nil); err != nil {
		return err
	}
	return m.flush(1 << 20)
}

// derive makes coarser rows of finer ones in a loss.
func (m *mender) derive(l *Loss) error {
	switch l.Kind {
	case "5m", "1h":
		if err := m.imported(l); err != nil {
			return err
		}
		return m.finer(record.KindHour, l, func(hour market.Time, id market.ID, _ []record.Row) error {
			if m.meta.coarse.meets(hour, hour.Add(market.Hour)) {
				five, err := m.chunk(record.ChunkKey(record.KindFive, dayOf(hour), id, byte(hourOfDay(hour))))
				if err != nil || len(five) == 0 {
					return err // some of it may have been imported: minutes need not be all
				}
			}
			return m.hour(hour, id, nil)
		})
	case "1d":
		return m.finer(record.KindDay, l, func(at market.Time, id market.ID, rows []record.Row) error {
			if at >= m.rolled.days {
				return nil // not over: no row yet
			}
			row, day := mergeRows(rows, 24)[0], dayOf(at)
			row.Index = int32(day % monthDays)
			return m.insert(record.ChunkKey(record.KindMonth, day/monthDays, id, 0), row)
		})
	}
	return nil
}

// imported makes the hours of which 5 minutes were imported: of those, as the import
// did, since minutes need not be all of them.
func (m *mender) imported(l *Loss) error {
	if l.Kind != "1h" {
		return nil
	}
	return m.finer(record.KindFive, l, func(hour market.Time, id market.ID, rows []record.Row) error {
		if !anyImported(rows) {
			return nil
		}
		whole := mergeRows(rows, fivesOfHour)[0]
		whole.Index = hourOfDay(hour)
		return m.insert(record.ChunkKey(record.KindDay, dayOf(hour), id, 0), whole)
	})
}

// finer yields the chunks of a kind with a day to a key that are in a loss.
func (m *mender) finer(kind byte, l *Loss, fn func(at market.Time, id market.ID, rows []record.Row) error) error {
	if err := m.flush(0); err != nil {
		return err
	}
	const last = market.Time(1) << 46
	lower := record.PeriodKey(kind, dayOf(max(l.From, 0)))
	upper := record.PeriodKey(kind, dayOf(min(l.To, last))+1)
	return scan(m.db, lower, upper, func(key, _ []byte) error {
		day, id, part, ok := record.ParseChunkKey(key)
		if !ok || id < l.FirstToken || id > l.LastToken {
			return nil
		}
		rows, err := m.chunk(key)
		if err != nil || len(rows) == 0 {
			return err
		}
		return fn(dayStart(day).Add(market.Millis(part)*market.Hour), id, rows)
	})
}
