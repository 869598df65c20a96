package socketio

import (
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// want is one subscription of a socket: to one token, to a list, or to the market.
type want struct {
	kind kind
	sub  uint64      // its number in the session
	ids  []market.ID // ascending; nil for whole
	is   options
	told wire.Subscription
}

// options are what the second argument of subscribe_token says. They are compared.
type options struct {
	format wire.Format
	rate   wire.Rate
}

// room is what a socket is subscribed to. The calls of its methods come one at a time.
type room struct {
	session *fanout.Session
	find    finder
	wants   []want
}

// subscribe performs subscribe_token.
func (r *room) subscribe(e *event) {
	a := reply{event: e, done: "subscribed"}
	sel, is, err := r.asked(e)
	if err != nil {
		r.session.Offend(err, a.append)
		return
	}
	a.whole, a.unknown, a.asked = sel.kind == whole, sel.unknown, sel.ids
	if sel.kind != whole && len(sel.ids) == 0 {
		r.session.Offend(fault(wire.UnknownToken, "none of the asked tokens exists"), a.append)
		return
	}
	switch i := r.place(&sel, is); {
	case i < 0:
		r.begin(&sel, is, &a)
	case r.wants[i].is == is && r.wants[i].has(sel.ids):
		a.told = &r.wants[i].told
		a.ids = sel.ids
		r.session.Heard(a.append)
	default:
		r.change(&r.wants[i], &sel, is, &a)
	}
}

// asked reads the arguments of a subscribe_token.
func (r *room) asked(e *event) (sel selection, is options, err *wire.RequestError) {
	tokens, raw, err := arguments(e.args)
	if err == nil {
		sel, err = parseSelection(tokens, r.find)
	}
	var q wire.Request
	if err == nil {
		err = wire.DecodeOptions(raw, &q)
	}
	return sel, options{q.Format, q.Rate}, err
}

// place returns which subscription a selection belongs to, or -1.
func (r *room) place(sel *selection, is options) int {
	return slices.IndexFunc(r.wants, func(w want) bool {
		switch {
		case w.kind != sel.kind:
			return false
		case sel.kind == one:
			return w.ids[0] == sel.ids[0]
		}
		return sel.kind == whole || w.is == is
	})
}

// has reports whether all these tokens are subscribed to already.
func (w *want) has(ids []market.ID) bool {
	if w.kind != many {
		return true
	}
	return !slices.ContainsFunc(ids, func(id market.ID) bool { return !contains(w.ids, id) })
}

func contains(sorted []market.ID, id market.ID) bool {
	_, ok := slices.BinarySearch(sorted, id)
	return ok
}

func (r *room) begin(sel *selection, is options, a *reply) {
	q := wire.Request{
		Op: wire.OpSubscribe, All: sel.kind == whole, Tokens: sel.ids, Single: sel.kind == one, Format: is.format, Rate: is.rate,
	}
	r.session.Call(&q, func(dst []byte, o *fanout.Outcome) []byte {
		if o.Err == nil {
			w := want{kind: sel.kind, is: is}
			w.take(o)
			r.wants = append(r.wants, w)
		}
		return a.append(dst, o)
	})
}

// change gives a subscription other options, or a list more tokens.
func (r *room) change(w *want, sel *selection, is options, a *reply) {
	u := wire.Update{}
	if w.is != is {
		f := &is.format
		u.Rate, u.Fields, u.Digits, u.Numbers = &is.rate, &f.Fields, &f.Digits, &f.Numbers
		if f.Named {
			u.View = &f.View
		}
	}
	if w.kind == many {
		u.Tokens = union(w.ids, sel.ids)
	}
	r.session.Call(&wire.Request{Op: wire.OpUpdate, Sub: w.sub, Update: u}, func(dst []byte, o *fanout.Outcome) []byte {
		if o.Err == nil {
			w.is = is
			w.take(o)
		}
		return a.append(dst, o)
	})
}

// take keeps what an outcome tells, whose lists are only lent.
func (w *want) take(o *fanout.Outcome) {
	w.sub, w.ids, w.told = o.Subscription.Sub, slices.Clone(o.Taken), o.Subscription
}

// unsubscribe performs unsubscribe_token.
func (r *room) unsubscribe(e *event) {
	a := reply{event: e, done: "unsubscribed"}
	if len(e.args) != 1 {
		r.session.Offend(fault(wire.BadValue, `say which tokens, and nothing else: an id, a symbol, a list of them, or "*"`), a.append)
		return
	}
	sel, err := parseSelection(e.args[0], r.find)
	if err != nil {
		r.session.Offend(err, a.append)
		return
	}
	a.whole, a.unknown = sel.kind == whole, sel.unknown
	for _, id := range sel.ids {
		if r.wanted(id) {
			a.ids = append(a.ids, id)
		} else {
			a.strange = append(a.strange, id)
		}
	}
	r.leave(&sel, &a)
}

// wanted reports whether a token is subscribed to by itself or in a list.
func (r *room) wanted(id market.ID) bool {
	return slices.ContainsFunc(r.wants, func(w want) bool { return w.kind != whole && contains(w.ids, id) })
}

// leave ends the subscriptions of which nothing is left, and shortens lists.
func (r *room) leave(sel *selection, a *reply) {
	var all []wire.Request
	var shorter, over []uint64 // subscriptions
	for i := range r.wants {
		w := &r.wants[i]
		rest := subtract(w.ids, sel.ids)
		switch {
		case sel.kind == whole, w.kind != whole && len(rest) == 0:
			over = append(over, w.sub)
		case len(rest) < len(w.ids):
			all = append(all, wire.Request{Op: wire.OpUpdate, Sub: w.sub, Update: wire.Update{Tokens: rest}})
			shorter = append(shorter, w.sub)
		}
	}
	if over != nil {
		all = append(all, wire.Request{Op: wire.OpUnsubscribe, Subs: over})
	}
	if all == nil {
		r.session.Heard(a.append)
		return
	}
	r.session.CallAll(all, func(dst []byte, done []fanout.Outcome) []byte {
		for i := range done {
			r.left(&done[i], shorter, i)
		}
		return a.append(dst, &done[len(done)-1])
	})
}

// left takes from an outcome of leave what is still wanted: the first ones are of
// lists that are shorter now.
func (r *room) left(o *fanout.Outcome, shorter []uint64, i int) {
	switch {
	case o.Err != nil:
	case i < len(shorter):
		j := slices.IndexFunc(r.wants, func(w want) bool { return w.sub == shorter[i] })
		r.wants[j].take(o)
	default:
		r.wants = slices.DeleteFunc(r.wants, func(w want) bool { return slices.Contains(o.Ended, w.sub) })
	}
}

// restore fills the room with what a memory was recalled to. What could not be
// subscribed again is told.
func (r *room) restore(m *fanout.Memory, all []fanout.Outcome) (lost []*fanout.Outcome) {
	for i := range all {
		o, it := &all[i], &m.Items[i]
		if o.Err != nil {
			lost = append(lost, o)
			continue
		}
		w := want{kind: many, is: options{it.Format, it.Rate}}
		switch {
		case it.Single:
			w.kind = one
		case it.All:
			w.kind = whole
		}
		w.take(o)
		r.wants = append(r.wants, w)
	}
	return lost
}

// union returns the ids of both, ascending; subtract those of the first alone.
func union(a, b []market.ID) []market.ID {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func subtract(a, b []market.ID) (rest []market.ID) {
	for _, id := range a {
		if !contains(b, id) {
			rest = append(rest, id)
		}
	}
	return rest
}
