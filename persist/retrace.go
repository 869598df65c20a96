package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/persist/record"
)

// ErrUntraceable says that a tick cannot be reached from the stored state: that is
// newer, of another process, or not there, or a tick between is not.
var ErrUntraceable = errors.New("the tick cannot be reached from the stored state")

// Retracing says what Retrace yields, and to whom. What is given is valid during
// the call only.
type Retracing struct {
	From, To market.ID // both included
	Seq      uint64    // the last tick
	Share    float64   // of one processor, as CheckOptions.Share

	Engine func(blob []byte) error
	// Damaged is told of window cells that cannot be read, behind the last token.
	Damaged func(err error)
	// Token gets what Store.Tokens yields. Damaged states are left out.
	Token func(ts market.TokenState, cells []market.Cell) error
	// Tick gets the ticks behind the state up to Seq with the rows of these tokens,
	// and what each row with a quote showed.
	Tick func(t *market.JournalTick, shown map[market.ID]record.Sample) error
}

// Retrace yields what made some tokens what they were at a tick: the stored state
// of this process, and the ticks behind it. The store goes on meanwhile; Close ends
// it. Errors: ErrUntraceable, ErrCorrupt, ErrClosed, ErrFatal, the context's, and
// what the functions return.
func (s *Store) Retrace(ctx context.Context, r Retracing) error {
	return s.beside(ctx, func(ctx context.Context) error {
		snap := s.db.NewSnapshot()
		defer func() { _ = snap.Close() }() // it cannot fail
		t := retrace{Retracing: r, s: s, db: snap, pace: pace{ctx: ctx, share: r.Share, begun: time.Now()}}
		if err := t.run(); err != nil {
			return fmt.Errorf("cannot retrace tick %d: %w", r.Seq, err)
		}
		return nil
	})
}

type retrace struct {
	Retracing
	s  *Store
	db *pebble.Snapshot
	pace
}

func (t *retrace) run() error {
	state, err := t.state()
	if err != nil {
		return err
	}
	if err := t.engine(); err != nil {
		return err
	}
	end := []byte{record.KindState + 1}
	if t.To < ^market.ID(0) {
		end = record.StateKey(t.To + 1)
	}
	r, failed := tokenReader{db: t.db, at: state.at, log: slog.New(slog.DiscardHandler)}, error(nil)
	err = r.read(record.StateKey(t.From), end, func(ts market.TokenState, cells []market.Cell) error {
		t.look()
		failed = errors.Join(t.Token(ts, cells), t.ctx.Err())
		return failed
	})
	if err != nil && (failed != nil || !errors.Is(err, ErrCorrupt)) {
		return err
	}
	if err != nil {
		t.Damaged(err)
	}
	return t.ticks(state.seq)
}

// state reads where the state stands. One that an earlier process left may have been
// made by other rules, or mended.
func (t *retrace) state() (stateMark, error) {
	payload, err := getMeta(t.db, record.MetaState)
	if err != nil {
		return stateMark{}, err
	}
	if payload == nil {
		return stateMark{}, fmt.Errorf("%w: no state is stored yet", ErrUntraceable)
	}
	n, err := record.ReadNumbers(payload, 5)
	switch {
	case err != nil:
		return stateMark{}, corrupt(err)
	case n[0] < t.s.rec.NextSeq:
		return stateMark{}, fmt.Errorf("%w: the state of tick %d is of an earlier process", ErrUntraceable, n[0])
	case n[0] > t.Seq:
		return stateMark{}, fmt.Errorf("%w: the state is of tick %d", ErrUntraceable, n[0])
	}
	return stateMark{seq: n[0], at: n.Time(1)}, nil
}

func (t *retrace) engine() error {
	key := []byte{record.KindEngine}
	value, closer, err := t.db.Get(key)
	if err != nil {
		return fmt.Errorf("cannot read the engine's state: %w", storeError(err))
	}
	defer func() { _ = closer.Close() }()
	payload, err := record.Open(key, value)
	if err != nil {
		return corrupt(err)
	}
	return t.Engine(payload)
}

// ticks yields the ticks behind the state, of which none may be missing.
func (t *retrace) ticks(last uint64) error {
	shown := map[market.ID]record.Sample{}
	want := func(id market.ID) bool { return id >= t.From && id <= t.To }
	err := scan(t.db, record.JournalKey(last+1), record.JournalKey(t.Seq+1), func(key, value []byte) error {
		t.look()
		payload, err := record.Open(key, value)
		if err != nil {
			return corrupt(err)
		}
		head, err := record.ReadHead(payload)
		if err != nil {
			return corrupt(err)
		}
		tick := &head.Tick
		if tick.Env.Seq != last+1 {
			return fmt.Errorf("%w: tick %d is missing", ErrUntraceable, last+1)
		}
		last++
		clear(shown)
		err = head.Pick(want, func(row *market.JournalRow, sample *record.Sample) {
			tick.Rows = append(tick.Rows, *row)
			if row.Quote != nil {
				shown[row.ID] = *sample
			}
		})
		if err != nil {
			return corrupt(err)
		}
		return errors.Join(t.Tick(tick, shown), t.ctx.Err())
	})
	if err == nil && last != t.Seq {
		err = fmt.Errorf("%w: tick %d is missing", ErrUntraceable, last+1)
	}
	return err
}
