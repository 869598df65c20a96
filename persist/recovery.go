package persist

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// LostRange are the seqs after From up to and including To: they may have been
// published, and what they carried is not in the store.
type LostRange = record.LostRange

// Damage is a stored value that does not check out.
type Damage struct {
	Key  string // in hexadecimal
	What string
}

// Recovery is what Open found.
type Recovery struct {
	Epoch      string
	StateSeq   uint64 // tick of the stored state; 0 none
	DurableSeq uint64 // newest tick that can be restored
	NextSeq    uint64 // first seq that may be used
	Lost       []LostRange
	Position   uint64      // newest durable replay position; 0 none
	Time       market.Time // instant of DurableSeq
	StateTime  market.Time // instant of StateSeq
	Engine     []byte      // the engine's own state
	Tombstones []market.Tombstone
	Clean      bool // the process before stopped in order, nothing is missing
	// Mended is what the newest mending of the store found; nil: it never was.
	Mended *Mended
	// StateDamaged says that some of the stored state cannot be read: it has to be
	// rebuilt from Early and NewCells.
	StateDamaged bool
	// Anew is the newest seq before which the state was rebuilt: positions up to it
	// cannot be gone on from. 0: none.
	Anew    uint64
	Rebuilt *Rebuilt // what this start rebuilt, see NoteRebuilt; nil: nothing
	// Damage lists what failed its checks; the seqs that it costs are in Lost.
	Damage []Damage
}

// maxDamage bounds Recovery.Damage.
const maxDamage = 64

// Recovery returns what Open found.
func (s *Store) Recovery() Recovery { return s.rec }

func (s *Store) damaged(key []byte, what error) {
	name := hex.EncodeToString(key)
	s.log.Error("damaged record", "key", name, "what", what)
	s.stats.damaged.Add(1)
	if len(s.rec.Damage) < maxDamage {
		s.rec.Damage = append(s.rec.Damage, Damage{Key: name, What: what.Error()})
	}
}

// recover reads the meta records, checks state and journal, fixes the seqs from
// which to go on, and rebuilds the open minute.
func (s *Store) recover() error {
	clean, err := s.loadMeta()
	if err != nil {
		return err
	}
	intact := s.checkState()
	if s.state.seq == 0 {
		if err := s.missingState(); err != nil {
			return err
		}
		intact = !s.rec.StateDamaged
	}
	s.rec.StateDamaged = !intact
	last, whole, err := s.checkJournal()
	if err != nil {
		return err
	}
	// What is in chunks is over, also where it was imported and no tick is there.
	s.at = max(s.at, s.rolled.hours-1)
	orderly := s.checkPromise()
	if err := s.suspicion(); err != nil && s.strict {
		return err
	}
	s.rec.DurableSeq = last.seq
	s.rec.Time = last.at
	s.rec.Clean = clean == last.seq && clean != noClean && orderly && intact && whole && len(s.rec.Damage) == 0
	if err := s.fixSeqs(last.seq, whole); err != nil {
		return err
	}
	if err := s.loadTombstones(); err != nil {
		return err
	}
	if !s.readOnly { // nothing will close it
		if err := s.rebuildMinute(); err != nil {
			return err
		}
	}
	s.durable.Store(&mark{seq: s.appended, at: s.at})
	return s.promised(s.appended, false)
}

// fixSeqs decides where to go on. After a clean stop that is the next seq that
// is not lost; otherwise everything that may have been published without being
// kept is recorded as lost and never used again.
func (s *Store) fixSeqs(last uint64, whole bool) error {
	s.appended = max(s.appended, last)
	s.rec.StateSeq, s.rec.StateTime = s.state.seq, s.state.at
	s.stats.state.Store(s.state.seq)
	used := max(s.reserved, s.appended)
	if s.rec.Clean {
		s.rec.NextSeq = last + 1
		if n := len(s.rec.Lost); n > 0 { // an earlier stop may have cost seqs that nothing followed
			s.rec.NextSeq = max(s.rec.NextSeq, s.rec.Lost[n-1].To+1)
		}
	} else {
		s.rec.NextSeq = used + 1
		s.rec.Lost = record.AddLost(s.rec.Lost, LostRange{From: last, To: used})
	}
	s.cutOff = slices.DeleteFunc(s.cutOff, func(r LostRange) bool { return r.To <= s.state.seq && r.To < s.trimmed })
	if !whole {
		s.cutOff = record.AddLost(s.cutOff, LostRange{From: last, To: s.appended})
	}
	if s.readOnly {
		return nil
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	if err := s.setMeta(b, record.MetaLost, record.AppendLost(nil, s.rec.Lost)); err != nil {
		return err
	}
	if err := s.setMeta(b, record.MetaCut, record.AppendLost(nil, s.cutOff)); err != nil {
		return err
	}
	if err := b.Delete(record.MetaKey(record.MetaClean), nil); err != nil {
		return err
	}
	return s.apply(b, pebble.Sync)
}

// checkState checks every part of the state and reports whether all is there.
func (s *Store) checkState() bool {
	intact := true
	bad := func(key []byte, err error) {
		intact = false
		s.damaged(key, err)
	}
	if s.state.seq == 0 {
		return true
	}
	key := []byte{record.KindEngine}
	value, closer, err := s.db.Get(key)
	if err == nil {
		var payload []byte
		if payload, err = record.Open(key, value); err == nil {
			s.rec.Engine = append([]byte{}, payload...)
		}
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		bad(key, err)
	}
	err = scan(s.db, []byte{record.KindState}, []byte{record.KindState + 1}, func(key, value []byte) error {
		id, ok := record.StateID(key)
		if _, err := record.Open(key, value); err != nil || !ok {
			bad(key, errors.Join(err, ErrCorrupt))
			return nil
		}
		s.tokens[id] = struct{}{}
		return nil
	})
	if err != nil {
		bad([]byte{record.KindState}, err)
	}
	if uint64(len(s.tokens)) != s.state.tokens && intact {
		bad([]byte{record.KindState}, fmt.Errorf("%w: %d of %d token states", ErrCorrupt, len(s.tokens), s.state.tokens))
	}
	return intact
}

// checkJournal finds the newest tick up to which everything after the state is
// there and intact, and sets the store to go on after the newest one of all.
// whole is false where a record between is missing or damaged.
func (s *Store) checkJournal() (last mark, whole bool, err error) {
	last = mark{seq: s.state.seq, at: s.state.at} // of the engine: filing may run ahead of it
	s.rec.Position = s.state.position
	s.appended, s.at, s.position = last.seq, s.state.filed, s.state.position
	whole = true
	err = scan(s.db, []byte{record.KindJournal}, []byte{record.KindJournal + 1}, func(key, value []byte) error {
		seq, ok := record.JournalSeq(key)
		if !ok {
			s.damaged(key, ErrCorrupt)
			return nil
		}
		if s.trimmed == 0 {
			s.trimmed = seq
		}
		if seq <= s.state.seq {
			return skipError{record.JournalKey(s.state.seq + 1)}
		}
		gone := inRanges(s.cutOff, seq)
		payload, err := record.Open(key, value)
		var head *record.Head
		if err == nil {
			head, err = record.ReadHead(payload)
		}
		if err != nil {
			if !gone { // otherwise an earlier start reported it
				s.damaged(key, err)
				whole = false
			}
			s.appended = max(s.appended, seq)
			return nil
		}
		if whole && !gone && !follows(s.rec.Lost, last.seq, seq) {
			s.damaged(record.JournalKey(last.seq+1), fmt.Errorf("%w: ticks %d…%d are missing", ErrCorrupt, last.seq+1, seq-1))
			whole = false
		}
		s.appended, s.at, s.position = seq, max(s.at, head.At), max(s.position, head.Position)
		if whole && !gone {
			last = mark{seq: seq, at: head.Tick.Env.Now}
			s.rec.Position = s.position
			for _, id := range head.Tick.Removed {
				s.retired[id] = struct{}{}
			}
		}
		return nil
	})
	// Where ticks and state are gone, chunks still tell how far history was.
	s.appended, s.at = max(s.appended, s.rolled.seq), max(s.at, s.rolled.hours-1)
	return last, whole, err
}

// follows reports whether no tick is missing between two seqs: they are
// neighbours, or all between them is known to be lost.
func follows(lost []LostRange, last, seq uint64) bool {
	for _, r := range lost {
		if r.From <= last && last < r.To {
			last = r.To
		}
	}
	return seq == last+1 || seq <= last
}

func inRanges(ranges []LostRange, seq uint64) bool {
	for _, r := range ranges {
		if r.From < seq && seq <= r.To {
			return true
		}
	}
	return false
}

func (s *Store) loadTombstones() error {
	return scan(s.db, []byte{record.KindTombstone}, []byte{record.KindTombstone + 1}, func(key, value []byte) error {
		t, ok := record.ParseTombstoneKey(key)
		if _, err := record.Open(key, value); err != nil || !ok {
			s.damaged(key, errors.Join(err, ErrCorrupt))
			return nil
		}
		if t.Seq <= s.rec.DurableSeq {
			s.rec.Tombstones = append(s.rec.Tombstones, t)
		}
		return nil
	})
}

// Journal yields the ticks after StateSeq up to DurableSeq in order, with their
// quotes. A nil Quote.Info means the names that the token had before. Decoding
// runs ahead of fn by a few ticks, so that both can use a processor each.
func (s *Store) Journal(fn func(*market.JournalTick) error) error {
	ahead, quit := make(chan *market.JournalTick, journalAhead), make(chan struct{})
	var readErr error
	go func() {
		defer close(ahead)
		readErr = s.readJournal(func(t *market.JournalTick) error {
			select {
			case ahead <- t:
				return nil
			case <-quit:
				return errStop
			}
		})
	}()
	var err error
	for t := range ahead {
		if err != nil {
			continue
		}
		if err = fn(t); err != nil {
			close(quit)
		}
	}
	return errors.Join(err, readErr)
}

// journalAhead bounds the decoded ticks in memory, some 2 MiB each where 5,000
// tokens changed.
const journalAhead = 4

func (s *Store) readJournal(fn func(*market.JournalTick) error) error {
	return s.readTicks(s.rec.StateSeq+1, s.rec.DurableSeq, fn)
}

func (s *Store) readTicks(first, last uint64, fn func(*market.JournalTick) error) error {
	start, end := record.JournalKey(first), record.JournalKey(last+1)
	return scan(s.db, start, end, func(key, value []byte) error {
		if seq, _ := record.JournalSeq(key); inRanges(s.cutOff, seq) {
			return nil
		}
		payload, err := record.Open(key, value)
		if err != nil {
			return corrupt(err)
		}
		head, err := record.ReadHead(payload)
		if err != nil {
			return corrupt(err)
		}
		tick, err := head.Rows()
		if err != nil {
			return corrupt(err)
		}
		return fn(tick)
	})
}
