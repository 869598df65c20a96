package persist

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Reserve makes seqs up to upTo usable and durable as such: after a crash none
// of them is used again.
func (s *Store) Reserve(upTo uint64) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if upTo <= s.reserved {
		return nil
	}
	if err := s.putMeta(record.MetaReserved, record.AppendNumbers(nil, upTo)); err != nil {
		return err
	}
	s.reserved = upTo
	return s.promised(s.durable.Load().seq, false)
}

// Append adds a tick to the journal and its samples to the open minute. It is
// durable, and visible in History, after the next Commit; the first ones after
// ErrNoSpace after the next Save. Seqs ascend and are
// reserved; the first one is Recovery.NextSeq or later. Errors: ErrOrder, ErrNoSpace
// (nothing has changed, the next tick may be appended), ErrFatal.
func (s *Store) Append(t *market.Tick) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	return s.append(t)
}

func (s *Store) append(t *market.Tick) error {
	if err := s.writable(); err != nil {
		return err
	}
	seq := t.Env.Seq
	if seq <= s.appended || seq < s.rec.NextSeq || seq > s.reserved {
		return fmt.Errorf("%w: seq %d after %d, reserved up to %d", ErrOrder, seq, s.appended, s.reserved)
	}
	// Instants are unique, so that a page of history can end between any two
	// ticks: where the engine's clock stands, history creeps on.
	at := max(t.Env.Now, s.at+1)
	if err := s.roomy(); err != nil {
		s.refuse(seq)
		return fmt.Errorf("cannot append tick %d: %w", seq, err)
	}
	if err := s.enter(seq, at); err != nil {
		return err
	}
	if s.appended == 0 && s.born.Load() == 0 {
		if err := s.setMeta(s.batch, record.MetaBorn, record.AppendNumbers(nil, uint64(at))); err != nil {
			return fmt.Errorf("cannot append tick %d: %w", seq, err)
		}
		s.born.Store(int64(at))
	}
	position := max(s.position, t.Position)
	err := s.put(s.batch, record.JournalKey(seq), func(dst []byte) []byte {
		return s.enc.Append(dst, t, at, position)
	})
	if err != nil {
		return fmt.Errorf("cannot append tick %d: %w", seq, err)
	}
	for _, id := range t.Removed {
		s.retired[id] = struct{}{}
		if err := s.put(s.batch, record.TombstoneKey(t.Env.Now, seq, id), func(dst []byte) []byte { return dst }); err != nil {
			return fmt.Errorf("cannot append tick %d: %w", seq, err)
		}
	}
	for c := range t.Changes {
		if c.Quote != nil {
			sample := record.SampleOf(c)
			s.open.add(c.Snap.ID, &sample)
		}
	}
	if s.refused > s.appended {
		s.skipped = record.AddLost(s.skipped, LostRange{From: s.appended, To: seq - 1})
	}
	s.appended, s.at, s.position, s.unsynced = seq, at, position, true
	s.stats.ticks.Add(1)
	s.stats.rows.Add(uint64(t.Rows()))
	s.stats.appended.Store(seq)
	if s.batch.Len() >= s.opts.BatchBytes {
		return s.apply(s.batch, pebble.NoSync)
	}
	return nil
}

// roomy looks for space and says why there is none, or nil.
func (s *Store) roomy() error {
	s.space.look(time.Now())
	return s.space.err()
}

// Commit makes everything appended durable and returns the newest durable seq.
// Full hours move into chunks and old data goes, in engine time; while there is no
// space for history both wait. Error: ErrFatal.
func (s *Store) Commit() (durable uint64, err error) {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := s.writable(); err != nil {
		return s.durable.Load().seq, err
	}
	err = s.commit()
	return s.durable.Load().seq, err
}

func (s *Store) commit() error {
	if s.unsynced {
		if err := s.sync(); err != nil {
			return fmt.Errorf("cannot commit: %w", err)
		}
	}
	if s.space.look(time.Now()); s.space.low.Load() {
		return nil
	}
	if err := s.rollHours(); err != nil {
		return fmt.Errorf("cannot move minutes into chunks: %w", err)
	}
	if err := s.retain(); err != nil {
		return fmt.Errorf("cannot drop old data: %w", err)
	}
	return nil
}

// reach calls what is synced durable. Ticks behind ones that there was no space
// for wait for a state that holds what those changed: a start could not go on
// across the hole.
func (s *Store) reach() error {
	if len(s.skipped) > 0 {
		return nil
	}
	if err := s.promised(s.appended, false); err != nil {
		return err
	}
	s.durable.Store(&mark{seq: s.appended, at: s.at})
	return nil
}

// sync writes the open batch and waits for the disk, then notes beside the log what
// is durable: the log tells damage from a torn tail only up to an offset that a
// record in a later block of it gives as synced.
func (s *Store) sync() error {
	began := time.Now()
	if err := s.apply(s.batch, pebble.NoSync); err != nil {
		return err
	}
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		s.h.fail(err)
	}
	if err := s.h.err(); err != nil {
		return err
	}
	if err := s.reach(); err != nil {
		return err
	}
	s.unsynced = false
	s.stats.committed(time.Since(began))
	return nil
}
