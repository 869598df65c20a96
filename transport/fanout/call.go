package fanout

import (
	"slices"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Outcome is what became of a request that did not come as text. Its lists are
// the hub's: they may be read during the call that has them, and not changed.
type Outcome struct {
	Err     *wire.RequestError // nil: it was done
	RetryMS int64              // of an error: after how long the same may succeed; 0 where waiting changes nothing

	// Subscription and what follows tell of a subscribe or an update.
	Subscription   wire.Subscription
	Taken          []market.ID // the listed tokens, ascending; at most those asked for, nil for all tokens and rankings
	UnknownIDs     []market.ID
	UnknownSymbols []string
	Ambiguous      []wire.Ambiguous

	Ended []uint64 // of an unsubscribe: the numbers
}

// Call performs a subscribe, an update or an unsubscribe; it counts as a message
// of the client. Answer, which may be nil, is told what became of it and appends
// frames, or nothing; they go out ahead of all data that comes of the request. It
// is called with the session's lock held, before Call returns, and not at all
// where the connection ends: too many errors and messages end it as they do when
// they come as text.
func (s *Session) Call(r *wire.Request, answer func(dst []byte, o *Outcome) []byte) {
	s.called(answer, func(o *Outcome, now time.Time) {
		s.see()
		o.Err = s.fulfil(r, o, now)
	})
}

// CallAll is a Call of several requests that counts as one message. They are performed
// in their order up to the first that fails, and answer gets what became of those.
func (s *Session) CallAll(rs []wire.Request, answer func(dst []byte, all []Outcome) []byte) {
	var all []Outcome
	told := func(dst []byte, o *Outcome) []byte {
		if n := len(all); o.Err != nil && n > 0 {
			all[n-1] = *o
		} else if n == 0 {
			all = []Outcome{*o}
		}
		return answer(dst, all)
	}
	s.called(told, func(o *Outcome, now time.Time) {
		s.see()
		for i := range rs {
			all = append(all, Outcome{})
			if o.Err = s.fulfil(&rs[i], &all[i], now); o.Err != nil {
				return
			}
		}
	})
}

// Offend is a Call of a message that means no request: err says what is wrong.
func (s *Session) Offend(err *wire.RequestError, answer func(dst []byte, o *Outcome) []byte) {
	s.called(answer, func(o *Outcome, _ time.Time) { o.Err = err })
}

// Heard is a Call of a message that asks for what is so already.
func (s *Session) Heard(answer func(dst []byte, o *Outcome) []byte) {
	s.called(answer, func(*Outcome, time.Time) {})
}

// Send puts a frame of the layer above on the control queue. A client that lets
// them pile up is closed.
func (s *Session) Send(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending != 0 {
		return
	}
	s.queue(func(dst []byte) []byte { return append(dst, frame...) })
	s.flush(time.Now())
}

func (s *Session) called(answer func(dst []byte, o *Outcome) []byte, do func(o *Outcome, now time.Time)) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ending != 0 {
		return
	}
	s.hub.stats.received.Add(1)
	var o Outcome
	switch wait, verdict := s.gate.message(now); verdict {
	case shut:
		s.close(wire.CloseRate)
		return
	case refuse:
		s.hub.stats.errors.Add(1)
		o.Err, o.RetryMS = tooFast(), wait.Milliseconds()+1
	default:
		if do(&o, now); o.Err != nil {
			o.RetryMS = s.blame(o.Err, now)
		}
	}
	if answer != nil {
		s.queue(func(dst []byte) []byte { return answer(dst, &o) })
	}
	s.flush(now)
}

func (s *Session) fulfil(r *wire.Request, o *Outcome, now time.Time) *wire.RequestError {
	var done joined
	var err *wire.RequestError
	switch r.Op {
	case wire.OpSubscribe:
		done, err = s.join(r, now, nil)
	case wire.OpUpdate:
		done, err = s.change(r, now)
	case wire.OpUnsubscribe:
		if o.Ended = r.Subs; o.Ended == nil {
			o.Ended = []uint64{r.Sub}
		}
		return s.quit(o.Ended)
	default:
		return &wire.RequestError{Code: wire.NotSupported, Text: "served: subscribe, update, unsubscribe"}
	}
	if err == nil {
		s.tell(&done, o)
	}
	return err
}

// tell fills in the outcome of a subscription.
func (s *Session) tell(done *joined, o *Outcome) {
	o.Subscription = s.told(&done.sub)
	o.Subscription.Recovered, o.Subscription.From = done.recovered, done.from
	if res := &done.res; res.sel != nil {
		o.Taken, o.UnknownIDs, o.UnknownSymbols, o.Ambiguous = res.sel.ids, res.unknownIDs, res.unknownSymbols, res.ambiguous
	}
}

// quit ends subscriptions: all of them, or none where one does not exist.
func (s *Session) quit(numbers []uint64) *wire.RequestError {
	for _, no := range numbers {
		if _, err := s.subOf(no); err != nil {
			return err
		}
	}
	for _, no := range numbers {
		sub, err := s.subOf(no)
		if err != nil {
			continue // named twice
		}
		m := sub.member
		s.tokens -= sub.tokens
		s.subs = slices.DeleteFunc(s.subs, func(x subscription) bool { return x.no == no })
		s.hub.stats.subscriptions.Add(-1)
		s.unuse(m)
	}
	return nil
}
