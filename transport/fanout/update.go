package fanout

import (
	"time"

	"github.com/velocimeter/velocimeter/transport/wire"
)

// update changes what a subscription asks for. Its rows come on another channel
// then: where only the rate changed they go on from where they are, else they
// begin anew.
func (s *Session) update(r *wire.Request, now time.Time) *wire.RequestError {
	done, err := s.change(r, now)
	if err == nil {
		s.acknowledge(r, &done)
	}
	return err
}

func (s *Session) change(r *wire.Request, now time.Time) (done joined, err *wire.RequestError) {
	sub, err := s.subOf(r.Sub)
	if err != nil {
		return done, err
	}
	u, c := &r.Update, sub.member.ch
	if err := sound(&c.key, u); err != nil {
		return done, err
	}
	next, res := *sub, resolved{sel: c.sel}
	if u.Tokens != nil || u.Symbols != nil {
		asked := wire.Request{Tokens: u.Tokens, Symbols: u.Symbols, Single: c.style == wire.StyleToken}
		if res, err = s.resolve(&asked, sub.tokens, false); err != nil {
			return done, err
		}
		next.tokens = res.listed()
	}
	f := c.page.form
	f.format = u.Format(f.format, c.ranks())
	if u.Rate != nil {
		next.rate, next.auto = *u.Rate, *u.Rate == wire.RateAuto
		f.rate = next.rate
	}
	if next.auto {
		f.rate = s.autoRate(res.sel, f.rate)
	}
	if u.Deadband != nil {
		f.deadband = *u.Deadband
	}
	k := keyOf(f, c.key.framing, res.sel)
	k.every, k.top = c.key.every, c.key.top
	recovered, from, err := s.move(sub, k, res.sel, now)
	if err != nil {
		return done, err
	}
	s.tokens += next.tokens - sub.tokens
	sub.tokens, sub.auto, sub.rate = next.tokens, next.auto, next.rate
	return joined{sub: *sub, res: res, recovered: recovered, from: from}, nil
}

// sound refuses what contradicts the subscription, as subscribe does.
func sound(k *key, u *wire.Update) *wire.RequestError {
	banded := u.Deadband != nil && *u.Deadband > 0
	lists := u.Tokens != nil || u.Symbols != nil
	switch {
	case k.every && (banded || u.Rate != nil && *u.Rate != wire.RateTick):
		return &wire.RequestError{Code: wire.BadValue, Text: "mode every has neither rate nor deadband_bps"}
	case k.top.N > 0 && banded:
		return &wire.RequestError{Code: wire.BadValue, Text: "a ranked subscription has no deadband_bps"}
	case lists && (k.top.N > 0 || k.all):
		return &wire.RequestError{Code: wire.BadValue, Text: "only a subscription to listed tokens can list others; subscribe anew"}
	}
	return nil
}

// ranks returns what a ranked channel is ranked by, nil for others.
func (c *channel) ranks() *wire.Top {
	if c.top == nil {
		return nil
	}
	top := c.top.Top
	return &top
}

// move takes a subscription to another channel. recovered says that its rows
// carry over, from which channel (0 where the client has the new one already),
// and that what is newer follows; else a snapshot does.
func (s *Session) move(sub *subscription, k key, sel *selection, now time.Time) (recovered bool, from uint64, err *wire.RequestError) {
	old := sub.member
	if old.ch.key == k {
		return true, 0, nil
	}
	m, isNew, err := s.memberFor(k, sel, now)
	if err != nil {
		return false, 0, err
	}
	if !isNew {
		m.subs++
		s.unuse(old)
		sub.member = m
		return true, 0, nil
	}
	same := k
	same.rate = old.ch.key.rate
	if same == old.ch.key && !old.busy() && !old.loose && old.pos > 0 && k.deadband == 0 && k.top.N == 0 {
		m.resume(max(old.pos, old.through))
		m.pos, m.beat, m.fresh, from, recovered = old.pos, old.beat, old.fresh, old.ch.no, true
		m.trail = old.trail.copy(now)
	} else {
		m.restart(s, now)
	}
	m.subs++
	s.unuse(old)
	sub.member = m
	return recovered, from, nil
}
