package token

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/window"
)

// draft is a snapshot in the making.
type draft struct {
	q    *market.Quote
	env  *market.Env
	snap *market.Snapshot
	mask market.Mask

	time     market.Time
	negative market.Mask   // members of the quote that were below zero
	velocity turnover      // of what is shown now
	trends   window.Trends // as of the newest sample that entered the window
}

// put stores a field and notes whether that changed it.
func (d *draft) put(f market.Field, v market.Decimal) {
	if d.snap.Put(f, v) {
		d.mask |= f.Bit()
	}
}

// putInt stores an enum, flags, count or time.
func (d *draft) putInt(f market.Field, v int64) { d.put(f, market.Decimal{Mant: v}) }

// Step takes one quote and returns the current snapshot and the fields that it
// changed: AllFields for the first quote, 0 for one that changed nothing.
func (t *Token) Step(q *market.Quote, env *market.Env) (*market.Snapshot, market.Mask) {
	t.Seen(env)
	at := t.TimeOf(q, env)
	if at != q.SourceTime {
		t.counts.Future++
	}
	if t.snap != nil && at <= t.time {
		if at < t.time {
			t.counts.Late++
			return t.snap, 0
		}
		if t.repeats(q, env) {
			t.counts.Duplicate++
			return t.snap, 0
		}
		t.counts.Corrected++
		t.takeBack()
	}
	d := draft{q: q, env: env, time: at}
	t.begin(&d)
	d.readInputs()
	d.readVelocity()
	flags, grew := t.judge(&d)
	if grew {
		t.derive(&d)
	}
	t.finish(&d, flags)
	return t.publish(&d)
}

// TimeOf returns the instant of a quote's values: the provider's, or of the
// answer where that is none or too far ahead.
func (t *Token) TimeOf(q *market.Quote, env *market.Env) market.Time {
	if at := q.SourceTime; at > 0 && at.Sub(env.Now) <= t.cfg.FutureLimit {
		return at
	}
	return env.ReceivedAt
}

// begin makes the next snapshot: a copy of the last one, or one where every
// value is null.
func (t *Token) begin(d *draft) {
	s := t.pool.next()
	d.snap = s
	if t.snap != nil {
		*s = *t.snap
		return
	}
	s.ID, s.Info = t.id, noInfo
	for i := range s.Exp {
		s.Exp[i] = market.NullExp
	}
	for f := market.Field(1); f <= market.NumNumeric; f++ {
		switch f.Spec().Kind {
		case market.KindEnum, market.KindFlags:
			s.Exp[f-1] = 0
		default:
		}
	}
	s.AcceptedPrice, s.AcceptedCap, s.AcceptedVolume = market.Null, market.Null, market.Null
}

var noInfo = new(market.Info)

// publish makes the draft the current snapshot, unless it says the same: a
// correction of what is not shown.
func (t *Token) publish(d *draft) (*market.Snapshot, market.Mask) {
	t.cadence, t.confirmed = d.env.Cadence, d.env.Confirmed
	switch {
	case t.snap == nil:
		d.mask = market.AllFields
	case d.mask == 0:
		return t.snap, 0
	}
	s := d.snap
	s.Seq = d.env.Seq
	s.ReceivedAt = d.env.ReceivedAt
	s.Samples = uint32(t.win.Count())
	s.Stamp(d.mask)
	t.snap, t.time = s, d.time
	return s, d.mask
}
