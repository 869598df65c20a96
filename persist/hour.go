package persist

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

const maxTime = market.Time(math.MaxInt64)

// roll is how far minutes have moved into chunks.
type roll struct {
	hours market.Time // everything before is in chunks
	days  market.Time // every day before has its row
	seq   uint64      // the newest tick in the chunks
}

func (r roll) append(dst []byte) []byte {
	return record.AppendNumbers(dst, uint64(r.hours), uint64(r.days), r.seq)
}

// periodDays is the number of days under one key's period.
const monthDays = 32

func dayOf(t market.Time) uint32 {
	return uint32(record.Floor(t, market.Day) / market.Time(market.Day))
}

func dayStart(day uint32) market.Time { return market.Time(day) * market.Time(market.Day) }

func hourOfDay(t market.Time) int32 {
	return int32((t - record.Floor(t, market.Day)) / market.Time(market.Hour))
}

// rollHours moves the minutes of every hour that is over into chunks, and the
// hours of every day that is over into a daily row. All of it is durable
// already. Writes are unsynced and in an order that a crash can cut anywhere:
// what is done twice gives the same bytes, and only the last write of an hour,
// the roll record, makes readers and recovery use the chunks.
func (s *Store) rollHours() error {
	if s.open.first == 0 {
		return nil
	}
	open := record.Floor(s.open.start, market.Hour)
	if open <= s.rolled.hours {
		return nil
	}
	for {
		hour, ok, err := firstTime(s.db, record.TimeKey(record.KindBlock, s.rolled.hours), record.TimeKey(record.KindBlock, open))
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := s.transpose(record.Floor(hour, market.Hour)); err != nil {
			return err
		}
	}
	if err := s.closeDays(open); err != nil {
		return err
	}
	return s.setRoll(s.db.NewBatch(), open)
}

// setRoll ends a step: everything before the instant is in chunks.
func (s *Store) setRoll(b *pebble.Batch, hours market.Time) error {
	defer func() { _ = b.Close() }()
	next := roll{hours: hours, days: s.rolled.days, seq: s.rolled.seq}
	_, last, ok, err := lastMinute(s.db, hours)
	if err != nil {
		return err
	}
	if ok {
		next.seq = max(next.seq, last)
	}
	if err := s.put(b, record.MetaKey(record.MetaRoll), next.append); err != nil {
		return err
	}
	if err := s.apply(b, pebble.NoSync); err != nil {
		return err
	}
	s.rolled = next
	return nil
}

// transpose turns the minute blocks of an hour into chunks, group by group.
func (s *Store) transpose(hour market.Time) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	blocks, err := s.blocks(hour)
	if err != nil {
		return err
	}
	rows := map[market.ID][]record.Row{}
	var ids []market.ID
	for _, minutes := range blocks {
		clear(rows)
		if err := s.readGroup(minutes, rows); err != nil {
			return err
		}
		ids = ids[:0]
		for id := range rows {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		for _, id := range ids {
			if err := s.writeHour(b, hour, id, rows[id]); err != nil {
				return err
			}
			if b.Len() >= s.opts.BatchBytes {
				if err := s.apply(b, pebble.NoSync); err != nil {
					return err
				}
			}
		}
	}
	if err := s.apply(b, pebble.NoSync); err != nil {
		return err
	}
	end := hour.Add(market.Hour)
	last := s.db.NewBatch()
	// One by one: many range deletions in a memtable make every iterator slow.
	for _, minutes := range blocks {
		for _, key := range minutes {
			if err := last.Delete(key, nil); err != nil {
				return errors.Join(err, last.Close())
			}
		}
	}
	return s.setRoll(last, end)
}

// blocks lists the keys of an hour's minute blocks by group.
func (s *Store) blocks(hour market.Time) (keys [record.Groups][][]byte, err error) {
	start, end := record.TimeKey(record.KindBlock, hour), record.TimeKey(record.KindBlock, hour.Add(market.Hour))
	err = scan(s.db, start, end, func(key, _ []byte) error {
		group := key[len(key)-1]
		if group >= record.Groups {
			s.damaged(key, ErrCorrupt)
			return nil
		}
		keys[group] = append(keys[group], append([]byte{}, key...))
		return nil
	})
	return keys, err
}

// readGroup collects the rows of one group of tokens, which bounds what is in
// memory. A damaged block costs its minute, and is reported; the others move on.
func (s *Store) readGroup(keys [][]byte, rows map[market.ID][]record.Row) error {
	for _, key := range keys {
		value, closer, err := s.db.Get(key)
		if err != nil {
			return fmt.Errorf("cannot read block %x: %w", key, storeError(err))
		}
		payload, err := record.Open(key, value)
		if err == nil {
			err = record.ReadBlock(payload, 0, func(id market.ID, row record.Row) { rows[id] = append(rows[id], row) })
		}
		if err != nil {
			s.damaged(key, err)
		}
		if err := closer.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeHour(b *pebble.Batch, hour market.Time, id market.ID, rows []record.Row) error {
	day, part := dayOf(hour), hourOfDay(hour)
	err := s.putRows(b, record.ChunkKey(record.KindHour, day, id, byte(part)), rows)
	if err != nil {
		return err
	}
	five := mergeRows(rows, 5)
	if err := s.putRows(b, record.ChunkKey(record.KindFive, day, id, byte(part)), five); err != nil {
		return err
	}
	whole := mergeRows(rows, 60)
	whole[0].Index = part
	return s.extendRows(b, record.ChunkKey(record.KindDay, day, id, 0), whole[0], 24)
}

// mergeRows joins every n rows by index.
func mergeRows(rows []record.Row, n int32) []record.Row {
	var out []record.Row
	var m record.Merge
	for i := range rows {
		m.Add(&rows[i])
		if i+1 == len(rows) || rows[i+1].Index/n != rows[i].Index/n {
			out = append(out, m.Row(rows[i].Index/n))
			m = record.Merge{}
		}
	}
	return out
}

func (s *Store) putRows(b *pebble.Batch, key []byte, rows []record.Row) error {
	return s.put(b, key, func(dst []byte) []byte { return record.AppendRows(dst, rows) })
}

// extendRows puts a row at the end of a chunk, in place of what was at its
// index or after.
func (s *Store) extendRows(b *pebble.Batch, key []byte, row record.Row, limit int32) error {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return s.putRows(b, key, []record.Row{row})
	}
	if err != nil {
		return fmt.Errorf("cannot read chunk %x: %w", key, storeError(err))
	}
	payload, err := record.Open(key, value)
	var rows []record.Row
	if err == nil {
		rows, err = record.ReadRows(nil, payload, limit)
	}
	if err != nil {
		s.damaged(key, err)
	}
	if err := closer.Close(); err != nil {
		return err
	}
	n := len(rows)
	for n > 0 && rows[n-1].Index >= row.Index {
		n--
	}
	return s.putRows(b, key, append(rows[:n], row))
}

// closeDays writes the daily rows of every day before the one of open.
func (s *Store) closeDays(open market.Time) error {
	for {
		day, ok, err := firstPeriod(s.db, record.KindDay, dayOf(s.rolled.days), dayOf(open))
		if err != nil || !ok {
			return err
		}
		if err := s.closeDay(day); err != nil {
			return fmt.Errorf("cannot close a day: %w", err)
		}
		s.rolled.days = dayStart(day + 1)
	}
}

func (s *Store) closeDay(day uint32) error {
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	start, end := record.PeriodKey(record.KindDay, day), record.PeriodKey(record.KindDay, day+1)
	err := scan(s.db, start, end, func(key, value []byte) error {
		_, id, _, ok := record.ParseChunkKey(key)
		payload, err := record.Open(key, value)
		var rows []record.Row
		if err == nil {
			rows, err = record.ReadRows(nil, payload, 24)
		}
		if err != nil || !ok || len(rows) == 0 {
			s.damaged(key, errors.Join(err, ErrCorrupt))
			return nil
		}
		row := mergeRows(rows, 24)[0]
		row.Index = int32(day % monthDays)
		if err := s.extendRows(b, record.ChunkKey(record.KindMonth, day/monthDays, id, 0), row, monthDays); err != nil {
			return err
		}
		if b.Len() >= s.opts.BatchBytes {
			return s.apply(b, pebble.NoSync)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.apply(b, pebble.NoSync)
}

// firstTime returns the instant of the first key from start up to end.
func firstTime(r pebble.Reader, start, end []byte) (t market.Time, ok bool, err error) {
	err = scan(r, start, end, func(key, _ []byte) error {
		t, ok = record.KeyTime(key)
		return errStop
	})
	return t, ok, err
}

// firstPeriod returns the first period of a kind from start up to end that has a chunk.
func firstPeriod(r pebble.Reader, kind byte, start, end uint32) (period uint32, ok bool, err error) {
	if start >= end {
		return 0, false, nil
	}
	err = scan(r, record.PeriodKey(kind, start), record.PeriodKey(kind, end), func(key, _ []byte) error {
		period, _, _, ok = record.ParseChunkKey(key)
		return errStop
	})
	return period, ok, err
}

// lastMinute returns the record of the last closed minute before an instant.
func lastMinute(r pebble.Reader, before market.Time) (first, last uint64, ok bool, err error) {
	it, err := r.NewIter(&pebble.IterOptions{
		LowerBound: []byte{record.KindMinute}, UpperBound: record.TimeKey(record.KindMinute, before),
	})
	if err != nil {
		return 0, 0, false, fmt.Errorf("cannot read store: %w", err)
	}
	if it.Last() {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			_, first, last, err = minuteSeqs(it.Key(), value)
			ok = err == nil
		}
	}
	return first, last, ok, errors.Join(err, it.Error(), it.Close())
}
