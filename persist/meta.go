package persist

import (
	"errors"
	"fmt"

	"github.com/velocimeter/velocimeter/persist/record"
)

const noClean = ^uint64(0)

// loadMeta reads all meta records and creates those of a new store. clean is
// the seq of a clean stop, or noClean.
func (s *Store) loadMeta() (clean uint64, err error) {
	epoch, err := getMeta(s.db, record.MetaEpoch)
	if err != nil {
		return 0, err
	}
	if epoch == nil {
		return s.create()
	}
	s.rec.Epoch = string(epoch)
	clean = noClean
	var state, reserved, rolled, stop, born, anew record.Numbers
	for _, m := range []struct {
		name string
		n    int
		into *record.Numbers
	}{{record.MetaState, 5, &state}, {record.MetaReserved, 1, &reserved}, {record.MetaRoll, 3, &rolled}, {record.MetaClean, 1, &stop}, {record.MetaBorn, 1, &born}, {record.MetaAnew, 1, &anew}} {
		if *m.into, err = s.numbers(m.name, m.n); err != nil {
			return 0, err
		}
	}
	if state != nil {
		s.state = stateMark{seq: state[0], at: state.Time(1), position: state[2], tokens: state[3], filed: state.Time(4)}
	}
	if reserved != nil {
		s.reserved = reserved[0]
	}
	if rolled != nil {
		s.rolled = roll{hours: rolled.Time(0), days: rolled.Time(1), seq: rolled[2]}
	}
	if born != nil {
		s.born.Store(int64(born[0]))
	}
	if anew != nil {
		s.rec.Anew = anew[0]
	}
	if stop != nil {
		clean = stop[0]
	}
	if s.rec.Lost, err = s.ranges(record.MetaLost); err != nil {
		return 0, err
	}
	s.cutOff, err = s.ranges(record.MetaCut)
	return clean, err
}

func (s *Store) ranges(name string) ([]LostRange, error) {
	payload, err := getMeta(s.db, name)
	if err != nil || payload == nil {
		return nil, err
	}
	ranges, err := record.ReadLost(payload)
	return ranges, corrupt(err)
}

func (s *Store) numbers(name string, n int) (record.Numbers, error) {
	payload, err := getMeta(s.db, name)
	if err != nil || payload == nil {
		return nil, err
	}
	values, err := record.ReadNumbers(payload, n)
	if err != nil {
		return nil, fmt.Errorf("cannot read meta record %q: %w", name, corrupt(err))
	}
	return values, nil
}

// create writes the meta records of a new lineage. A folder that already holds
// other records has lost its epoch and is not taken for a new one.
func (s *Store) create() (uint64, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return 0, fmt.Errorf("cannot read store: %w", err)
	}
	found := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return 0, fmt.Errorf("cannot read store: %w", err)
	}
	switch {
	case found, s.before != nil: // the epoch is durable before the mark says anything
		return 0, fmt.Errorf("%w: epoch is missing", ErrCorrupt)
	case s.readOnly:
		return 0, fmt.Errorf("%w: it holds nothing yet", ErrAbsent)
	}
	s.rec.Epoch = newEpoch()
	return 0, s.putMeta(record.MetaEpoch, []byte(s.rec.Epoch))
}
