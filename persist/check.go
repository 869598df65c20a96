package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/persist/record"
)

// ErrChecking says that the store is being checked already.
var ErrChecking = errors.New("the store is being checked already")

// CheckOptions says how a running store is checked.
type CheckOptions struct {
	// Engine decodes the engine's own state; nil leaves that out.
	Engine func(blob []byte) error
	// Share is how much of one processor the check may take, 0…1; 0 does not rest.
	Share float64

	step func()      // of tests: in place of every rest
	old  func() bool // of tests: whether to look anew
}

// viewAge is how long a check looks at the store as it was at one moment: what is
// replaced or dropped meanwhile keeps its space until it looks anew.
const viewAge = 10 * time.Second

// Check does to the running store what Verify does to one that rests: it reads
// every record, computes again what was derived, and reports what is wrong. It
// looks at the store as it was at one moment, and anew at least every few
// seconds, where nothing that belongs together is cut. The writer goes on; Close
// ends the check. Damage is in the report; an error says that the check could not
// be done: ErrChecking, ErrClosed, ErrFatal, the context's.
func (s *Store) Check(ctx context.Context, o CheckOptions) (*Report, error) {
	if !s.checking.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("cannot check lineage %q: %w", s.opts.Lineage, ErrChecking)
	}
	defer s.checking.Store(false)
	var rep *Report
	err := s.beside(ctx, func(ctx context.Context) error {
		v := &verifier{
			ctx: ctx, o: &VerifyOptions{Dir: s.opts.FS.PathJoin(s.opts.Dir, s.opts.Lineage), Checks: Checks{Engine: o.Engine}},
			rep: &Report{}, kinds: map[byte]*KindCount{}, first: map[byte]uint32{}, broken: map[byte]bool{},
		}
		v.view = &view{s: s, pace: pace{ctx: ctx, share: o.Share, step: o.step}, old: o.old}
		v.rep.Dir = v.o.Dir
		began := time.Now()
		v.running()
		v.rep.Took = time.Since(began)
		rep = v.rep
		return v.err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot check lineage %q: %w", s.opts.Lineage, err)
	}
	return rep, nil
}

// beside runs work that reads the store for long. Close waits for it, and has its
// context end.
func (s *Store) beside(ctx context.Context, work func(context.Context) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.h.err() != nil:
		return s.h.err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrClosed) })()
	err := work(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.life.Err() != nil: // of which the context may not have heard yet
		return ErrClosed
	}
	return err
}

// view is what a check of a running store sees: the store at one moment.
type view struct {
	s *Store
	pace
	snap  *pebble.Snapshot
	taken time.Time
	old   func() bool
}

// aged reports whether the view should be renewed.
func (w *view) aged() bool {
	switch {
	case w == nil:
		return false
	case w.old != nil:
		return w.old()
	}
	return time.Since(w.taken) >= viewAge
}

// running checks a running store.
func (v *verifier) running() {
	v.view.begun = time.Now()
	defer func() {
		if r := recover(); r != nil { // as in openStill
			v.rep.add(Fault{Kind: "store", What: fmt.Sprintf("cannot be read: %v", r)})
		}
		if v.view.snap != nil {
			_ = v.view.snap.Close() // it cannot fail
		}
	}()
	v.look()
	v.walk()
}

// look takes a new view of the store, without reading anything of it.
func (v *verifier) look() {
	w := v.view
	if w.snap != nil {
		_ = w.snap.Close() // it cannot fail
	}
	v.before.durable = w.s.durable.Load().seq // before the picture is taken: it holds at least that
	w.snap, w.taken = w.s.db.NewSnapshot(), time.Now()
	v.db = w.snap
}

// renew takes a new view, with what everything else is measured by. What is wrong
// with that itself was reported when it was first read.
func (v *verifier) renew() {
	v.look()
	fresh := &verifier{ctx: v.ctx, o: v.o, rep: &Report{}, db: v.db, view: v.view, kinds: map[byte]*KindCount{}, first: map[byte]uint32{}, broken: v.broken}
	for _, walk := range []func(){fresh.meta, fresh.periods, fresh.closedMinutes} {
		if walk(); fresh.err != nil {
			v.err = fresh.err
			return
		}
	}
	v.state, v.stored, v.set, v.reserved, v.clean = fresh.state, fresh.stored, fresh.set, fresh.reserved, fresh.clean
	v.rolled, v.minutes, v.first = fresh.rolled, fresh.minutes, fresh.first
	v.rep.Holes, v.rep.Cut, v.rep.StateSeq = fresh.rep.Holes, fresh.rep.Cut, fresh.rep.StateSeq
}

// anew renews the view between two walks.
func (v *verifier) anew() {
	if v.view != nil {
		v.renew()
	}
}

// eachAlone is each for records that say nothing about one another: between any two
// of them the view may be renewed.
func (v *verifier) eachAlone(kind byte, fn func(key, payload []byte)) {
	v.walkKind(kind, func() bool { return true }, fn)
}

// walkKind walks every record of a kind. Where the view is old and ready says that
// nothing is cut, it goes on in a new one.
func (v *verifier) walkKind(kind byte, ready func() bool, fn func(key, payload []byte)) {
	c, n := v.count(kind), 0
	for start := []byte{kind}; start != nil && v.err == nil; {
		var next []byte
		err := scan(v.db, start, []byte{kind + 1}, func(key, value []byte) error {
			if n++; n%256 == 0 && v.ctx.Err() != nil {
				return v.ctx.Err()
			}
			fn(key, v.open(c, key, value))
			v.rest()
			if ready != nil && v.view.aged() && ready() {
				next = append(bytes.Clone(key), 0)
				return errStop
			}
			return nil
		})
		v.unreadable(kind, err)
		if start = next; next != nil && v.err == nil {
			v.renew()
		}
	}
}

// rest lets the service have the processor for a while, if that is due.
func (v *verifier) rest() {
	if v.view != nil {
		v.view.look()
	}
}

// restSmall is rest in loops of small rounds.
func (v *verifier) restSmall() {
	if v.view != nil {
		v.view.small()
	}
}

// betweenMinutes reports whether the journal's walk stands behind a closed minute,
// which it then ends: only there nothing is lost by looking anew.
func (w *tickWalk) betweenMinutes() bool {
	m := w.v.minutes
	if w.minute >= len(m) || m[w.minute].last != w.prev {
		return false
	}
	w.finish(w.prev + 1)
	w.moved = true
	return true
}

// settle finds the walk's place in a new view: minutes, and ticks behind it, may be
// gone, and the state may be newer.
func (w *tickWalk) settle(seq uint64) {
	if !w.moved {
		return
	}
	w.moved = false
	v := w.v
	w.minute, _ = slices.BinarySearchFunc(v.minutes, w.prev+1, func(m minuteSpan, first uint64) int {
		if m.last < first {
			return -1
		}
		return 1
	})
	if v.state.seq > v.rep.DurableSeq {
		v.rep.DurableSeq, v.rep.Time, w.whole, w.last = v.state.seq, v.state.at, true, v.state.seq
	}
	if seq > w.prev+1 {
		if oldest, ok := v.oldestTick(); ok && oldest == seq { // what is between was dropped
			w.prev = 0
		}
	}
}

// oldestTick returns the seq of the oldest tick that is kept.
func (v *verifier) oldestTick() (seq uint64, ok bool) {
	err := scan(v.db, []byte{record.KindJournal}, []byte{record.KindJournal + 1}, func(key, _ []byte) error {
		seq, ok = record.JournalSeq(key)
		return errStop
	})
	v.unreadable(record.KindJournal, err)
	return seq, ok
}

// gaps are the seqs of ticks that this process could not store for want of space.
// They are told before the tick behind them is stored, and never taken back.
func (s *Store) gaps() []LostRange {
	if g := s.refusals.Load(); g != nil {
		return *g
	}
	return nil
}

// refuse notes that a tick was not stored.
func (s *Store) refuse(seq uint64) {
	s.refused = seq
	list := record.AddLost(s.gaps(), LostRange{From: s.appended, To: seq})
	s.refusals.Store(&list)
}

// sameToken reports whether two chunks are of one token and period.
func sameToken(a, b []byte) bool {
	const part = 1 + 4 + 4 // kind, period, id
	return len(a) >= part && len(b) >= part && bytes.Equal(a[1:part], b[1:part])
}

// anewFrom renews the view and has two cursors go on at a key.
func (v *verifier) anewFrom(a, b *cursor, key []byte) {
	a.close()
	b.close()
	v.renew()
	for _, c := range []*cursor{a, b} {
		c.from(append([]byte{c.kind}, key[1:]...))
	}
}
