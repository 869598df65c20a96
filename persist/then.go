package persist

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/persist/record"
)

// Past returns the market as it was at an instant, of what is durable. Ticks
// give what was shown after the newest one by then. Where they are gone the
// finest granularity that is kept gives the closing values of the newest stretch
// that had ended: nothing in an answer is from after the instant. It may be
// called from any goroutine; memory grows with the tokens, not with the time
// looked at. Errors: ErrCorrupt, ErrClosed, the context's.
func (s *Store) Past(ctx context.Context, q market.PastQuery) (*market.PastMarket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	// The mark first: the snapshot may then hold more, which is filtered, never less.
	durable := *s.durable.Load()
	snap := s.db.NewSnapshot()
	t := then{
		past:   past{ctx: ctx, db: snap, id: q.ID, durable: durable, cutOff: s.cutOff},
		at:     q.At,
		keep:   s.opts.Retention,
		newest: durable.at,
		rules:  quality.DefaultConfig(),
		tokens: map[market.ID]*folded{},
	}
	page := &market.PastMarket{Durable: durable.at, Oldest: t.oldestOfAll(market.Time(s.born.Load()))}
	var err error
	if durable.seq > 0 && q.At <= durable.at && q.At >= page.Oldest {
		err = t.read(&q, page)
	}
	if err := errors.Join(err, snap.Close()); err != nil {
		return nil, fmt.Errorf("cannot read the market of %d: %w", q.At, err)
	}
	return page, nil
}

// then reads the market of one instant: granularity after granularity, from the
// finest that is kept, each adding the tokens that those before did not know.
type then struct {
	past
	at     market.Time
	keep   Retention
	newest market.Time // durable tick
	rules  quality.Config
	tokens map[market.ID]*folded
	// missing are the tokens that are likely to be found and are not yet, with
	// the seq after which they came. nil: nobody knows what is to be found.
	missing map[market.ID]uint64
	// retired says when a token was retired last by then.
	retired map[market.ID]market.Time
}

// folded is what is known of a token. A nil snapshot means that it had been retired.
type folded struct {
	snap   *market.Snapshot
	grain  market.Granularity
	quote  *market.Quote // newest
	lacks  market.Mask   // members that quotes so far did not have
	clocks []clocked     // clock-driven rows after the quote, newest first
}

// ladder are the granularities that are stored, finest first.
var ladder = [...]struct {
	g    market.Granularity
	kind byte
}{
	{market.GranularityRaw, record.KindJournal},
	{market.Granularity1m, record.KindHour},
	{market.Granularity5m, record.KindFive},
	{market.Granularity1h, record.KindDay},
	{market.Granularity1d, record.KindMonth},
}

// oldestOfAll returns the instant from which anything at all is kept.
func (t *then) oldestOfAll(born market.Time) market.Time {
	oldest := maxTime
	for _, l := range ladder {
		oldest = min(oldest, t.keep.oldest(l.g, t.newest))
	}
	return max(oldest, born)
}

func (t *then) read(q *market.PastQuery, page *market.PastMarket) error {
	if err := t.readRoll(); err != nil {
		return err
	}
	if err := t.expect(q); err != nil {
		return err
	}
	coarse, err := coarseStretch(t.db)
	if err != nil {
		return err
	}
	found := false
	since := t.at.Add(-market.PastLookBack)
	for _, l := range ladder {
		oldest := t.keep.oldest(l.g, t.newest)
		if oldest > t.at {
			continue
		}
		var asOf market.Time
		var err error
		if l.g == market.GranularityRaw {
			asOf, page.Seq, err = t.ticksBefore(max(oldest, since+1))
		} else {
			asOf, err = t.rowsBefore(l.g, l.kind, oldest)
		}
		if err != nil {
			return err
		}
		if asOf != 0 && !found {
			page.Granularity, page.AsOf, found = l.g, asOf, true
		}
		// What was kept for all of the look-back leaves nothing to coarser rows, but
		// where such were imported.
		if t.complete() || oldest <= since.Add(-l.g.Width()) && !coarse.meets(since, t.at) {
			break
		}
	}
	page.Tokens = t.collect()
	return nil
}

// expect notes which tokens are likely to be found, and when tokens had retired.
func (t *then) expect(q *market.PastQuery) error {
	if t.id != 0 {
		t.missing = map[market.ID]uint64{t.id: 0}
	} else if len(q.Alive) > 0 && t.at > t.newest.Add(-tombstoneLife) {
		t.missing = make(map[market.ID]uint64, len(q.Alive))
		for _, a := range q.Alive {
			if first, again := t.missing[a.ID]; !again || a.First < first {
				t.missing[a.ID] = a.First
			}
		}
	}
	t.retired = map[market.ID]market.Time{}
	// A row of a day that ended within the look-back may be of a day before it.
	from := max(t.at.Add(-market.PastLookBack-market.Day), 0)
	return scan(t.db, record.TimeKey(record.KindTombstone, from), record.TimeKey(record.KindTombstone, t.at+1), func(key, _ []byte) error {
		if r, ok := record.ParseTombstoneKey(key); ok && r.Seq <= t.durable.seq {
			t.retired[r.ID] = r.Time
		}
		return nil
	})
}

// complete reports whether all that can be found was found.
func (t *then) complete() bool { return t.missing != nil && len(t.missing) == 0 }

// wants reports whether rows before may still say something of a token.
func (t *then) wants(id market.ID) bool {
	if t.id != 0 && id != t.id {
		return false
	}
	f := t.tokens[id]
	return f == nil || f.snap == nil && len(f.clocks) > 0 || f.lacks != 0
}

func (t *then) collect() []market.PastToken {
	out := make([]market.PastToken, 0, len(t.tokens))
	for _, f := range t.tokens {
		if f.snap != nil {
			out = append(out, market.PastToken{Snap: f.snap, Granularity: f.grain})
		}
	}
	return out
}

// rowsBefore adds the tokens' newest rows of a granularity whose stretch had
// ended, and ended within the look-back. asOf is the end of the newest; 0: none.
func (t *then) rowsBefore(g market.Granularity, kind byte, oldest market.Time) (asOf market.Time, err error) {
	width := g.Width()
	last := record.Floor(t.at, width).Add(-width) // the newest stretch that had ended
	first := max(record.Floor(t.at.Add(-market.PastLookBack), width), oldest, 0)
	done := t.rolled.hours
	if kind == record.KindMonth {
		done = t.rolled.days
	}
	take := func(id market.ID, start market.Time, row *record.Row) {
		end := layouts[kind].end(start, row)
		asOf = max(asOf, end)
		if retired, ok := t.retired[id]; ok && retired >= start {
			t.found(id, &folded{grain: g})
			return
		}
		t.found(id, &folded{snap: closing(id, row, end), grain: g})
	}
	if g == market.Granularity1m && last >= done {
		if err := t.blocksBefore(max(first, done), last, take); err != nil || t.complete() {
			return asOf, err
		}
	}
	if last = min(last, done.Add(-width)); last < first {
		return asOf, nil
	}
	return asOf, t.chunksBefore(kind, first, last, take)
}

// found adds a token, unless it is known.
func (t *then) found(id market.ID, f *folded) {
	if t.tokens[id] == nil {
		t.tokens[id] = f
	}
	delete(t.missing, id)
}

// closing is a snapshot of a row's closing values.
func closing(id market.ID, row *record.Row, end market.Time) *market.Snapshot {
	s := empty(id)
	s.Put(market.FieldPrice, row.Price.Close)
	s.Put(market.FieldMarketCap, row.Cap.Close)
	s.Put(market.FieldVolume24h, row.Volume.Close)
	s.Put(market.FieldVelocity, row.Velocity.Close)
	s.Put(market.FieldFlags, market.Decimal{Mant: int64(row.Flags &^ record.Marks)})
	s.Put(market.FieldSourceTime, market.Decimal{Mant: int64(end)})
	return s
}

// empty is a snapshot in which every value is null.
func empty(id market.ID) *market.Snapshot {
	s := &market.Snapshot{ID: id, AcceptedPrice: market.Null, AcceptedCap: market.Null, AcceptedVolume: market.Null}
	for i := range s.Exp {
		s.Exp[i] = market.NullExp
	}
	return s
}

// blocksBefore yields the newest row of each wanted token in the minutes of
// hours that are not over.
func (t *then) blocksBefore(first, last market.Time, take func(market.ID, market.Time, *record.Row)) error {
	lower, upper := record.BlockKey(first, 0), record.BlockKey(last, record.Groups)
	return t.backwards(lower, upper, func(key, value []byte) error {
		minute, _ := record.KeyTime(key)
		if t.id != 0 && key[len(key)-1] != record.Group(t.id) {
			return nil
		}
		payload, err := record.Open(key, value)
		if err == nil {
			err = record.PickBlock(payload, t.wants, func(id market.ID, row record.Row) { take(id, minute, &row) })
		}
		if err == nil && t.complete() {
			return errStop
		}
		return corrupt(err)
	})
}

// backwards calls fn for every key from before end down to start.
func (t *then) backwards(start, end []byte, fn func(key, value []byte) error) (err error) {
	it, err := t.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return fmt.Errorf("cannot read store: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for n, ok := 0, it.Last(); ok; n, ok = n+1, it.Prev() {
		if n%16 == 0 {
			if err := t.ctx.Err(); err != nil {
				return err
			}
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("cannot read key %x: %w", it.Key(), storeError(err))
		}
		switch err := fn(it.Key(), value); {
		case errors.Is(err, errStop):
			return nil
		case err != nil:
			return err
		}
	}
	return storeError(it.Error())
}
