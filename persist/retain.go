package persist

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

const (
	// Retention runs after this much engine time and this many ticks (few
	// ticks take little space, and range deletions are dear), or after a day.
	retainEvery = 5 * market.Minute
	retainTicks = 100
	// tombstoneLife is how long retirements are remembered (engine/FIELDS.md, Counters).
	tombstoneLife = 7 * market.Day
)

// retain drops what is older than its retention. Ticks stay as long as the
// state or the open minute still needs them.
func (s *Store) retain() error {
	since := s.at.Sub(s.retained)
	if s.open.first == 0 || since < retainEvery || since < market.Day && s.appended < s.retainedSeq+retainTicks {
		return nil
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.retainTicks(b); err != nil {
		return err
	}
	r := s.opts.Retention
	s.cut(b, record.KindHour, s.at, r.Minute, 1)
	s.cut(b, record.KindFive, s.at, r.Five, 1)
	s.cut(b, record.KindDay, s.at, r.Hour, 1)
	if r.Day > 0 {
		s.cut(b, record.KindMonth, s.at, r.Day, monthDays)
	}
	if old := record.Floor(s.at.Add(-tombstoneLife), market.Day); old > 0 && dayOf(old) > s.cuts[record.KindTombstone] {
		if err := b.DeleteRange([]byte{record.KindTombstone}, record.TimeKey(record.KindTombstone, old), nil); err != nil {
			return err
		}
		s.cuts[record.KindTombstone] = dayOf(old)
	}
	s.retained, s.retainedSeq = s.at, s.appended
	return s.apply(b, pebble.NoSync)
}

// oldest returns the instant from which a granularity is kept. History shows
// nothing older, even where it has not been dropped yet.
func (r *Retention) oldest(g market.Granularity, now market.Time) market.Time {
	switch g {
	case market.GranularityRaw:
		return now.Add(-r.Ticks)
	case market.Granularity1m:
		return record.Floor(now.Add(-r.Minute), market.Day)
	case market.Granularity5m, market.Granularity15m:
		return record.Floor(now.Add(-r.Five), market.Day)
	case market.Granularity1h, market.Granularity4h:
		return record.Floor(now.Add(-r.Hour), market.Day)
	default:
	}
	if r.Day == 0 {
		return 0
	}
	return record.Floor(now.Add(-r.Day), monthDays*market.Day)
}

// cut drops the periods of a kind that ended before at − keep; a period it has
// dropped before is not dropped again.
func (s *Store) cut(b *pebble.Batch, kind byte, at market.Time, keep market.Millis, days uint32) {
	from := at.Add(-keep)
	if from <= 0 {
		return
	}
	period := dayOf(from) / days
	if period <= s.cuts[kind] {
		return
	}
	// An in-memory batch cannot refuse a range.
	_ = b.DeleteRange(record.PeriodKey(kind, s.cuts[kind]), record.PeriodKey(kind, period), nil)
	s.cuts[kind] = period
}

func (s *Store) retainTicks(b *pebble.Batch) error {
	cut := record.Floor(s.at.Add(-s.opts.Retention.Ticks), market.Minute)
	keep := min(s.open.first, s.state.seq+1)
	if cut < s.open.start {
		err := scan(s.db, record.TimeKey(record.KindMinute, max(cut, 0)), record.TimeKey(record.KindMinute, maxTime), func(key, value []byte) error {
			_, first, _, err := minuteSeqs(key, value)
			keep = min(keep, first)
			if err != nil {
				return err
			}
			return errStop
		})
		if err != nil {
			return err
		}
	}
	if keep <= s.trimmed {
		return nil
	}
	if err := b.DeleteRange(record.JournalKey(s.trimmed), record.JournalKey(keep), nil); err != nil {
		return err
	}
	s.trimmed = keep
	if gone := min(cut, s.rolled.hours); gone > 0 {
		return b.DeleteRange([]byte{record.KindMinute}, record.TimeKey(record.KindMinute, gone), nil)
	}
	return nil
}
