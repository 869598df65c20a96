package persist

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// write puts the chunks that changed into the batch, which takes all of a day or
// none of it.
func (u *importUnit) write() error {
	day := dayOf(u.start)
	for hour := range 24 {
		if u.dirty.minutes[hour] {
			if err := u.putChunk(record.ChunkKey(record.KindHour, day, u.id, byte(hour)), u.has.minutes[hour*minutesOfHour:][:minutesOfHour]); err != nil {
				return err
			}
		}
		if u.dirty.fives[hour] {
			fives := u.has.fives[hour*fivesOfHour:][:fivesOfHour]
			laid(fives, u.has.quarters[hour*quartersOfHour:][:quartersOfHour])
			if err := u.putChunk(record.ChunkKey(record.KindFive, day, u.id, byte(hour)), fives); err != nil {
				return err
			}
		}
	}
	if u.dirty.hours {
		laid(u.has.hours[:], u.has.fours[:])
		// Hours that are not over are not in the chunk.
		over := int(min(u.i.rolled.hours.Sub(u.start)/market.Hour, 24))
		if err := u.putChunk(record.ChunkKey(record.KindDay, day, u.id, 0), u.has.hours[:over]); err != nil {
			return err
		}
	}
	if u.dirty.day {
		u.months = [monthDays]record.Row{}
		u.months[day%monthDays] = u.has.day
		if err := u.putMonth(day / monthDays); err != nil {
			return err
		}
	}
	return u.i.full()
}

// laid puts wide rows among those of their chunk.
func laid(rows, wide []record.Row) {
	for n := range wide {
		if wide[n].Count > 0 {
			rows[n*len(rows)/len(wide)] = wide[n]
		}
	}
}

// full hands the batch on where it is large.
func (i *Import) full() error {
	if i.b.Len() < i.s.opts.BatchBytes {
		return nil
	}
	return i.apply()
}

// putChunk writes rows by their place.
func (u *importUnit) putChunk(key []byte, rows []record.Row) error {
	var out [60]record.Row
	list := out[:0]
	for n := range rows {
		if rows[n].Count > 0 {
			rows[n].Index = int32(n)
			list = append(list, rows[n])
		}
	}
	if len(list) == 0 {
		return u.i.b.Delete(key, nil)
	}
	return u.i.s.putRows(u.i.b, key, list)
}

// putMonth puts u.months into a chunk of days, beside what is there.
func (u *importUnit) putMonth(period uint32) error {
	key := record.ChunkKey(record.KindMonth, period, u.id, 0)
	var all [monthDays]record.Row
	value, closer, err := u.i.b.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return fmt.Errorf("cannot read chunk %x: %w", key, storeError(err))
	default:
		payload, err := record.Open(key, value)
		var rows []record.Row
		if err == nil {
			rows, err = record.ReadRows(nil, payload, monthDays)
		}
		if err := errors.Join(corrupt(err), closer.Close()); err != nil {
			return fmt.Errorf("chunk %x: %w", key, err)
		}
		for n := range rows {
			all[rows[n].Index] = rows[n]
		}
	}
	for n := range u.months {
		if u.months[n].Count > 0 {
			all[n] = u.months[n]
		}
	}
	return u.putChunk(key, all[:])
}

// runMonth takes the daily rows of 32 days.
func (u *importUnit) runMonth() error {
	i := u.i
	var had [monthDays]record.Row
	if i.p != nil {
		i.p.id = u.id
		err := i.p.stream(market.Granularity1d, u.start, u.start.Add(monthDays*market.Day), func(t market.Time, r *record.Row) error {
			had[t.Sub(u.start)/market.Day] = *r
			return nil
		})
		if err != nil {
			return err
		}
	}
	u.months = [monthDays]record.Row{}
	dirty := false
	for n := range u.rows {
		l := &u.rows[n]
		index := l.at.Sub(u.start) / market.Day
		there := &had[index]
		if there.Count > 0 && there.Same(&l.row) {
			i.sum.There++
			continue
		}
		if l.at.Add(market.Day) > i.days {
			i.sum.Open++
			continue
		}
		if there.Count > 0 {
			stopgap, err := u.madeOfImported(l.at, there)
			if err != nil {
				return err
			}
			if !stopgap && !i.differs(l.line, u.id, market.Granularity1d, l.at, there, &l.row, false) {
				continue
			}
		}
		row := l.row
		row.Flags |= record.Imported
		u.months[index], dirty = row, true
		i.wrote(l.at)
	}
	if !dirty || !i.o.Write || i.err != nil {
		return i.err
	}
	if err := u.putMonth(dayOf(u.start) / monthDays); err != nil {
		return err
	}
	return i.full()
}

// madeOfImported is stopgap for a day.
func (u *importUnit) madeOfImported(day market.Time, there *record.Row) (bool, error) {
	if there.Flags&record.Imported == 0 {
		return false, nil
	}
	var hours []record.Row
	u.i.p.id = u.id
	err := u.i.p.stream(market.Granularity1h, day, day.Add(market.Day), func(_ market.Time, r *record.Row) error {
		hours = append(hours, *r)
		return nil
	})
	made := merged(hours)
	return made.Count > 0 && made.Same(there), err
}
