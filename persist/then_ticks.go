package persist

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/quality"
	"github.com/velocimeter/velocimeter/persist/record"
)

// clocked is a clock-driven row: what time alone did to a token.
type clocked struct {
	env  market.Env
	mask market.Mask
}

// ticksBefore folds the ticks with oldest ≤ at ≤ the instant, newest first, until
// nothing more is to be learnt. It returns the newest tick's instant and seq, 0
// where there is none.
func (t *then) ticksBefore(oldest market.Time) (asOf market.Time, seq uint64, err error) {
	end, err := t.seqAfter()
	if err != nil {
		return 0, 0, err
	}
	err = t.backwards(record.JournalKey(0), record.JournalKey(end), func(key, value []byte) error {
		payload, err := record.Open(key, value)
		var head *record.Head
		if err == nil {
			head, err = record.ReadHead(payload)
		}
		switch {
		case err != nil:
			if seq, _ := record.JournalSeq(key); inRanges(t.cutOff, seq) {
				return nil
			}
			return corrupt(err)
		case head.At > t.at:
			return nil
		case head.At < oldest:
			return errStop
		}
		if asOf == 0 {
			asOf, seq = head.At, head.Tick.Env.Seq
			t.unborn(seq)
		}
		if err := t.fold(head); err != nil {
			return err
		}
		if t.settled() {
			return errStop
		}
		return nil
	})
	t.unfold()
	return asOf, seq, err
}

// settled reports whether all that can be found was found, each whole.
func (t *then) settled() bool {
	return t.complete() && (t.id == 0 || !t.wants(t.id))
}

// unborn strikes off the tokens that came after a tick.
func (t *then) unborn(seq uint64) {
	for id, first := range t.missing {
		if first >= seq {
			delete(t.missing, id)
		}
	}
}

// seqAfter returns a seq that only ticks after the instant have, not much above
// those before it.
func (t *then) seqAfter() (seq uint64, err error) {
	seq = t.durable.seq + 1
	start, end := record.TimeKey(record.KindMinute, t.at+1), record.TimeKey(record.KindMinute, maxTime)
	err = scan(t.db, start, end, func(key, value []byte) error {
		_, first, _, err := minuteSeqs(key, value)
		if err != nil {
			return err
		}
		seq = min(seq, first)
		return errStop
	})
	return seq, err
}

// fold takes a tick in that is older than those before it.
func (t *then) fold(head *record.Head) error {
	env := &head.Tick.Env
	for _, id := range head.Tick.Removed {
		if t.id != 0 && id != t.id {
			continue
		}
		// What came before was another life.
		if f := t.tokens[id]; f != nil && f.snap != nil {
			f.lacks = 0
		} else {
			t.tokens[id] = &folded{}
		}
		delete(t.missing, id)
	}
	return corrupt(head.Pick(t.wants, func(row *market.JournalRow, sample *record.Sample) {
		f := t.tokens[row.ID]
		if f == nil {
			f = &folded{}
			t.tokens[row.ID] = f
		}
		switch {
		case row.Quote == nil && f.snap == nil:
			f.clocks = append(f.clocks, clocked{*env, row.Mask})
			return
		case row.Quote == nil:
			return
		case f.snap == nil:
			f.begin(t, row.Quote, sample, env)
		}
		f.fill(row.Quote)
		if row.Mask == market.AllFields { // the first quote of its life
			f.lacks = 0
		}
		if f.lacks == 0 {
			delete(t.missing, row.ID)
		}
	}))
}

// unfold ends the walk: what was not found of a token is null, and a token of
// which only time was heard is left to coarser rows.
func (t *then) unfold() {
	for id, f := range t.tokens {
		if f.snap == nil && len(f.clocks) > 0 {
			delete(t.tokens, id)
			continue
		}
		if f.lacks = 0; f.snap != nil {
			delete(t.missing, id)
			f.method()
			f.quote, f.clocks = nil, nil
		}
	}
}

// carried are the members that a quote without them leaves as they were; what
// was shown of price, cap and volume is in every row.
const carried = 1<<(market.FieldPercentChange1h-1) | 1<<(market.FieldPercentChange24h-1) | 1<<(market.FieldPercentChange7d-1) |
	1<<(market.FieldCirculatingSupply-1) | 1<<(market.FieldTotalSupply-1) | 1<<(market.FieldMaxSupply-1) |
	1<<(market.FieldFullyDilutedMarketCap-1) | 1<<(market.FieldRank-1)

// begin makes the snapshot of a token from its newest quote.
func (f *folded) begin(t *then, q *market.Quote, shown *record.Sample, env *market.Env) {
	s := empty(q.ID)
	f.snap, f.quote, f.lacks = s, q, carried
	s.Info, s.ReceivedAt, s.Seq = q.Info, env.ReceivedAt, env.Seq
	at := q.SourceTime
	if at <= 0 || at.Sub(env.Now) > t.rules.FutureLimit {
		at = env.ReceivedAt
	}
	s.Put(market.FieldPrice, shown.Price)
	s.Put(market.FieldMarketCap, shown.Cap)
	s.Put(market.FieldVolume24h, shown.Volume)
	s.Put(market.FieldVelocity, shown.Velocity)
	s.Put(market.FieldSourceTime, market.Decimal{Mant: int64(at)})
	s.Put(market.FieldSource, market.Decimal{Mant: int64(env.Source)})
	s.Put(market.FieldAgreeingSources, market.Decimal{Mant: 1})
	s.Put(market.FieldDominance, dominance(q, shown.Cap, env.TotalCap))
	class, flags := t.since(f, at, env, shown.Flags)
	s.Put(market.FieldFreshness, market.Decimal{Mant: int64(class)})
	s.Put(market.FieldFlags, market.Decimal{Mant: int64(flags)})
}

// since returns what time has made of freshness and flags since a quote. A row
// of time says that flags changed, not which: stale follows from the class, so
// any other change is of frozen.
func (t *then) since(f *folded, at market.Time, quoted *market.Env, flags market.Flags) (market.Freshness, market.Flags) {
	classAt := func(env *market.Env) market.Freshness {
		from := max(at, env.Confirmed.Add(-max(quoted.ReceivedAt.Sub(at), 0)))
		return t.rules.Freshness(env.Now.Sub(from), env.Cadence)
	}
	class := classAt(quoted)
	for i := len(f.clocks) - 1; i >= 0; i-- {
		c := &f.clocks[i]
		next := classAt(&c.env)
		switch {
		case (next == market.Stale) != (class == market.Stale):
			flags ^= market.FlagStale
		case c.mask.Has(market.FieldFlags):
			flags ^= market.FlagFrozen
		}
		class = next
	}
	return class, flags
}

// dominance is the provider's own, else the share of the market's total cap.
func dominance(q *market.Quote, shown market.Decimal, total int64) market.Decimal {
	if own := q.Dominance; q.Has.Has(market.FieldDominance) && !own.IsNull() && own.Mant >= 0 {
		return quality.Percent(own)
	}
	if total <= 0 {
		return market.Null
	}
	return market.Fixed(100*shown.Float()/float64(total), -4)
}

// fill takes the members that newer quotes did not have.
func (f *folded) fill(q *market.Quote) {
	take := func(field market.Field, d market.Decimal) {
		if f.lacks.Has(field) && q.Has.Has(field) {
			f.snap.Put(field, d)
			f.lacks &^= field.Bit()
		}
	}
	amount := func(field market.Field, d market.Decimal) {
		if d.Mant < 0 {
			d = market.Null
		}
		take(field, d)
	}
	take(market.FieldPercentChange1h, quality.Percent(q.PercentChange1h))
	take(market.FieldPercentChange24h, quality.Percent(q.PercentChange24h))
	take(market.FieldPercentChange7d, quality.Percent(q.PercentChange7d))
	amount(market.FieldCirculatingSupply, q.CirculatingSupply)
	amount(market.FieldTotalSupply, q.TotalSupply)
	amount(market.FieldMaxSupply, q.MaxSupply)
	amount(market.FieldFullyDilutedMarketCap, q.FullyDiluted)
	rank := market.Null
	if q.Rank != 0 {
		rank = market.Decimal{Mant: int64(q.Rank)} // as an integer, not normalised
	}
	take(market.FieldRank, rank)
}

// method says how the velocity came about, or why there is none: by the rules
// of engine/token, from what was shown.
func (f *folded) method() {
	s, q := f.snap, f.quote
	negative := func(field market.Field, d market.Decimal) bool { return q.Has.Has(field) && d.Mant < 0 }
	method, reason := market.MethodNone, market.ReasonNone
	switch {
	case s.Value(market.FieldMarketCap).Positive():
		method = market.MethodReportedCap
	case s.Value(market.FieldPrice).Positive() && s.Value(market.FieldCirculatingSupply).Positive():
		method = market.MethodComputedCap
	case q.SelfReportedCap.Positive():
		method = market.MethodSelfReportedCap
	}
	if s.Value(market.FieldVelocity).IsNull() {
		refused := negative(market.FieldPrice, q.Price) || negative(market.FieldMarketCap, q.MarketCap) || negative(market.FieldCirculatingSupply, q.CirculatingSupply)
		switch noVolume := s.Value(market.FieldVolume24h).IsNull(); {
		case noVolume && !negative(market.FieldVolume24h, q.Volume24h):
			reason = market.ReasonNoVolume
		case !noVolume && method == market.MethodNone && !refused:
			reason = market.ReasonNoCap
		default:
			reason = market.ReasonRejected
		}
		method = market.MethodNone
	}
	s.Put(market.FieldVelocityMethod, market.Decimal{Mant: int64(method)})
	s.Put(market.FieldVelocityReason, market.Decimal{Mant: int64(reason)})
}
