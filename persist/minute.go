package persist

import (
	"fmt"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// openMinute gathers the samples of the minute that is not over yet.
type openMinute struct {
	start   market.Time
	first   uint64 // seq of its first tick; 0 before the first tick
	accs    map[market.ID]*record.Acc
	touched []market.ID
}

func (m *openMinute) add(id market.ID, sample *record.Sample) {
	acc := m.accs[id]
	if acc == nil {
		acc = &record.Acc{}
		m.accs[id] = acc
	}
	if acc.Count() == 0 {
		m.touched = append(m.touched, id)
	}
	acc.Add(sample)
}

// enter begins a new minute where a tick at this instant needs one, and puts
// what the minute before held into the open batch: the same batch as the tick,
// so that a crash leaves both or neither.
func (s *Store) enter(seq uint64, at market.Time) error {
	minute := record.Floor(at, market.Minute)
	if s.open.first != 0 && minute == s.open.start {
		return nil
	}
	if s.open.first != 0 {
		if err := s.closeMinute(); err != nil {
			return fmt.Errorf("cannot close a minute: %w", err)
		}
	}
	s.open.start, s.open.first = minute, seq
	return nil
}

func (s *Store) closeMinute() error {
	m := &s.open
	slices.SortFunc(m.touched, func(a, b market.ID) int {
		if g := int(record.Group(a)) - int(record.Group(b)); g != 0 {
			return g
		}
		return int(int64(a) - int64(b))
	})
	var block record.BlockWriter
	index := int32((m.start - record.Floor(m.start, market.Hour)) / market.Time(market.Minute))
	for i, id := range m.touched {
		acc := m.accs[id]
		block.Add(id, acc.Row(index))
		*acc = record.Acc{}
		group := record.Group(id)
		if i+1 < len(m.touched) && record.Group(m.touched[i+1]) == group {
			continue
		}
		if err := s.put(s.batch, record.BlockKey(m.start, group), block.Append); err != nil {
			return err
		}
	}
	// Tokens that come and go must not pile up.
	if len(m.accs) > 2*len(m.touched)+1024 {
		m.accs = map[market.ID]*record.Acc{}
	}
	m.touched = m.touched[:0]
	return s.put(s.batch, record.TimeKey(record.KindMinute, m.start), func(dst []byte) []byte {
		return record.AppendNumbers(dst, m.first, s.appended)
	})
}

// minuteSeqs reads what a closed minute's record says: its first and last seq.
func minuteSeqs(key, value []byte) (minute market.Time, first, last uint64, err error) {
	payload, err := record.Open(key, value)
	if err != nil {
		return 0, 0, 0, corrupt(err)
	}
	n, err := record.ReadNumbers(payload, 2)
	if err != nil {
		return 0, 0, 0, corrupt(err)
	}
	minute, _ = record.KeyTime(key)
	return minute, n[0], n[1], nil
}

// rebuildMinute adds up the ticks that no minute record covers yet.
func (s *Store) rebuildMinute() error {
	last := s.rolled.seq
	_, seq, ok, err := lastMinute(s.db, maxTime)
	if err != nil {
		return err
	}
	if ok {
		last = max(last, seq)
	}
	newest, at := s.appended, s.at
	err = scan(s.db, record.JournalKey(last+1), record.JournalKey(newest+1), func(key, value []byte) error {
		payload, err := record.Open(key, value)
		var head *record.Head
		if err == nil {
			head, err = record.ReadHead(payload)
		}
		if err != nil {
			if seq, _ := record.JournalSeq(key); !inRanges(s.cutOff, seq) {
				s.damaged(key, err)
			}
			return nil
		}
		if err := s.enter(head.Tick.Env.Seq, head.At); err != nil {
			return err
		}
		s.appended = head.Tick.Env.Seq // closeMinute asks
		return corrupt(head.Samples(s.open.add))
	})
	s.appended, s.at = newest, at
	return err
}
