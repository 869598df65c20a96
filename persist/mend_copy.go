package persist

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
	"github.com/velocimeter/velocimeter/persist/sealed"
)

// errTarget marks what went wrong with the new store: to begin one with nothing in
// it would do no better.
var errTarget = errors.New("cannot make a new store")

// choose decides, from what the survey found, what the new store goes by.
func (m *mender) choose() {
	for _, seq := range slices.Backward(slices.Sorted(maps.Keys(m.meta.states))) {
		if set := m.meta.sets[seq]; set != nil {
			m.state, m.set = m.meta.states[seq], set
			break
		}
	}
	// Chunks that no roll record reaches would be taken for unfinished ones, and
	// what they hold for a gap.
	m.rolled = m.meta.roll
	if m.chunkEnd > m.rolled.hours {
		m.rolled.hours = m.chunkEnd
		for seq, at := range m.ticks {
			if at < m.chunkEnd {
				m.rolled.seq = max(m.rolled.seq, seq)
			}
		}
	}
	m.rolled.days = max(m.rolled.days, m.dayEnd)
	m.findHoles()
	m.oldEpoch = m.meta.epoch
	m.report.Epoch = m.meta.epoch
	whole := len(m.hits) == 0 && len(m.logHits) == 0 && len(m.report.LostSeqs) == 0
	if m.meta.epoch == "" || (m.blurred || !m.promised) && !whole {
		m.report.Epoch, m.report.NewEpoch = newEpoch(), true
	}
}

// findHoles lists the ticks that are missing between others that are kept for
// history or the state, and those that were durable behind the newest.
func (m *mender) findHoles() {
	seqs := slices.Sorted(maps.Keys(m.ticks))
	if len(seqs) == 0 {
		if m.promised && m.promise.durable > m.state.seq {
			m.lose(m.state.seq, m.promise.durable)
		}
		return
	}
	newest := seqs[len(seqs)-1]
	since := m.ticks[newest].Add(-m.o.Retention.Ticks)
	all := m.state.seq > 0 || follows(m.meta.lost, 0, seqs[0]) // where nothing was ever saved, a start needs every tick
	for i, seq := range seqs[1:] {
		last := seqs[i]
		if (m.ticks[last] >= since || all && last > m.state.seq) && !follows(m.meta.lost, last, seq) {
			m.lose(last, seq-1)
		}
	}
	if m.state.seq > 0 { // ticks behind it are kept in any case
		i, _ := slices.BinarySearch(seqs, m.state.seq+1)
		if i < len(seqs) && (i == 0 || seqs[i-1] < m.state.seq) && !follows(m.meta.lost, m.state.seq, seqs[i]) {
			m.lose(m.state.seq, seqs[i]-1)
		}
	}
	if m.promised && m.promise.durable > newest && !follows(m.meta.lost, newest, m.promise.durable+1) {
		m.lose(newest, m.promise.durable)
	}
}

// lose notes that the ticks after one up to another are gone.
func (m *mender) lose(after, to uint64) {
	if to <= after {
		return
	}
	m.report.addSeqs(SeqRange{First: after + 1, Last: to})
	m.meta.lost = record.AddLost(m.meta.lost, LostRange{From: after, To: to})
}

// open makes the new store. It is not logged: until it is whole, the damaged one
// is what counts.
func (m *mender) open() error {
	if err := m.fs.RemoveAll(m.target); err != nil {
		return fmt.Errorf("%w: cannot remove %q: %w", errTarget, m.target, err)
	}
	if err := makeDir(m.fs, m.target); err != nil {
		return fmt.Errorf("%w: cannot create %q: %w", errTarget, m.target, err)
	}
	m.h = &health{log: m.o.Logger, closing: make(chan struct{}), dead: make(chan struct{})}
	cache := pebble.NewCache(minCache)
	defer cache.Unref()
	var err error
	if m.layer, err = sealed.Open(m.fs, m.target, m.o.Keys); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	options := pebbleOptions(m.o, m.h, cache, m.layer)
	options.FS = m.layer.Over(ordered{m.fs}) // a full disk ends the mending
	options.DisableWAL = true
	options.MemTableSize = max(m.o.MemTableBytes, 4<<20)
	db, err := openPebble(m.target, options, m.h)
	if err != nil {
		return fmt.Errorf("%w: cannot create %q: %w", errTarget, m.target, err)
	}
	m.db, m.batch = db, db.NewBatch()
	return nil
}

// close lets go of the new store.
func (m *mender) close() error {
	if m.db == nil {
		return nil
	}
	err := m.batch.Close()
	if m.h.parked.Load() {
		err = errors.Join(err, m.h.held.release())
	} else {
		err = errors.Join(err, m.h.guard(m.db.Close))
	}
	close(m.h.closing)
	m.db = nil
	return err
}

func (m *mender) build() (err error) {
	if err := m.open(); err != nil {
		return err
	}
	defer func() {
		if bad := m.close(); bad != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", errTarget, bad))
		}
	}()
	if err := m.each(m.copy, false); err != nil {
		return err
	}
	if err := m.refusals(); err != nil {
		return err
	}
	if err := m.putMetas(); err != nil {
		return err
	}
	if err := m.repair(); err != nil {
		return err
	}
	if err := m.flush(0); err != nil {
		return err
	}
	m.report.State = m.stateIsWhole()
	if err := m.h.guard(m.db.Flush); err != nil {
		return fmt.Errorf("%w: cannot write %q: %w", errTarget, m.target, err)
	}
	if err := errors.Join(m.failure(), m.putPromise()); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return nil
}

// stateIsWhole reports whether the new store has all of a saved state.
func (m *mender) stateIsWhole() bool {
	if m.set == nil {
		return false
	}
	keys := [][]byte{{record.KindEngine}}
	for id := range m.set.Tokens {
		keys = append(keys, record.StateKey(id))
	}
	return !slices.ContainsFunc(keys, func(key []byte) bool {
		_, closer, err := m.db.Get(key)
		return err != nil || closer.Close() != nil
	})
}

// failure says why what was written cannot be relied upon.
func (m *mender) failure() error {
	if err := m.h.err(); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	if err := m.h.last.Load(); err != nil {
		return fmt.Errorf("%w: cannot write %q: %w", errTarget, m.target, *err)
	}
	return nil
}

// flush hands the batch to pebble when it has grown to some size.
func (m *mender) flush(size int) error {
	if m.batch.Len() < size || m.batch.Empty() {
		return nil
	}
	if err := m.failure(); err != nil { // before a write could wait for ever
		return err
	}
	if err := m.h.guard(func() error { return m.db.Apply(m.batch, pebble.NoSync) }); err != nil {
		return fmt.Errorf("%w: cannot write %q: %w", errTarget, m.target, err)
	}
	m.batch.Reset()
	return nil
}

// copy takes a value over that checks out, if it belongs to the new store.
func (m *mender) copy(key, value []byte) error {
	payload, err := record.Open(key, value)
	if err != nil || !m.wanted(key, value, payload) {
		return nil //nolint:nilerr // it was counted
	}
	if key[0] == record.KindDay || key[0] == record.KindMonth {
		if more, err := m.says(key, payload); err != nil || !more {
			return err
		}
	}
	if err := m.batch.Set(key, value, nil); err != nil {
		return err
	}
	if key[0] == record.KindDay || key[0] == record.KindMonth {
		return m.flush(0) // the next version is compared with it
	}
	return m.flush(1 << 20)
}

func (m *mender) wanted(key, value, payload []byte) bool {
	switch key[0] {
	case record.KindMeta:
		return false // made anew
	case record.KindState:
		id, ok := record.StateID(key)
		if !ok || m.set == nil {
			return false
		}
		sum, ok := m.set.Tokens[id]
		return ok && sum == record.Sum(value)
	case record.KindEngine:
		return m.set != nil && m.set.Engine == record.Sum(value)
	case record.KindCells, record.KindLast:
		day, id, part, ok := record.ParseChunkKey(key)
		hour := dayStart(day).Add(market.Millis(part) * market.Hour)
		grave, buried := m.graves[id]
		return ok && (!buried || hour > grave) && (m.set == nil || hour < record.Floor(m.state.at, market.Hour))
	case record.KindJournal:
		_, err := record.ReadHead(payload)
		return err == nil
	case record.KindHour, record.KindFive, record.KindDay, record.KindMonth:
		_, err := record.ReadRows(nil, payload, layouts[key[0]].rows)
		_, _, _, ok := record.ParseChunkKey(key)
		return err == nil && ok
	case record.KindBlock:
		return record.ReadBlock(payload, 0, func(market.ID, record.Row) {}) == nil
	case record.KindMinute:
		_, err := record.ReadNumbers(payload, 2)
		return err == nil
	case record.KindTombstone, record.KindName:
		return true
	}
	return false
}

// says reports whether a chunk that grows says no less than the version of it that
// was taken over before: an import replaces rows, and files are read in their order.
func (m *mender) says(key, payload []byte) (more bool, err error) {
	value, closer, err := m.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read %x: %w", key, err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	old, err := record.Open(key, value)
	if err != nil {
		return true, nil // nothing is worse
	}
	limit := layouts[key[0]].rows
	a, errA := record.ReadRows(nil, payload, limit)
	b, errB := record.ReadRows(nil, old, limit)
	return errA == nil && (errB != nil || len(a) >= len(b)), nil
}

// putMetas writes the meta records.
func (m *mender) putMetas() error {
	put := func(name string, payload []byte) error {
		key := record.MetaKey(name)
		value := append(record.Begin(nil), payload...)
		record.Seal(key, value)
		return m.batch.Set(key, value, nil)
	}
	errs := []error{
		put(record.MetaEpoch, []byte(m.report.Epoch)),
		put(record.MetaReserved, record.AppendNumbers(nil, m.reserved())),
		put(record.MetaLost, record.AppendLost(nil, m.meta.lost)),
		put(record.MetaCut, record.AppendLost(nil, m.meta.cut)),
	}
	if m.set == nil || len(m.report.LostSeqs) > 0 {
		// The state goes on over the hole, and not as clients saw it.
		m.meta.anew = m.reserved()
	}
	if m.meta.anew > 0 {
		errs = append(errs, put(record.MetaAnew, record.AppendNumbers(nil, m.meta.anew)))
	}
	if m.rolled.hours > 0 {
		errs = append(errs, put(record.MetaRoll, m.rolled.append(nil)))
	}
	if c := m.meta.coarse; c != (stretch{}) {
		errs = append(errs, put(record.MetaCoarse, record.AppendNumbers(nil, uint64(c.from), uint64(c.to))))
	}
	if m.meta.born > 0 {
		errs = append(errs, put(record.MetaBorn, record.AppendNumbers(nil, uint64(m.meta.born))))
	}
	if s := m.state; m.set != nil {
		errs = append(errs, put(record.MetaSet, m.set.Append(nil)),
			put(record.MetaState, record.AppendNumbers(nil, s.seq, uint64(s.at), s.position, s.tokens, uint64(s.filed))))
	}
	return errors.Join(errs...)
}

// reserved is the highest seq that may have been used.
func (m *mender) reserved() uint64 {
	top := max(m.meta.reserved, m.promise.reserved, m.promise.durable, m.state.seq, m.rolled.seq)
	for seq := range m.ticks {
		top = max(top, seq)
	}
	if n := len(m.meta.lost); n > 0 {
		top = max(top, m.meta.lost[n-1].To)
	}
	return top
}

// putPromise writes MARK as an unclean stop leaves it.
func (m *mender) putPromise() error {
	mark, _, err := openMarker(m.layer.Over(m.fs), m.target, false)
	if mark == nil {
		return err
	}
	mark.last.generation = m.promise.generation
	return errors.Join(mark.write(0, m.reserved(), false), mark.close())
}

// nothing begins a lineage without anything of the old one.
func (m *mender) nothing() error {
	if err := errors.Join(m.close(), m.fs.RemoveAll(m.target)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.report.Epoch, m.report.NewEpoch = newEpoch(), true
	m.report.Records, m.report.State, m.report.LostSeqs = 0, false, []SeqRange{}
	m.report.Lost = []Loss{{Kind: "all", LastToken: ^market.ID(0), To: maxTime}}
	m.meta = mendMeta{}
	m.ticks, m.state, m.set, m.rolled = nil, stateMark{}, nil, roll{}
	if err := m.open(); err != nil {
		return err
	}
	if err := errors.Join(m.putMetas(), m.flush(0), m.h.guard(m.db.Flush), m.failure(), m.putPromise()); err != nil {
		return errors.Join(err, m.close())
	}
	return m.close()
}
