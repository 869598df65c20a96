package fanout

import (
	"slices"
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// othersMost bounds the tokens that an ambiguous symbol lists beside the taken one.
const othersMost = 16

// subscription is what one subscribe made.
type subscription struct {
	no     uint64
	member *member
	tokens int  // listed ones
	auto   bool // the server chooses the rate
	rate   wire.Rate
}

// resolved is a selection against the board, and what was left over.
type resolved struct {
	sel            *selection // nil: ranked
	unknownIDs     []market.ID
	unknownSymbols []string
	ambiguous      []wire.Ambiguous
}

// listed returns how many tokens the client has named.
func (r *resolved) listed() int {
	if r.sel == nil {
		return 0
	}
	return len(r.sel.ids)
}

// joined is what a subscribe or an update came to.
type joined struct {
	sub       subscription
	res       resolved
	recovered bool   // the client's rows hold
	from      uint64 // the channel that they come from; 0 tells nothing
}

func (s *Session) subscribe(r *wire.Request, now time.Time) *wire.RequestError {
	done, err := s.join(r, now, nil)
	if err == nil {
		s.acknowledge(r, &done)
	}
	return err
}

// join makes the subscription that a request asks for. Known are members that
// have begun just now, and whether they went on from the client's position. One
// that is subscribed to again goes on from the lowest, or not at all.
func (s *Session) join(r *wire.Request, now time.Time, known map[*member]bool) (done joined, err *wire.RequestError) {
	cfg := &s.hub.cfg
	if len(s.subs) >= cfg.Subscriptions {
		return done, limitError("subscriptions", cfg.Subscriptions)
	}
	res, err := s.resolve(r, 0, known != nil)
	if err != nil {
		return done, err
	}
	sub := subscription{no: s.nextSub + 1, tokens: res.listed(), auto: r.Rate == wire.RateAuto, rate: r.Rate}
	k := s.keyFor(r, &res, &sub)
	m, isNew, err := s.memberFor(k, res.sel, now)
	if err != nil {
		return done, err
	}
	recovered, begun := known[m]
	if !begun || recovered && (r.Since == nil || r.Since.Seq < m.pos) {
		if begun { // nothing of it was sent yet
			m.job, m.pos, m.through = job{}, 0, 0
		}
		if recovered = r.Since != nil && (isNew || begun) && s.recover(m, r.Since); !recovered {
			m.restart(s, now)
		}
	}
	m.subs++
	sub.member = m
	s.nextSub++
	s.tokens += sub.tokens
	s.subs = append(s.subs, sub)
	s.hub.stats.subscriptions.Add(1)
	return joined{sub: sub, res: res, recovered: recovered}, nil
}

// keyFor returns the key of what a request asks for.
func (s *Session) keyFor(r *wire.Request, res *resolved, sub *subscription) key {
	f := form{format: r.Format, rate: r.Rate, deadband: r.Deadband}
	if sub.auto {
		f.rate = s.autoRate(res.sel, wire.RateAuto)
	}
	if r.Top != nil {
		f.format.Fields |= r.Top.By.Bit()
	}
	fr := s.peer.Framing
	if styled, ok := fr.(Styled); ok && r.Single {
		fr = styled.Single()
	}
	k := keyOf(f, fr, res.sel)
	k.every = r.Every
	if r.Top != nil {
		k.top = *r.Top
	}
	return k
}

// memberFor returns the session's member of a key's channel, joining it where
// there is none yet.
func (s *Session) memberFor(k key, sel *selection, now time.Time) (m *member, isNew bool, err *wire.RequestError) {
	if m = s.memberOf(k); m != nil {
		return m, false, nil
	}
	heavy, forms := s.holds(k.form)
	switch cfg := &s.hub.cfg; {
	case k.heavy() && heavy >= cfg.Heavy:
		return nil, false, limitError("channels with top, deadband_bps or mode every", cfg.Heavy)
	case forms > cfg.Forms:
		return nil, false, limitError("different sets of fields, digits, shapes, rates and deadbands", cfg.Forms)
	}
	c := s.hub.table.join(k, sel, now)
	if c == nil {
		return nil, false, &wire.RequestError{Code: wire.Busy, Text: "the server has no room for another shared channel or row format"}
	}
	s.see() // the channel may begin later than what was seen last
	m = &member{ch: c, page: c.page}
	if !c.chained && c.sel != nil && !c.sel.all {
		m.list = c.sel
	}
	s.members = append(s.members, m)
	return m, true, nil
}

// holds counts the session's channels that cost the server more than copying
// rows, and the forms of all of them together with one more.
func (s *Session) holds(more form) (heavy, forms int) {
	seen := map[form]struct{}{more: {}}
	for _, m := range s.members {
		if m.ch.key.heavy() {
			heavy++
		}
		seen[m.ch.key.form] = struct{}{}
	}
	return heavy, len(seen)
}

// recover lets a client go on from its position where nothing can be missing.
func (s *Session) recover(m *member, since *wire.Position) bool {
	b, c := s.view.board, m.ch
	switch {
	case since.Epoch != b.Epoch, since.Seq > b.Seq, !b.Remembers(since.Seq), c.top != nil, c.page.deadband > 0:
		return false
	case s.hub.cfg.Gone != nil && s.hub.cfg.Gone(since.Seq):
		return false
	case c.key.every && !c.holds(since.Seq):
		return false
	}
	m.resume(since.Seq)
	return true
}

// holds reports whether a channel of mode every can replay all after a position.
func (c *channel) holds(pos uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, lost := c.ring.after(pos)
	return !lost && (pos >= c.born || len(c.ring.list) > 0 && c.ring.list[0].prev <= pos)
}

func (s *Session) acknowledge(r *wire.Request, done *joined) {
	w, res := s.told(&done.sub), &done.res
	w.Recovered, w.From = done.recovered, done.from
	s.answer(wire.KindSubscribed, func(dst []byte) []byte {
		return wire.AppendSubscribed(dst, r, &w, res.unknownIDs, res.unknownSymbols, res.ambiguous)
	})
}

// told is what a client is told about its subscription.
func (s *Session) told(sub *subscription) wire.Subscription {
	c := sub.member.ch
	w := wire.Subscription{
		Sub: sub.no, Channel: c.no, Tokens: sub.tokens, Format: c.page.format, Every: c.key.every, Rate: c.page.rate,
		Auto: sub.auto, Deadband: c.page.deadband, Compression: wire.CompressionNone,
	}
	if c.chained && c.framing.Compresses() && !c.page.binary() {
		w.Compression = wire.CompressionDeflate
	}
	switch {
	case c.top != nil:
		w.Top = c.ranks()
		c.mu.Lock()
		w.Tokens = len(c.top.ids)
		c.mu.Unlock()
	case c.sel.all:
		w.Tokens = s.view.board.Len()
	}
	return w
}

func limitError(what string, most int) *wire.RequestError {
	return &wire.RequestError{Code: wire.Limit, Text: "at most " + strconv.Itoa(most) + " " + what + " on a connection"}
}

// resolve looks the asked tokens up. freed is how many listed tokens the
// subscription gives back. kept says that they all existed a moment ago: those
// that do not any more may return.
func (s *Session) resolve(r *wire.Request, freed int, kept bool) (res resolved, err *wire.RequestError) {
	if r.Single && (r.All || r.Top != nil) {
		return res, notSingle()
	}
	if r.Top != nil {
		return res, nil
	}
	res.sel = new(selection)
	switch {
	case r.All:
		res.sel.all = true
		return res, nil
	case kept:
		res.sel.ids = r.Tokens
	case r.Tokens != nil:
		s.resolveIDs(r, &res)
	default:
		s.resolveSymbols(r.Symbols, &res)
	}
	if len(res.sel.ids) == 0 {
		return res, &wire.RequestError{Code: wire.UnknownToken, Text: "none of the asked tokens exists"}
	}
	if s.tokens-freed+len(res.sel.ids) > s.hub.cfg.Tokens {
		return res, limitError("tokens", s.hub.cfg.Tokens)
	}
	if r.Single && len(res.sel.ids) != 1 {
		return res, notSingle()
	}
	return res, nil
}

func notSingle() *wire.RequestError {
	return &wire.RequestError{Code: wire.BadValue, Text: "this subscription is to one token"}
}

// resolveIDs tells tokens that exist from others. One that was retired not long
// ago is known to a client that comes back: it must be told, and may return.
func (s *Session) resolveIDs(r *wire.Request, res *resolved) {
	b := s.view.board
	back := r.Since != nil && r.Since.Epoch == b.Epoch
	for _, id := range r.Tokens {
		if b.Token(id) != nil || back && s.view.buried(id) {
			res.sel.ids = append(res.sel.ids, id)
		} else {
			res.unknownIDs = append(res.unknownIDs, id)
		}
	}
}

func (s *Session) resolveSymbols(symbols []string, res *resolved) {
	seen := make(map[string]bool, len(symbols))
	for _, sym := range symbols {
		if seen[sym] {
			continue
		}
		seen[sym] = true
		list := s.view.bySymbol(sym)
		if len(list) == 0 {
			res.unknownSymbols = append(res.unknownSymbols, sym)
			continue
		}
		res.sel.ids = append(res.sel.ids, list[0].ID)
		if len(list) > 1 {
			a := wire.Ambiguous{Symbol: sym, Taken: list[0].ID}
			for _, other := range list[1:min(len(list), othersMost+1)] {
				a.Others = append(a.Others, other.ID)
			}
			res.ambiguous = append(res.ambiguous, a)
		}
	}
	slices.Sort(res.sel.ids)
	res.sel.ids = slices.Compact(res.sel.ids)
}

// subOf returns the subscription of a number.
func (s *Session) subOf(no uint64) (*subscription, *wire.RequestError) {
	i := slices.IndexFunc(s.subs, func(sub subscription) bool { return sub.no == no })
	if i < 0 {
		return nil, &wire.RequestError{Code: wire.UnknownSubscription, Text: "this connection has no such subscription"}
	}
	return &s.subs[i], nil
}

func (s *Session) unsubscribe(r *wire.Request) *wire.RequestError {
	err := s.quit([]uint64{r.Sub})
	if err == nil {
		s.answer(wire.KindAnswer, func(dst []byte) []byte { return wire.AppendUnsubscribed(dst, r) })
	}
	return err
}

// unuse takes one subscription off a member, and the last one takes it off its
// channel.
func (s *Session) unuse(m *member) {
	if m.subs--; m.subs > 0 {
		return
	}
	i := slices.Index(s.members, m)
	s.members = slices.Delete(s.members, i, i+1)
	s.turn = 0
	s.hub.table.leave(m.ch)
}

func (s *Session) list(r *wire.Request) {
	items := make([]wire.Subscription, 0, len(s.subs))
	for i := range s.subs {
		items = append(items, s.told(&s.subs[i]))
	}
	s.answer(wire.KindAnswer, func(dst []byte) []byte { return wire.AppendSubscriptions(dst, r, items) })
}
