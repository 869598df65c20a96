package token

import "github.com/velocimeter/velocimeter/engine/market"

// timedFlags are the flags that time alone sets and ends.
const timedFlags = market.FlagStale | market.FlagFrozen

// timed adds the flags of time to those of a quote.
func (t *Token) timed(flags market.Flags, class market.Freshness, env *market.Env) market.Flags {
	if class == market.Stale {
		flags |= market.FlagStale
	}
	if t.still.Frozen(env, t.cfg) {
		flags |= market.FlagFrozen
	}
	return flags
}

// effective returns the time that freshness counts from: the source time, or as
// long before the provider's last confirmation as the source time was before
// its answer. So a confirmation renews what was current, and leaves what the
// provider itself called old as old as it was.
func effective(source, received, confirmed market.Time) market.Time {
	return max(source, confirmed.Add(-max(received.Sub(source), 0)))
}

// Clock does what time alone does to freshness, stale and frozen, and takes note
// of the provider's word. It returns the current snapshot and the fields that
// changed, 0 for none.
func (t *Token) Clock(env *market.Env) (*market.Snapshot, market.Mask) {
	if t.snap == nil {
		return nil, 0
	}
	t.cadence, t.confirmed = env.Cadence, env.Confirmed
	was := t.snap
	class := t.cfg.Freshness(env.Now.Sub(effective(t.time, was.ReceivedAt, env.Confirmed)), env.Cadence)
	flags := t.timed(was.Flags()&^timedFlags, class, env)
	if class == was.Freshness() && flags == was.Flags() {
		return was, 0
	}
	d := draft{env: env, snap: t.pool.next(), time: t.time}
	*d.snap = *was
	d.putInt(market.FieldFreshness, int64(class))
	d.putInt(market.FieldFlags, int64(flags))
	d.snap.Seq = env.Seq
	d.snap.Stamp(d.mask)
	t.snap = d.snap
	return t.snap, d.mask
}

// Deadline returns the instant at which the freshness class changes unless the
// provider says something before; 0 if it cannot.
func (t *Token) Deadline() market.Time {
	if t.snap == nil {
		return 0
	}
	from := effective(t.time, t.snap.ReceivedAt, t.confirmed)
	return t.cfg.NextFreshness(from, t.snap.Freshness(), t.cadence)
}
